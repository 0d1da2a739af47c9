"""What comparing all models on one zoo says, in words and a short table that are computed from the long one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from wflib.evaluation.parts import AS_NOVEL
from wflib.report.audit import leans, needs_zoo
from wflib.report.sources import VARIANCE_RANGE
from wflib.report.tables import fixed, markdown_table
from wflib.report.theme import label

__all__ = ["audit_choices", "audit_in_short", "audit_splits", "audit_zoo"]

HELD_OUT, ANEW = "held-out", "trained-anew"
NO_MODELS = (HELD_OUT, "training")
NETWORKS = 100
"""Networks whose cost is compared: what a table of the literature has."""
ALIKE = 0.02
"""What distances to training networks, relative to held-out networks', differ by between equally novel models."""
NEAR = 0.5
"""Distance to training networks, relative to held-out networks', below which networks known to lean on them are copies."""
PUBLISHED = {
    ("mnist", (32, 32), "adam"): (
        'Published for this zoo (Gupta et al., "DeepWeightFlow", 2026; 100 networks, none held out): an accuracy of '
        "96.32 ± 0.20 % for trained networks and 96.17 ± 0.31 % for samples. Flat flow matching is their recipe here, as "
        "far as its docstring says, and not their code."
    )
}
"""Task, hidden widths and optimizer → what others report."""


def audit_zoo(settings: Mapping[str, Any]) -> str:
    """One sentence on the networks that models learn from, by the settings of a cell."""
    zoo = settings["zoo"]
    if zoo["source"] != "train":
        return f"Networks of {zoo['source']}; a share of {zoo['held_out']:g} of their runs is held out."
    held_out = max(1, round(zoo["networks"] * zoo["held_out"]))
    widths = "-".join(map(str, zoo["widths"]))
    return (
        f"Zoo: {settings['task']}, {zoo['network']} with hidden widths {widths}, {zoo['optimizer']} for {zoo['epochs']} "
        f"epochs; {zoo['networks'] - held_out:,} training runs to learn from, {held_out:,} held out."
    )


def audit_splits(cells: Sequence[Mapping[str, Any]]) -> str:
    """On which splits of the data models are, and which models lack some; nothing where there is one split.

    Args:
        cells: Facts of cells, with ``options`` and ``settings``.
    """
    splits: dict[str, set[int]] = {}
    for one in cells:
        split = one["settings"].get("data", {}).get("split")  # which cells of earlier versions do not say
        splits.setdefault(one["options"]["model"], set()).update({split} - {None})
    every = sorted(set().union(*splits.values()))
    if len(every) < 2:
        return ""
    text = (
        f"{len(every)} splits of the data (data.split {', '.join(map(str, every))}), each with a zoo and fits of its own: "
        "losses of different splits are of different examples."
    )
    fewer = {model: sorted(had) for model, had in splits.items() if len(had) < len(every)}
    lacking = [f"{label(model)} ({', '.join(map(str, had))})" for model, had in fewer.items()]
    return f"{text} Not on all of them, and so not like others: {', '.join(lacking)}." if lacking else text


def audit_choices(settings: Mapping[str, Any]) -> str:
    """One sentence on how models were set where that is not their own default, and on the size of the flow."""
    chosen = [
        f"{name}: {', '.join(f'{key} {value}' for key, value in values.items())}"
        for name, values in settings["models"].items()
        if values
    ]
    velocity, training = settings["velocity"], settings["training"]
    flow = (
        f"flow: {velocity['kind']} of {velocity['dimension']} features, {training['iterations']:,} iterations of "
        f"{training['batch_size']} networks"
    )
    return f"Models have their own default settings but for {'; '.join([*chosen, flow])}."


def leaning(row: pd.Series) -> str:
    """What tests of copies say of a model: copies, drawn towards training networks, or none found."""
    if not math.isfinite(row["rejected_share"]):
        return "–"
    if not leans(row):
        return "none found"
    return "copies" if row["novelty"] < NEAR else "drawn towards training networks"


def is_narrow(row: pd.Series) -> bool:
    """Whether networks vary less than trained ones do, as averages; the average of all is but one network."""
    return bool(row["variance_ratio"] < VARIANCE_RANGE[0] or row["model"] == "average")


def cost(row: pd.Series, zoo_seconds: float) -> float:
    """Seconds for a hundred networks: the zoo where a model learns from it, the fit, the draws."""
    seconds: float = zoo_seconds * needs_zoo(row["model"]) + row["fit_seconds"] + NETWORKS * row["draw_seconds"]
    return seconds


def beaten_by(row: pd.Series, models: pd.DataFrame, zoo_seconds: float) -> pd.Series | None:
    """The best model of those with a lower test loss, no higher cost and no less novelty; training anew is none.

    By test examples, as some models choose their settings by validation examples and would be judged by their own choice.
    """
    ratio = row["copying_ratio"] if math.isfinite(row["copying_ratio"]) else 0.0
    as_free = ~models.apply(leans, axis=1) | (models["copying_ratio"] >= ratio - AS_NOVEL)
    better = models[
        (models["test_nll"] < row["test_nll"])
        & (models.apply(cost, axis=1, zoo_seconds=zoo_seconds) <= cost(row, zoo_seconds))
        & (models["novelty"] >= min(row["novelty"], 1.0) - ALIKE)
        & as_free
        & ~models["model"].isin([row["model"], ANEW])
    ]
    return None if better.empty else better.loc[better["test_nll"].idxmin()]


def percent(row: pd.Series) -> str:
    """Accuracy on all test examples ± deviation between networks, in percent."""
    spread = row["accuracy_std"]
    return fixed(100 * row["accuracy_mean"], 2) + (f" ± {100 * spread:.2f}" if math.isfinite(spread) else "")


def listed(rows: list[pd.Series]) -> str:
    """Names of models."""
    return ", ".join(label(row["model"]) for row in rows) or "none"


def audit_in_short(table: pd.DataFrame, settings: Mapping[str, Any], zoo_seconds: float, training_seconds: float) -> str:
    """Which models copy or average, which are beaten, and what is left: a paragraph and a table for each geometry.

    Args:
        table: From :func:`~wflib.report.audit_table`.
        settings: Of one of the cells.
        zoo_seconds: Seconds to make the networks that models learn from.
        training_seconds: Seconds to train one network anew.
    """
    zoo = settings["zoo"]
    published = PUBLISHED.get((settings["task"], tuple(zoo["widths"]), zoo["optimizer"]), "")
    texts = []
    for _, part in table.groupby("geometry", sort=False):
        models = part[~part["model"].isin(NO_MODELS)]
        losers = {row["model"]: beaten_by(row, models, zoo_seconds) for _, row in models.iterrows()}
        texts += [" ".join(sentences(part, models, losers, published, training_seconds)), short_table(part, losers)]
    return "\n\n".join([*texts, EXPLAINED.format(low=VARIANCE_RANGE[0])])


EXPLAINED = """
Accuracy on all test examples ± deviation between networks. Copies: tests of copies, adjusted for the number of tests, in
most seeds; *copies* lie at less than half of held-out networks' distance from training networks. Narrow: a variance below
{low} of training networks', as averages have. Beaten by: the best of those models with a lower test loss that cost no
more for a hundred networks (training networks and fit counted) and are no less novel.
""".strip()


def sentences(
    part: pd.DataFrame,
    models: pd.DataFrame,
    losers: Mapping[str, pd.Series | None],
    published: str,
    training_seconds: float,
) -> list[str]:
    """Accuracy alone, what is behind it, what is left, and how much the audit would see."""
    ceiling, rows = part[part["model"] == HELD_OUT].iloc[0], [row for _, row in models.iterrows()]
    close = [row for row in rows if row["accuracy_mean"] >= ceiling["accuracy_mean"] - ceiling["accuracy_std"]]
    copying = [row for row in close if leaning(row) not in ("none found", "–")]
    honest = [row for row in rows if leaning(row) == "none found" and not is_narrow(row) and row["model"] != ANEW]
    said = [
        f"Held-out networks have a test accuracy of {percent(ceiling)} %.",
        f"No further below than one such deviation: {listed(close)}; of these copy training networks or are drawn towards "
        f"them: {listed(copying)}.",
    ]
    if published:
        said.append(f"{published} {copies_as_good(rows)}")
    unbeaten = [row for row in honest if losers[row["model"]] is None]
    said.append(
        f"Neither drawn towards training networks nor narrower than they are: {listed(honest)}; of these not beaten by a "
        f"model as novel that costs no more: {listed(unbeaten)}."
    )
    detectable = models["detectable_copies"].dropna()
    if len(detectable):
        said.append(f"Verbatim copies of {100 * detectable.max():.0f} % of the draws or more would be found with 95 %.")
    said.append(f"Training one network anew took {1000 * training_seconds:.0f} ms.")
    return said


def copies_as_good(rows: list[pd.Series]) -> str:
    """What the accuracy of copies says of accuracies reported without held-out networks."""
    copies = [row for row in rows if leaning(row) == "copies"]
    if not copies:
        return "No model here copies, so that nothing can be said of what copies would reach."
    best = max(copies, key=lambda row: row["accuracy_mean"])
    return f"Copies reach {percent(best)} % here ({label(best['model'])}): such an accuracy cannot tell a model from copies."


def short_table(part: pd.DataFrame, losers: Mapping[str, pd.Series | None]) -> str:
    """One row a model: accuracy, copies, spread, what beats it."""
    head = ["Model", "Seeds", "Test accuracy [%]", "Test NLL", "Copies", "Narrow", "AUC", "Beaten by"]
    rows = []
    for _, row in part.sort_values("test_nll").iterrows():
        better = losers.get(row["model"])
        cells = [f"{row['seeds']}", percent(row), f"{row['test_nll']:.4f}", leaning(row)]
        cells += ["yes" if is_narrow(row) else "no", fixed(row["classifier_auc"], 2)]
        by = "–" if better is None else f"{label(better['model'])} ({better['test_nll']:.4f})"
        if row["model"] in NO_MODELS:
            cells[3:5] = ["–", "–"] if row["model"] == HELD_OUT else [cells[3], "–"]
        rows.append([label(row["model"]), *cells, by])
    return markdown_table(head, rows, right=(1, 2, 3, 6))
