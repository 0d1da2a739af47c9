"""Studies: flows that differ in a few settings, one row per flow and number of steps."""

from __future__ import annotations

import math

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from wflib.report.barriers import barrier_limits, barrier_matrix, mean_excess
from wflib.report.tables import markdown_table
from wflib.report.theme import svg_bytes, theme

__all__ = [
    "MEASURES",
    "alignment_figure",
    "study_figure",
    "study_markdown",
    "study_summary",
    "symmetry_summary",
]

MEASURES = (
    *("steps", "accuracy_mean", "accuracy_std", "nll_mean", "nll_std", "variance_ratio"),
    *("path_length", "validation_loss", "training_seconds"),
)
FACTS = ("iterations", "parameters", "zoo_networks")
"""What rows say of a flow besides."""
TOLERANCE = 0.05
COLUMNS = 4


def study_labels(rows: pd.DataFrame) -> list[str]:
    """The columns that say which flow a row belongs to: all that measure nothing."""
    return [column for column in rows.columns if column not in (*MEASURES, *FACTS)]


def steps_needed(flow: pd.DataFrame) -> int:
    """The fewest steps tried from which on mean NLL and variance ratio stay near their values at the most steps.

    Near: an NLL at most 5 % above, and a variance ratio that differs by at most 5 %. Few steps draw samples towards the
    mean network, whose NLL may be low; the variance shows it.

    Args:
        flow: Rows of one flow by rising ``steps``: ``nll_mean``, ``variance_ratio``.
    """
    last = flow.iloc[-1]
    near = (flow.nll_mean <= (1 + TOLERANCE) * last.nll_mean) & (
        (flow.variance_ratio / last.variance_ratio - 1).abs() <= TOLERANCE
    )
    return int(flow.steps[near[::-1].cummin()[::-1]].iloc[0])


def study_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per flow: quality and spread at the most steps, and the steps it needs for them.

    Args:
        rows: Label columns of any names and the columns ``MEASURES``.

    Returns:
        Label columns, ``accuracy``, ``nll``, ``variance_ratio``, ``steps_needed``, ``path_length``, ``validation_loss``,
        ``training_seconds``.

    Raises:
        ValueError: A measure is missing, or no column tells flows apart.
    """
    if missing := [column for column in MEASURES if column not in rows.columns]:
        raise ValueError(f"study: expected columns {list(MEASURES)}, missing {missing}; run the study's cells again.")
    if not study_labels(rows):
        raise ValueError("study: expected a column that says which flow a row belongs to; run cells with a --label.")
    found = []
    for labels, flow in rows.groupby(study_labels(rows), sort=False, dropna=False):
        flow = flow.sort_values("steps")
        last = flow.iloc[-1]
        found.append(
            {
                **dict(zip(study_labels(rows), labels, strict=True)),
                "accuracy": f"{last.accuracy_mean:.3f} ± {last.accuracy_std:.3f}",
                "nll": f"{last.nll_mean:.3f} ± {last.nll_std:.3f}",
                "variance_ratio": f"{last.variance_ratio:.2f}",
                "steps_needed": steps_needed(flow),
                "path_length": f"{last.path_length:.1f}",
                "validation_loss": f"{last.validation_loss:.4f}",
                "training_seconds": f"{last.training_seconds:.0f}",
            }
        )
    return pd.DataFrame(found)


def study_markdown(summary: pd.DataFrame) -> str:
    """The summary as a Markdown table, with a line that explains it."""
    names = [column.replace("_", " ") for column in summary.columns]
    explained = (
        "Accuracy and NLL (nats) of single samples on test data, mean ± standard deviation over networks, at the most steps "
        "tried. Variance ratio: mean over coordinates of the samples' variance over that of training networks, both sides "
        "matched to one reference. Steps needed: the fewest tried from which on the mean NLL is at most "
        f"{TOLERANCE:.0%} above its value at the most steps and the variance ratio within {TOLERANCE:.0%} of its own; NLL "
        "alone would flatter few steps, which draw samples towards the mean network. Path length: mean squared distance "
        "between the coupled x_0 and x_1 (squared geodesic distance for the geometric flow)."
    )
    rows = [list(map(str, row)) for row in summary.itertuples(index=False)]
    return f"{markdown_table(names, rows, [])}\n\n{explained}\n"


def study_figure(rows: pd.DataFrame) -> bytes:
    """NLL against Euler steps: one panel per value of the first label, one line per combination of the others."""
    first, *others = study_labels(rows)
    named = rows.assign(flow=rows[others].astype(str).agg(", ".join, axis=1) if others else "flow")
    panels = list(dict.fromkeys(rows[first]))
    with theme():
        height = max(3.2, 0.8 + 0.2 * named.flow.nunique())  # room for the legend
        figure = Figure(figsize=(3.2 * len(panels) + 2.4, height), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, value in zip(axes, panels, strict=True):
            chosen = named[named[first] == value]
            sns.lineplot(chosen, x="steps", y="nll_mean", hue="flow", marker="o", ax=axis, legend=value == panels[-1])
            axis.set(title=str(value), xlabel="Euler steps", ylabel="mean NLL of samples [nats]", yscale="log")
            axis.set_xscale("log", base=2)
        if axes[-1].get_legend():
            sns.move_legend(axes[-1], "upper left", bbox_to_anchor=(1, 1), title=", ".join(others), fontsize="small")
        return svg_bytes(figure)


def symmetry_summary(distances: pd.DataFrame) -> pd.DataFrame:
    """How far networks are apart, and how far each is from the nearest other one, modulo each group of symmetries.

    Args:
        distances: Columns of ``SYMMETRY_SCHEMA``, each pair once.

    Returns:
        ``modulo``, and means over pairs and over networks: ``distance_of_pairs``, ``distance_to_nearest``.
    """
    mirrored = pd.concat([distances, distances.rename(columns={"i": "j", "j": "i"})])
    nearest = mirrored.groupby(["modulo", "i"], sort=False).distance.min()
    means = {
        "distance_of_pairs": distances.groupby("modulo", sort=False).distance.mean(),
        "distance_to_nearest": nearest.groupby("modulo", sort=False).mean(),
    }
    return pd.DataFrame(means).reset_index()


def alignment_figure(barriers: pd.DataFrame, distances: pd.DataFrame) -> bytes:
    """Pairwise barriers of each stage (thesis figure 7.2), and the distances between networks modulo symmetries.

    Args:
        barriers: Columns of ``BARRIER_SCHEMA``; one matrix per ``stage``.
        distances: Columns of ``SYMMETRY_SCHEMA``.
    """
    stages = list(dict.fromkeys(barriers.stage))
    limits, rows = barrier_limits(barriers), math.ceil((len(stages) + 1) / COLUMNS)
    with theme():
        figure = Figure(figsize=(3.4 * COLUMNS, 3.4 * rows), layout="constrained")
        panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
        for stage, axes in zip(stages, panels, strict=False):
            barrier_matrix(barriers, stage, axes, limits=limits)
            axes.set_title(f"{stage}\nmean excess {mean_excess(barriers, stage)[0]:.3f}", fontsize="small")
        figure.colorbar(panels[0].images[0], ax=panels, shrink=0.6, extend="max").set_label("excess loss [nats]")
        last, *unused = panels[len(stages) :]
        sns.ecdfplot(distances, x="distance", hue="modulo", ax=last)
        last.set(xlabel="relative distance", ylabel="share of pairs nearer than this")
        last.set_title("distance of two networks", fontsize="small")
        sns.move_legend(last, "center", title="modulo", fontsize="x-small")
        for axes in unused:
            axes.remove()
        return svg_bytes(figure)
