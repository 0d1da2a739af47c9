"""Pairwise loss barriers between networks, before and after alignment."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wflib.report.tables import with_error

__all__ = ["barrier_limits", "barrier_matrix", "mean_excess"]


def mean_excess(barriers: pd.DataFrame, stage: str) -> tuple[float, float]:
    """Mean barrier over pairs of two different networks [nats] and its standard error over networks, NaN without any.

    The error is that of a mean over pairs of n networks, 2 s / √n with s the deviation of each network's mean barrier.

    Args:
        barriers: Columns ``stage``, ``i``, ``j``, ``excess``.
        stage: ``unaligned`` or ``aligned``.

    Returns:
        The mean of ``excess`` where i ≠ j, and the error.
    """
    pairs = barriers[(barriers["stage"] == stage) & (barriers["i"] != barriers["j"])].astype({"excess": float})
    each = (
        pd.concat([pairs[["i", "excess"]], pairs[["j", "excess"]].rename(columns={"j": "i"})]).groupby("i")["excess"].mean()
    )
    return float(pairs["excess"].mean()), float(2 * each.std() / np.sqrt(max(len(each), 1)))


def barrier_limits(barriers: pd.DataFrame) -> tuple[float, float]:
    """Ends of one colour scale for all stages: 0 (or the smallest value), and the 99.5 % quantile against outliers."""
    excess = barriers["excess"].to_numpy(dtype=float)
    low = min(0.0, float(np.nanmin(excess)))
    return low, max(float(np.nanquantile(excess, 0.995)), low + 1e-9)


def barrier_matrix(barriers: pd.DataFrame, stage: str, axes: Axes, *, limits: tuple[float, float]) -> Axes:
    """The barrier of each pair of networks as a matrix (thesis figure 7.2), its mean in the title.

    Args:
        barriers: Columns ``stage``, ``i``, ``j``, ``excess`` [nats]; one of (i, j) and (j, i) is enough.
        stage: ``unaligned`` or ``aligned``.
        axes: Where to draw.
        limits: Ends of the colour scale, the same for all stages to compare.

    Returns:
        The axes.
    """
    matrix = (
        barriers[barriers["stage"] == stage].astype({"excess": float}).pivot_table(index="i", columns="j", values="excess")
    )
    names = matrix.index.union(matrix.columns)
    matrix = matrix.reindex(index=names, columns=names)
    values = matrix.where(matrix.notna(), matrix.T).to_numpy()
    axes.imshow(values, cmap="viridis", vmin=limits[0], vmax=limits[1], interpolation="none", aspect="equal")
    axes.set(
        title=f"{stage}: mean excess {with_error(*mean_excess(barriers, stage))}", xlabel="network j", ylabel="network i"
    )
    ticks = np.unique(np.linspace(0, len(names) - 1, min(len(names), 6)).astype(int))
    axes.set_xticks(ticks, names[ticks])
    axes.set_yticks(ticks, names[ticks])
    axes.spines[:].set_visible(False)
    axes.set_facecolor("#DDDDDD")
    return axes
