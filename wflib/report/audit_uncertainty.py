"""What averages of a model's networks know of what they do not know, and what models are worth in equal seconds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from wflib.evaluation import agreement, total_variation
from wflib.report.audit import HELD_OUT, needs_zoo
from wflib.report.tables import fixed, markdown_table, with_error
from wflib.report.theme import label

__all__ = ["averages_with_costs", "mixing_sentence", "reference_distances", "uncertainty_markdown", "uncertainty_rows"]

KEYS = ["geometry", "model", "seed"]
REFERENCE, FLOW = "hmc", "flow"
NETWORKS = 100
"""Networks of the averages in the table; seconds are those in which a flow gives as many."""


def averages_with_costs(rows: pd.DataFrame, averages: pd.DataFrame, share: float) -> pd.DataFrame:
    """Scores of averages beside what their model's cell says of novelty and cost.

    Args:
        rows: Of cells of models.
        averages: Their tables ``averages``, one row a model, geometry, seed and number of networks.
        share: Of the zoo's seconds, what went into networks that models learn from.

    Returns:
        Averages with ``accuracy_mean`` of single networks, ``novelty`` (distance to training networks over that of held-out
        ones of the same seed), ``seconds`` for so many networks, training networks and fit counted, and ``affordable``, the
        number of networks in those seconds in which the flow of the same geometry and seed gives a hundred; undefined where
        a cell has no cost, or there is no flow.
    """
    costs = ["fit_seconds", "draw_seconds", "zoo_seconds"]
    cells = rows.reindex(columns=[*KEYS, *costs, "accuracy_mean", "nearest_distance_mean"])
    cells["before"] = cells["fit_seconds"] + share * cells["zoo_seconds"] * cells["model"].map(needs_zoo)
    cells["budget"] = cells["before"] + NETWORKS * cells["draw_seconds"]
    same = ["geometry", "seed"]
    ceiling = cells[cells["model"] == HELD_OUT].set_index(same)["nearest_distance_mean"].rename("ceiling")
    budget = cells[cells["model"] == FLOW].set_index(same)["budget"]
    cells = cells.drop(columns="budget").join(ceiling, on=same).join(budget, on=same)
    cells["novelty"] = cells["nearest_distance_mean"] / cells["ceiling"]
    # The small number keeps the flow's own hundred, whose quotient may round to less.
    cells["affordable"] = np.floor((cells["budget"] - cells["before"]) / cells["draw_seconds"] + 1e-6).clip(lower=0)
    joined = averages.merge(cells, on=KEYS, validate="many_to_one")
    joined["seconds"] = joined["before"] + joined["averaged"] * joined["draw_seconds"]
    return joined.drop(columns=[*costs, "nearest_distance_mean", "before", "ceiling", "budget"])


def reference_distances(predictions: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Agreement and total variation of each model's average with a reference's of the same geometry and seed.

    Args:
        predictions: Tables ``predictions`` of cells: averaged log-probabilities of test examples, a row each.
        reference: The model that others are compared with.

    Returns:
        A row for each model and seed with a reference, itself included.
    """
    classes, found = [name for name in predictions.columns if name.startswith("log_probability_")], []
    for (geometry, seed), part in predictions.groupby(["geometry", "seed"], sort=False):
        parts = {model: one.sort_values("example")[classes] for model, one in part.groupby("model", sort=False)}
        averages = {model: torch.tensor(one.to_numpy()) for model, one in parts.items()}
        if reference not in averages:
            continue
        for model, average in averages.items():
            near = {
                "agreement": agreement(average, averages[reference]),
                "total_variation": total_variation(average, averages[reference]),
            }
            found.append({"geometry": geometry, "model": model, "seed": seed, **near})
    return pd.DataFrame(found, columns=[*KEYS, "agreement", "total_variation"])


def uncertainty_rows(joined: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a model, geometry and seed.

    Args:
        joined: From :func:`averages_with_costs`.
        predictions: As :func:`reference_distances` takes them.

    Returns:
        Scores of the average of a hundred networks, of all where there are fewer; ``nll_excess`` over held-out networks' on
        the same examples; ``nll_1`` and ``nll_10``; agreement and total variation with HMC; ``affordable_nll`` of the
        average of ``affordable_averaged`` networks, the most that were measured of those affordable.
    """
    joined = joined.sort_values("averaged", kind="stable")
    found = joined[joined["averaged"] <= NETWORKS].groupby(KEYS, sort=False).tail(1).drop(columns="seconds")
    for count in (1, 10):
        few = joined[joined["averaged"] == count].set_index(KEYS)["nll"].rename(f"nll_{count}")
        found = found.join(few, on=KEYS)
    same = ["geometry", "seed"]
    ceiling = found[found["model"] == HELD_OUT].set_index(same)["nll"].rename("ceiling")
    found["nll_excess"] = found["nll"] - found.join(ceiling, on=same)["ceiling"]
    within = joined[joined["averaged"] <= joined["affordable"]].groupby(KEYS, sort=False).tail(1)
    names = {"averaged": "affordable_averaged", "nll": "affordable_nll"}
    found = found.join(within.set_index(KEYS)[list(names)].rename(columns=names), on=KEYS)
    return found.merge(reference_distances(predictions), on=KEYS, how="left")


def uncertainty_markdown(rows: pd.DataFrame) -> str:
    """A table a geometry, means over seeds ± deviations between them where there are several.

    Args:
        rows: From :func:`uncertainty_rows`.
    """
    strange = [name for name in rows.columns if name.startswith("auroc_")]
    columns = {"nll_1": "NLL of 1", "nll_10": "NLL of 10", "nll": f"NLL of {NETWORKS}"}
    columns |= {"nll_excess": "Over held-out's", "brier": "Brier", "ece": "ECE"}
    columns |= {"selective_accuracy_80": "Accuracy on the surest 80 %"}
    columns |= {name: f"AUROC, {name.removeprefix('auroc_')}" for name in strange}
    if rows["agreement"].notna().any():
        columns |= {"agreement": "Agreement with HMC", "total_variation": "Total variation from HMC"}
    head = ["Model", "Seeds", *columns.values(), "Networks in equal seconds", "NLL of their average"]
    texts = []
    for geometry, part in rows.groupby("geometry", sort=False):
        means = part.groupby("model")["nll"].mean().sort_values(kind="stable")
        lines = [model_line(model, part[part["model"] == model], list(columns)) for model in means.index]
        table = markdown_table(head, lines)
        texts.append(f"## Averages of networks, on test examples, {geometry}\n\n{table}\n")
    return "\n".join([*texts, EXPLAINED])


EXPLAINED = """
Scores of averaged probabilities on the test part, by which nothing was chosen: mean over seeds ± deviation between seeds.
Where splits differ between seeds, test parts do. Columns that name no number of networks are of averages of a hundred, or of
all where there are fewer. Over held-out's: that loss less that of held-out networks' average on the same examples, so that
what a split has of hard examples is in neither mean nor deviation.
Surest: those test inputs whose most probable class is the most probable. AUROC: of predictive entropy, between test inputs
and such of another kind; 0.5 where it tells nothing. Permuted: test inputs, each feature's values permuted among them.
Agreement: share of test inputs with the same most probable class; total variation: half the sum of absolute differences of
probabilities, mean over test inputs; both of the average of all draws, with that of HMC on the same split. Equal seconds:
those in which the flow gives a hundred networks, training networks (where a model learns from any) and fit counted; in
brackets, of how many of them the average was measured.
"""


def model_line(model: str, part: pd.DataFrame, columns: list[str]) -> list[str]:
    """Cells of a model's row."""
    name = f"**{label(model)}**" if model == FLOW else label(model)
    scores = [with_error(part[column].mean(), part[column].std()) for column in columns]
    affordable, measured = part["affordable"].mean(), part["affordable_averaged"].min()
    if not math.isfinite(affordable):
        return [name, f"{len(part)}", *scores, "–", "–"]
    loss = f"{fixed(part['affordable_nll'].mean(), 4)} ({measured:.0f})" if math.isfinite(measured) else "–"
    return [name, f"{len(part)}", *scores, f"{affordable:,.0f}", loss]


def mixing_sentence(rows: pd.DataFrame) -> str:
    """How well chains agree, the worst of their seeds; nothing where there are none."""
    if "r_hat" not in rows.columns or rows["r_hat"].isna().all():
        return ""
    worst = (
        rows[rows["r_hat"].notna()]
        .groupby("model", sort=False)
        .agg({"r_hat": "max", "effective_draws": "min", "chain_draws": "min"})
    )
    said = [
        f"{label(model)} R̂ {row['r_hat']:.3f}, {row['effective_draws']:,.0f} effective draws of {row['chain_draws']:,.0f}"
        for model, row in worst.iterrows()
    ]
    return f"Chains, by the worst prediction of validation examples and the worst seed: {'; '.join(said)}."
