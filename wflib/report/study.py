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
    "alignment_markdown",
    "study_figure",
    "study_markdown",
    "study_summary",
    "symmetry_summary",
]

MEASURES = ("steps", "accuracy_mean", "accuracy_std", "nll_mean", "nll_std", "validation_loss", "training_seconds")
TOLERANCE = 1.05
COLUMNS = 4


def study_labels(rows: pd.DataFrame) -> list[str]:
    """The columns that say which flow a row belongs to: all that measure nothing."""
    return [column for column in rows.columns if column not in MEASURES]


def study_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per flow: quality at the most steps, and the fewest steps whose NLL is at most 5 % above that.

    Args:
        rows: Label columns of any names and the columns ``MEASURES``.

    Returns:
        Label columns, ``accuracy``, ``nll``, ``steps_needed``, ``validation_loss``, ``training_seconds``.
    """
    found = []
    for labels, flow in rows.groupby(study_labels(rows), sort=False, dropna=False):
        flow = flow.sort_values("steps")
        last = flow.iloc[-1]
        enough = flow[flow.nll_mean <= TOLERANCE * last.nll_mean]
        found.append(
            {
                **dict(zip(study_labels(rows), labels, strict=True)),
                "accuracy": f"{last.accuracy_mean:.3f} ± {last.accuracy_std:.3f}",
                "nll": f"{last.nll_mean:.3f} ± {last.nll_std:.3f}",
                "steps_needed": int(enough.steps.iloc[0]),
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
        f"tried. Steps needed: the fewest whose mean NLL is at most {TOLERANCE - 1:.0%} above that. Few steps shrink the "
        "spread of samples and draw them towards the mean network, whose NLL may be low: one step that suffices says that, "
        "not that it draws from the zoo's distribution."
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


def alignment_markdown(methods: pd.DataFrame) -> str:
    """The comparison of methods of alignment as a Markdown table: labels as they are, measures with three digits."""
    rows = [[f"{x:.3f}" if isinstance(x, float) else str(x) for x in row] for row in methods.itertuples(index=False)]
    return markdown_table([column.replace("_", " ") for column in methods.columns], rows, []) + "\n"


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
            axes.set_title(f"{stage}\nmean excess {mean_excess(barriers, stage):.3f}", fontsize="small")
        figure.colorbar(panels[0].images[0], ax=panels, shrink=0.6, extend="max").set_label("excess loss [nats]")
        last, *unused = panels[len(stages) :]
        sns.ecdfplot(distances, x="distance", hue="modulo", ax=last)
        last.set(xlabel="relative distance", ylabel="share of pairs nearer than this")
        last.set_title("distance of two networks", fontsize="small")
        sns.move_legend(last, "center", title="modulo", fontsize="x-small")
        for axes in unused:
            axes.remove()
        return svg_bytes(figure)
