"""Curves: training of the flow, and quality of its samples by number of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from wflib.report.theme import COLOURS, INK, colour, log_scale

__all__ = ["learning_rate", "quality_by_steps", "training_loss"]

STYLES = (("o", "-"), ("s", "--"), ("^", "-."), ("v", ":"))


def training_loss(history: pd.DataFrame, axes: Axes) -> Axes:
    """Training and validation loss by iteration, the best validation marked.

    Args:
        history: Columns ``iteration``, ``loss``, ``validation_loss`` (NaN between validations).
        axes: Where to draw.

    Returns:
        The axes.
    """
    training = history[["iteration", "loss"]].astype(float).dropna()
    validation = history[["iteration", "validation_loss"]].astype(float).dropna()
    log_scale(axes.yaxis, [*training["loss"], *validation["validation_loss"]])
    noisy = len(training) >= 100
    alpha, name = (0.3, None) if noisy else (1.0, "training")
    axes.plot(training["iteration"], training["loss"], color=COLOURS["zoo"], linewidth=1, alpha=alpha, label=name)
    if noisy:
        window = max(5, len(training) // 50)
        smooth = training["loss"].rolling(window, center=True, min_periods=1).median()
        axes.plot(training["iteration"], smooth, color=COLOURS["zoo"], linewidth=1.6, label=f"training (median of {window})")
    if len(validation):
        dots: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(validation) <= 60 else {}
        x, y = validation["iteration"], validation["validation_loss"]
        axes.plot(x, y, color=COLOURS["samples"], linewidth=1.6, label="validation", **dots)
        best = validation.loc[validation["validation_loss"].idxmin()]
        name = f"best validation: {best['validation_loss']:.4g} at {best['iteration']:.0f}"
        star: dict[str, Any] = {"marker": "*", "markersize": 12, "markeredgecolor": "white", "linestyle": "none"}
        axes.plot(best["iteration"], best["validation_loss"], color=COLOURS["samples"], label=name, **star)
    axes.set(xlabel="iteration", ylabel="loss")
    axes.legend(loc="best")
    return framed(axes)


def learning_rate(history: pd.DataFrame, axes: Axes) -> Axes:
    """The learning rate by iteration, meant for a low panel below the loss.

    Args:
        history: Columns ``iteration`` and ``learning_rate``.
        axes: Where to draw.

    Returns:
        The axes.
    """
    axes.plot(history["iteration"], history["learning_rate"], color=INK, linewidth=1)
    axes.set(xlabel="iteration", ylabel="learning\nrate")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    return framed(axes)


def quality_by_steps(
    curve: pd.DataFrame, metric: str, axes: Axes, *, text: str, zoo: tuple[float, float] | None = None, log: bool = False
) -> Axes:
    """Quality of samples by number of steps, one line a guidance strength (thesis figure 7.3).

    Args:
        curve: Columns ``steps``, ``guidance``, ``<metric>_mean``, ``<metric>_std``.
        metric: ``accuracy`` or ``nll``.
        axes: Where to draw.
        text: Label of the vertical axis, with unit.
        zoo: Mean and standard deviation over the zoo, drawn as a line and a band.
        log: Whether the vertical axis is logarithmic (if all means are positive).

    Returns:
        The axes.
    """
    mean, std = f"{metric}_mean", f"{metric}_std"
    table = curve.astype({mean: float, std: float}).dropna(subset=[mean])
    log = log and bool((table[mean] > 0).all())
    if log:
        log_scale(axes.yaxis, table[mean])
    strengths = sorted(table["guidance"].unique())
    shades = sns.blend_palette([colour("samples"), "#7A4FBF"], max(len(strengths), 2))
    for k, strength in enumerate(strengths):
        rows = table[table["guidance"] == strength].sort_values("steps")
        marker, line = STYLES[k % len(STYLES)]
        shift = 2 ** (0.1 * (k - (len(strengths) - 1) / 2))  # keeps error bars beside each other
        axes.errorbar(
            rows["steps"].astype(float) * shift,
            rows[mean],
            rows[std].fillna(0),
            color=shades[k],
            marker=marker,
            linestyle=line,
            markersize=5,
            linewidth=1.6,
            elinewidth=0.9,
            capsize=2,
            label=f"guidance λ = {strength:g}" if strength else "no guidance",
        )
    if zoo is not None:
        axes.axhline(zoo[0], color=colour("zoo"), linewidth=1.4, label="zoo (mean, ± std)", zorder=1)
        axes.axhspan(zoo[0] - zoo[1], zoo[0] + zoo[1], color=colour("zoo"), alpha=0.13, linewidth=0, zorder=0)
    if log:
        # A bar that reaches zero has no end on a logarithmic axis: it leaves the panel instead.
        ends = table[[mean, std]].to_numpy(dtype=float)
        ends = np.vstack([ends, [zoo]]) if zoo is not None else ends
        lows, highs = np.maximum(ends[:, 0] - ends[:, 1], ends[:, 0] / 4), ends.sum(axis=1)
        axes.set_ylim(0.8 * np.nanmin(lows), 1.25 * np.nanmax(highs))
    axes.set_xscale("log", base=2)
    steps = sorted(table["steps"].astype(int).unique())
    axes.set_xticks(steps, [str(count) for count in steps])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="steps", ylabel=text)
    return framed(axes)


def framed(axes: Axes) -> Axes:
    axes.grid(color="#000000", alpha=0.1, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes
