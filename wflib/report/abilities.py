"""What a trained flow can do besides the default sampler: one figure a study, and tables with a line that explains them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wflib.report.tables import markdown_table, number
from wflib.report.theme import INK, log_scale, svg_bytes, theme

__all__ = [
    "distillation_figure",
    "likelihood_figure",
    "measures_markdown",
    "response_figure",
    "samplers_figure",
]

NLL, VARIANCE = "mean NLL of samples [nats]", "variance ratio"


def measures_markdown(table: pd.DataFrame, explained: str = "") -> str:
    """A table as Markdown, labels as they are and measures with a few digits, and what its columns mean.

    Args:
        table: One row per line.
        explained: A paragraph below the table; none if empty.
    """
    rows = [[brief(x) if isinstance(x, float) else str(x) for x in row] for row in table.itertuples(index=False)]
    text = markdown_table([column.replace("_", " ") for column in table.columns], rows, []) + "\n"
    return f"{text}\n{explained}\n" if explained else text


def brief(value: float) -> str:
    """Three significant digits, and fewer for settings such as 0.1 or 64."""
    return f"{value:g}" if value == float(f"{value:.2g}") else number(value)


def lines(rows: pd.DataFrame, x: str, y: str, hue: str, axes: Axes) -> None:
    """One line per value of ``hue``; the x-axis and that of an NLL are logarithmic where values allow it."""
    sns.lineplot(rows, x=x, y=y, hue=hue, style=hue, markers=True, dashes=False, ax=axes, errorbar=None)
    log_scale(axes.xaxis, rows[x])
    if y == "nll_mean":
        log_scale(axes.yaxis, rows[y])


def samplers_figure(rows: pd.DataFrame) -> bytes:
    """NLL and spread against evaluations of the network, and NLL against the strength of guidance.

    Args:
        rows: ``kind`` (``solver``, ``noise``, ``diffusion`` or ``guidance``), ``flow``, ``sampler``, ``strength``,
            ``evaluations``, ``nll_mean``, ``variance_ratio``; undefined measures are NaN.
    """
    solvers, guided = rows[rows.kind == "solver"], rows[rows.kind == "guidance"]
    default = rows.flow.iloc[0]
    solvers = solvers[solvers.flow == default]
    with theme():
        figure = Figure(figsize=(12, 3.6), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for axes, measure, title in ((left, "nll_mean", NLL), (middle, "variance_ratio", VARIANCE)):
            lines(solvers, "evaluations", measure, "sampler", axes)
            axes.set(xlabel="evaluations of the network", ylabel=title)
            axes.legend(title=None)
        middle.axhline(1, color=INK, linewidth=0.8, linestyle=":")
        lines(guided, "strength", "nll_mean", "sampler", right)
        right.set(xlabel="strength of guidance λ", ylabel=NLL)
        unguided = solvers[(solvers.sampler == "euler") & (solvers.steps == guided.steps.iloc[0])].nll_mean
        for value in unguided:
            right.axhline(value, color=INK, linewidth=0.8, linestyle=":", label="without guidance")
        right.legend(title=None)
        return svg_bytes(figure)


def distillation_figure(rows: pd.DataFrame) -> bytes:
    """NLL and spread against steps, of a flow and of its distilled student.

    Args:
        rows: ``flow``, ``steps``, ``nll_mean``, ``variance_ratio``.
    """
    with theme():
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        for axes, measure, title in zip(figure.subplots(1, 2), ("nll_mean", "variance_ratio"), (NLL, VARIANCE), strict=True):
            lines(rows, "steps", measure, "flow", axes)
            axes.set(xlabel="evaluations of the network", ylabel=title)
            axes.legend(title=None)
        return svg_bytes(figure)


def likelihood_figure(rows: pd.DataFrame) -> bytes:
    """Log-likelihoods of each group of networks as boxes, whiskers at the 5th and 95th percentile.

    Args:
        rows: ``networks`` (the group) and ``log_likelihood``, one row per network.
    """
    with theme():
        figure = Figure(figsize=(7, 0.8 + 0.4 * rows.networks.nunique()), layout="constrained")
        axes = figure.subplots()
        groups = {name: part.log_likelihood for name, part in rows.groupby("networks", sort=False)}
        dots, middle = {"marker": ".", "markersize": 3, "markeredgecolor": INK}, {"color": INK}
        style: dict[str, Any] = {"whis": (5, 95), "flierprops": dots, "medianprops": middle}
        axes.boxplot(list(groups.values()), tick_labels=list(groups), orientation="horizontal", **style)
        axes.invert_yaxis()
        axes.set(xlabel="log-likelihood [nats]")
        return svg_bytes(figure)


def response_figure(rows: pd.DataFrame, name: str) -> bytes:
    """What each network was asked for and what came, one panel per strength of guidance, the diagonal as reference.

    Args:
        rows: ``strength``, ``asked``, ``found``, one row per network.
        name: The figure that was asked for, for the axes.
    """
    strengths = list(dict.fromkeys(rows.strength))
    with theme():
        figure = Figure(figsize=(3.4 * len(strengths), 3.6), layout="constrained")
        panels = figure.subplots(1, len(strengths), sharex=True, sharey=True, squeeze=False)[0]
        ends = [rows.asked.min(), rows.asked.max()]
        for axes, strength in zip(panels, strengths, strict=True):
            chosen = rows[rows.strength == strength]
            sns.scatterplot(chosen, x="asked", y="found", s=10, linewidth=0, alpha=0.6, ax=axes)
            axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=":")
            axes.set(title=f"w = {strength:g}", xlabel=f"{name} asked for", ylabel=f"{name} found")
        for axis, values in ((panels[0].xaxis, rows.asked), (panels[0].yaxis, rows.found)):
            log_scale(axis, values)
        return svg_bytes(figure)
