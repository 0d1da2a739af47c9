"""Panels with one row a source: distributions over networks, diversity, spread, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wflib.report.tables import with_error
from wflib.report.theme import INK, colour, label, log_scale, ordered

__all__ = ["VARIANCE_RANGE", "calibration", "distribution", "diversity", "variance_ratio"]

VARIANCE_RANGE = (0.8, 1.2)
GOLDEN_RATIO = 0.6180339887


def distribution(
    networks: pd.DataFrame,
    column: str,
    axes: Axes,
    *,
    text: str,
    log: bool = False,
    errors: Mapping[str, float] | None = None,
) -> Axes:
    """One number for each network as points, by source, with a box from five networks on, and the mean.

    Boxes show quartiles and median, whiskers the 5 % and 95 % quantiles.

    Args:
        networks: Columns ``source`` and ``column``; rows with NaN are left out.
        column: What to show.
        axes: Where to draw.
        text: Label of the horizontal axis, with unit.
        log: Whether the axis is logarithmic (if all values are positive).
        errors: Source → standard error of its mean, written beside it; None for means alone.

    Returns:
        The axes.
    """
    table = networks[["source", column]].dropna()
    sources = ordered(table["source"])
    if log:
        log_scale(axes.xaxis, table[column])
    for row, source in enumerate(sources):
        values = table.loc[table["source"] == source, column].to_numpy(dtype=float)
        if len(values) >= 5:
            box(axes, values, row, colour(source))
        alone = len(values) == 1
        # A low-discrepancy sequence spreads the points evenly and the same way each time.
        offsets = np.zeros(1) if alone else ((np.arange(len(values)) * GOLDEN_RATIO) % 1 - 0.5) * 0.42
        shape: dict[str, Any] = {"marker": "D", "s": 34} if alone else {"marker": "o", "s": 11, "alpha": 0.55}
        axes.scatter(
            values, row + offsets, color=colour(source), linewidths=0, rasterized=len(values) > 100, zorder=3, **shape
        )
    means = [table.loc[table["source"] == source, column].mean() for source in sources]
    known = errors or {}
    told = [with_error(mean, known.get(source, np.nan)) for source, mean in zip(sources, means, strict=True)]
    numbers(axes, told, head="mean ± error" if known else "mean")
    return rows(axes, sources, text)


def diversity(groups: pd.DataFrame, axes: Axes) -> Axes:
    """How differently the networks of each source predict, as bars, with the zoo's level as a dashed line.

    Args:
        groups: Columns ``source``, ``diversity`` [nats] and ``diversity_error``.
        axes: Where to draw.

    Returns:
        The axes.
    """
    table = by_source(groups, "diversity")
    for row, (source, value) in enumerate(table.items()):
        axes.barh(row, value, height=0.62, color=colour(source))
        told = told_with_error(groups, source, "diversity")
        plate = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # the dashed line must not cross numbers
        axes.annotate(told, (value, row), (4, 0), textcoords="offset points", va="center", color=INK, bbox=plate)
    if "zoo" in table:
        axes.axvline(table["zoo"], color=colour("zoo"), linestyle="--", linewidth=1)
    axes.set_xlim(0, 1.5 * max(table) or 1.0)  # room for numbers
    return rows(axes, list(table.index), "disagreement of predictions [nats]")


def variance_ratio(groups: pd.DataFrame, axes: Axes) -> Axes:
    """Variance of the weights relative to the zoo's, as dots, with the range 0.8 to 1.2 shaded.

    Args:
        groups: Columns ``source``, ``variance_ratio`` and ``variance_ratio_error``.
        axes: Where to draw.

    Returns:
        The axes.
    """
    table = by_source(groups, "variance_ratio")
    axes.axvspan(*VARIANCE_RANGE, color=INK, alpha=0.1, linewidth=0)
    axes.axvline(1, color=INK, linewidth=1)
    for row, (source, value) in enumerate(table.items()):
        axes.plot([1, value], [row, row], color=colour(source), linewidth=1.2)
        axes.plot(value, row, "o", color=colour(source), markersize=7)
    low, high = min([0.7, *table]), max([1.3, *table])
    axes.set_xlim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    numbers(axes, [told_with_error(groups, source, "variance_ratio") for source in table.index], head="ratio ± error")
    return rows(axes, list(table.index), "variance of weights / zoo's variance")


def calibration(groups: pd.DataFrame, score: str, axes: Axes, *, text: str) -> Axes:
    """A calibration score of single networks (hollow) and of their model average (filled), smaller is better.

    Args:
        groups: Columns ``source``, ``<score>_mean`` and ``bma_<score>``.
        score: ``ece`` or ``brier``.
        axes: Where to draw.
        text: Label of the horizontal axis, with unit.

    Returns:
        The axes.
    """
    single, average = by_source(groups, f"{score}_mean"), by_source(groups, f"bma_{score}")
    sources = ordered([*single.index, *average.index])
    for row, source in enumerate(sources):
        ends = [single.get(source, np.nan), average.get(source, np.nan)]
        axes.plot(ends, [row, row], color=colour(source), linewidth=1.4, zorder=1)
        axes.plot(
            ends[0], row, "o", markerfacecolor="white", markeredgecolor=colour(source), markeredgewidth=1.6, markersize=7
        )
        axes.plot(ends[1], row, "D", color=colour(source), markersize=6)
    axes.set_xlim(0, 1.06 * max([*single, *average]) or 1.0)
    return rows(axes, sources, text)


def by_source(groups: pd.DataFrame, column: str) -> pd.Series:
    values = groups.set_index("source")[column].astype(float).dropna()
    return values.loc[ordered(values.index)]


def box(axes: Axes, values: np.ndarray, row: int, ink: str) -> None:
    line = {"color": ink, "linewidth": 1.1}
    axes.boxplot(
        values,
        orientation="horizontal",
        positions=[row],
        widths=0.62,
        whis=(5, 95),
        showfliers=False,
        manage_ticks=False,
        boxprops=line,
        medianprops=line | {"linewidth": 1.8},
        whiskerprops=line,
        capprops=line,
    )


def told_with_error(groups: pd.DataFrame, source: str, column: str) -> str:
    return with_error(*groups.set_index("source").loc[source, [column, f"{column}_error"]].astype(float))


def numbers(axes: Axes, values: list[str], head: str) -> None:
    for row, text in enumerate([head, *values], start=-1):
        style = "italic" if row < 0 else "normal"
        axes.text(1.02, max(row, -0.75), text, transform=axes.get_yaxis_transform(), va="center", color=INK, style=style)


def rows(axes: Axes, sources: list[str], text: str) -> Axes:
    axes.set_yticks(range(len(sources)), [label(source) for source in sources])
    axes.set_ylim(len(sources) - 0.4, -0.6)
    axes.set(xlabel=text, ylabel="")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#000000", alpha=0.1, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes
