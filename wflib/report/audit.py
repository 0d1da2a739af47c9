"""The page that compares all generative models of networks: quality, novelty, cost, and what tests say of each."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wflib.evaluation import COPYING_TESTS
from wflib.models import METHODS
from wflib.report.labels import place_labels
from wflib.report.tables import duration, fixed, markdown_table
from wflib.report.theme import INK, colour, label, log_scale, svg_bytes, theme

__all__ = ["HELD_OUT", "NOVEL", "TRAINING", "audit_figure", "audit_markdown", "audit_table", "leans", "needs_zoo"]

HELD_OUT, TRAINING = "held-out", "training"
NOVEL = 0.98
"""Distance to the training networks, relative to held-out networks', from which a model counts as novel."""
OPTIONAL = (
    *("average_100", "copying_ratio", "classifier_auc", "fit_seconds", "draw_seconds", "rejected", "detectable_copies"),
    *("accuracy_mean", "accuracy_std"),
)
"""What cells leave out where it is undefined: of single networks, of controls; of earlier versions."""


def audit_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a model and geometry: means over seeds, and deviations where there are several.

    Args:
        rows: What cells wrote, one row each.

    Returns:
        Numeric columns as means, ``<column>_std`` of the losses, ``novelty`` (mean nearest distance over held-out
        networks'), ``seeds``, ``rejected_share`` (share of seeds in which a test says no) and ``rejected``, the tests that
        say no in most seeds.

    Raises:
        ValueError: No held-out networks of some geometry.
    """
    rows = rows.reindex(columns=[*rows.columns, *(name for name in OPTIONAL if name not in rows.columns)])
    numbers = [name for name in rows.columns if rows[name].dtype.kind in "fi" and name not in ("seed", "networks")]
    found = []
    for (geometry, model), part in rows.groupby(["geometry", "model"], sort=False):
        ceiling = rows[(rows.geometry == geometry) & (rows.model == HELD_OUT)]
        if ceiling.empty:
            raise ValueError(f"audit: expected a cell of held-out networks for geometry {geometry}, found none; run it.")
        same = ceiling[ceiling["seed"].isin(part["seed"])]  # another seed may be another split and another zoo
        ceiling = ceiling if same.empty else same
        said = [set(str(text).split(", ")) - {"", "none"} for text in part["rejected"].dropna()]
        often = [name for name in sorted(set().union(*said)) if sum(name in one for one in said) > len(said) / 2]
        row = {"geometry": geometry, "model": model, "seeds": len(part), **part[numbers].mean().to_dict()}
        row |= {f"{name}_std": part[name].std() for name in ("train_nll", "validation_nll", "test_nll")}
        row["novelty"] = part["nearest_distance_mean"].mean() / ceiling["nearest_distance_mean"].mean()
        row["rejected_share"] = sum(map(bool, said)) / len(said) if said else math.nan
        row["rejected"] = ", ".join(often)
        found.append(row)
    return pd.DataFrame(found).sort_values(["geometry", "train_nll"], ignore_index=True)


def leans(row: pd.Series) -> bool:
    """Whether a test of copies says no: networks know training networks in particular."""
    return bool(set(row["rejected"].split(", ")) & set(COPYING_TESTS))


def is_novel(row: pd.Series) -> bool:
    """Whether networks are as far from training networks as unseen ones, and no closer than to unseen ones."""
    return row["novelty"] >= NOVEL and not leans(row)


def audit_markdown(table: pd.DataFrame, zoo_seconds: float, training_seconds: float) -> str:
    """A table a geometry, with the Pareto front of novel models, and from how many networks on each pays.

    Args:
        table: From :func:`audit_table`.
        zoo_seconds: Seconds to make the networks that models learn from.
        training_seconds: Seconds to train one network anew.
    """
    head = ["Model", "Train NLL", "Validation NLL", "Test NLL", "Average of 100: validation NLL", "Variance ratio"]
    head += ["Novelty", "Copying ratio", "AUC", "Fit", "Draw", "Pays from", "Tests that say no"]
    texts = []
    for geometry, part in table.groupby("geometry", sort=False):
        rows = []
        for _, row in part.iterrows():
            losses = [mean_over_seeds(row, f"{name}_nll") for name in ("train", "validation", "test")]
            audited = row["model"] != HELD_OUT and math.isfinite(row["rejected_share"])
            verdict = (row["rejected"] or "none") if audited else "–"
            cells = [fixed(row["average_100"]), fixed(row["variance_ratio"], 2), fixed(row["novelty"])]
            cells += [fixed(row["copying_ratio"]), fixed(row["classifier_auc"])]
            name = f"**{label(row['model'])}**" if row["model"] == "flow" else label(row["model"])
            rows.append([name, *losses, *cells, *costs(row, zoo_seconds, training_seconds), verdict])
        texts.append(f"## On the zoo of the {geometry} flow\n\n{markdown_table(head, rows)}\n\n{front(part)}\n")
    return "\n".join([*texts, EXPLAINED])


EXPLAINED = """
Mean over seeds ± deviation between seeds; losses in nats on the same examples for all. Novelty: mean distance to the nearest
training network, modulo permutations, over held-out networks'. Copying ratio: that distance over the one to as many
networks that nobody learned from. AUC: of a classifier between the model's networks and held-out ones, 0.5 where they are
alike. Fit and draw: seconds on one machine, draws all at once. Pays from: number of networks from which making the training
networks (where a model learns from any), the fit and the draws together take less than training as many anew. Tests:
adjusted for their number, at 5 %, in most seeds.
*training* are training networks whose own runs do not count as neighbours: a control that no test may flag.
"""


def needs_zoo(model: str) -> bool:
    """Whether a model learns from trained networks, which must be made before it is fitted."""
    return model not in METHODS or METHODS[model].learns_from_networks


def costs(row: pd.Series, zoo_seconds: float, training_seconds: float) -> list[str]:
    """Fit, draw, and from how many networks on a model is cheaper than training."""
    fit, one = row["fit_seconds"], row["draw_seconds"]
    if not np.isfinite([fit, one]).all():
        return ["–", "–", "–"]
    before = fit + zoo_seconds * needs_zoo(row["model"])
    pays = "never" if one >= training_seconds else f"{before / (training_seconds - one):,.0f}"
    return [duration(fit), f"{1000 * one:.2f} ms", pays if row["model"] != "trained-anew" else "–"]


def mean_over_seeds(row: pd.Series, name: str) -> str:
    """Mean ± deviation between seeds, the latter where there are several."""
    spread = row[f"{name}_std"]
    return f"{row[name]:.4f} ± {spread:.4f}" if math.isfinite(spread) else f"{row[name]:.4f}"


def front(part: pd.DataFrame) -> str:
    """Which novel models no other novel one beats in both loss and cost, and what that says of the flow."""
    models = part[~part["model"].isin([HELD_OUT, TRAINING])]
    novel = models[[is_novel(row) for _, row in models.iterrows()]]
    best = [
        row["model"]
        for _, row in novel.iterrows()
        if not ((novel["test_nll"] < row["test_nll"]) & (novel["draw_seconds"] < row["draw_seconds"])).any()
    ]
    text = f"Novel, and beaten in loss and cost by no other novel model: {', '.join(map(label_of_model, best)) or 'none'}."
    if "flow" not in set(novel["model"]):
        return text
    flow = novel.set_index("model").loc["flow"]
    better = novel[(novel["test_nll"] < flow["test_nll"]) & (novel["model"] != "flow")]
    names = ", ".join(f"{label_of_model(row['model'])} ({row['test_nll']:.4f})" for _, row in better.iterrows())
    said = f"lower than the flow's {flow['test_nll']:.4f}: {names}" if names else "lower than the flow's: none"
    return f"{text} Test loss {said}."


def label_of_model(model: str) -> str:
    return "flow" if model == "flow" else label(model)


def audit_figure(table: pd.DataFrame) -> bytes:
    """Loss over novelty, and seconds per draw over loss, a row of panels a geometry, as SVG."""
    geometries = list(dict.fromkeys(table["geometry"]))
    with theme():
        figure = Figure(figsize=(10, 4.2 * len(geometries)), layout="constrained")
        panels = figure.subplots(len(geometries), 2, squeeze=False)
        for (left, right), geometry in zip(panels, geometries, strict=True):
            part = table[table["geometry"] == geometry]
            scatter(part, "novelty", "test_nll", left)
            left.axvline(1, color=INK, linewidth=0.8, linestyle="--")
            left.set(xlabel="distance to training networks / held-out networks'", title=geometry)
            timed = part[part["draw_seconds"].notna()]
            scatter(timed, "draw_seconds", "test_nll", right)
            right.set(xlabel="seconds per network drawn")
            log_scale(right.xaxis, timed["draw_seconds"])
        figure.draw_without_rendering()  # which lays it out
        figure.set_layout_engine("none")
        for row, geometry in zip(panels, geometries, strict=True):
            part = table[table["geometry"] == geometry]
            for axes, x in zip(row, ("novelty", "draw_seconds"), strict=True):
                shown = part[part[x].notna()]
                names = [label_of_model(model) for model in shown["model"]]
                place_labels(axes, list(zip(shown[x], shown["test_nll"], names, strict=True)))
        return svg_bytes(figure)


def scatter(part: pd.DataFrame, x: str, y: str, axes: Axes) -> None:
    """A point a model; losses on a logarithmic axis."""
    for _, row in part.iterrows():
        axes.scatter(row[x], row[y], color=colour(row["model"]), s=36, zorder=3)
    log_scale(axes.yaxis, part[y])
    axes.margins(x=0.2)
    axes.set_ylabel("test NLL [nats]")
