"""Ways of alignment compared, and how far apart networks are modulo their symmetries."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from wflib.report.barriers import barrier_limits, barrier_matrix
from wflib.report.theme import svg_bytes, theme

__all__ = ["alignment_markdown", "barrier_figure", "distance_figure", "distance_summary"]

COLUMNS = {
    "l2": "squared distance to reference",
    "l2_pairs": "squared distance of pairs",
    "reference_barrier": "midpoint barrier to reference",
    "midpoint_loss": "midpoint loss",
    "midpoint_barrier": "midpoint barrier",
    "maximal_barrier": "maximal barrier",
    "seconds": "seconds",
}


def distance_summary(distances: pd.DataFrame) -> pd.DataFrame:
    """Per kind of symmetry: mean distance of pairs, mean distance to the nearest other network, and both relative.

    Args:
        distances: Columns ``modulo``, ``i``, ``j``, ``distance``, ``relative``, each pair once.

    Returns:
        One row per value of ``modulo``, in order of appearance.
    """
    mirrored = distances.rename(columns={"i": "j", "j": "i"})
    both = pd.concat([distances, mirrored])
    measures = ["distance", "relative"]
    pairs = distances.groupby("modulo", sort=False)[measures].mean()
    nearest = both.groupby(["modulo", "i"], sort=False)[measures].min().groupby("modulo", sort=False).mean()
    return pairs.join(nearest, lsuffix="_pairs", rsuffix="_nearest").reset_index()


def alignment_markdown(methods: pd.DataFrame, distances: pd.DataFrame, networks: int) -> str:
    """Both tables in Markdown, with lines that explain them.

    Args:
        methods: Columns ``alignment`` and the keys of ``COLUMNS``, one row per way.
        distances: As in :func:`distance_summary`.
        networks: How many were aligned.
    """
    lines = ["# Ways of alignment", "", "| alignment | " + " | ".join(COLUMNS.values()) + " |", "|" + "---|" * 8]
    for row in methods.itertuples(index=False):
        cells = [f"{getattr(row, name):.1f}" if name[0] in "ls" else f"{getattr(row, name):.4f}" for name in COLUMNS]
        lines.append(f"| {row.alignment} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"{networks} networks, brought to the first one where nothing else is said. Barriers and losses in nats on test",
        "data: of all pairs, except for the column that says to the reference. A midpoint barrier is the loss halfway above",
        "the mean of the ends' losses, a maximal barrier the largest rise above the line between them. Sinkhorn never sees",
        "pairs, only each network with the reference, on training data.",
        "",
        "# How symmetric the networks are",
        "",
        "| modulo | mean distance of pairs | to the nearest | relative, pairs | relative, nearest |",
        "|" + "---|" * 5,
    ]
    for row in distance_summary(distances).itertuples(index=False):
        lines.append(
            f"| {row.modulo} | {row.distance_pairs:.3f} | {row.distance_nearest:.3f} "
            f"| {row.relative_pairs:.3f} | {row.relative_nearest:.3f} |"
        )
    lines += [
        "",
        "Modulo permutation: after weight matching of each pair. Modulo scaling: between canonical networks. Relative: in",
        "units of √2 times the root mean square norm, at which two networks in unrelated directions lie.",
    ]
    return "\n".join(lines) + "\n"


def barrier_figure(barriers: pd.DataFrame) -> bytes:
    """Matrices of all pairs' midpoint barriers, one per way of alignment, on one colour scale (thesis figure 7.2)."""
    stages, limits = list(dict.fromkeys(barriers["stage"])), barrier_limits(barriers)
    with theme():
        figure = Figure(figsize=(3.4 * len(stages) + 0.8, 3.6), layout="constrained")
        axes = figure.subplots(1, len(stages), squeeze=False)[0]
        for axis, stage in zip(axes, stages, strict=True):
            barrier_matrix(barriers, stage, axis, limits=limits)
            axis.set_title(axis.get_title(loc="left").replace(": ", "\n"), loc="left")
        colours = ScalarMappable(Normalize(*limits), "viridis")
        figure.colorbar(colours, ax=axes, extend="max", label="barrier at the midpoint [nats]")
        return svg_bytes(figure)


def distance_figure(distances: pd.DataFrame) -> bytes:
    """Distributions of all pairs' relative distances modulo symmetries."""
    with theme():
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        sns.kdeplot(distances, x="relative", hue="modulo", fill=True, common_norm=False, palette="colorblind", ax=axes)
        axes.set(xlabel="distance of two networks / (√2 · root mean square norm)", ylabel="density of pairs")
        sns.move_legend(axes, "upper left", title="modulo")
        return svg_bytes(figure)
