"""Figure of averages: accuracy over novelty, and loss on test examples by number of networks and by seconds."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wflib.report.audit import HELD_OUT, NOVEL, TRAINING
from wflib.report.labels import place_labels
from wflib.report.theme import INK, colour, label, log_scale, svg_bytes, theme

__all__ = ["averages_figure", "on_the_front"]

Points = list[tuple[float, float, str]]
"""x, y and name of each."""


def averages_figure(joined: pd.DataFrame) -> bytes:
    """A row of three panels a geometry, as SVG.

    Args:
        joined: From :func:`~wflib.report.audit_uncertainty.averages_with_costs`.
    """
    geometries = list(dict.fromkeys(joined["geometry"]))
    with theme():
        figure = Figure(figsize=(15, 4.4 * len(geometries)), layout="constrained")
        panels, named = figure.subplots(len(geometries), 3, squeeze=False), []
        for row, geometry in zip(panels, geometries, strict=True):
            part = joined[joined["geometry"] == geometry]
            curves = part.groupby(["model", "averaged"], sort=False, as_index=False)[["nll", "seconds"]].mean()
            named.append((row[0], accuracy_over_novelty(part, row[0])))
            named.append((row[1], loss_of_averages(curves, "averaged", row[1])))
            named.append((row[2], loss_of_averages(curves[curves["seconds"].notna()], "seconds", row[2])))
            row[0].set_title(geometry)
            row[1].set_xlabel("networks averaged")
            row[2].set_xlabel("seconds for them, training networks and fit counted")
        figure.draw_without_rendering()  # which lays it out
        figure.set_layout_engine("none")
        for axes, points in named:
            place_labels(axes, points)
        return svg_bytes(figure)


def on_the_front(points: pd.DataFrame) -> pd.Series:
    """Whether no other model is at least as novel and as accurate, and one of both more; what is novel is not more so.

    Args:
        points: Columns ``novelty`` and ``accuracy_mean``, a row a model.
    """
    x, y = points["novelty"].clip(upper=NOVEL).to_numpy()[:, None], points["accuracy_mean"].to_numpy()[:, None]
    beaten = (x <= x.T) & (y <= y.T) & ((x < x.T) | (y < y.T))
    return pd.Series(~beaten.any(1), index=points.index)


def accuracy_over_novelty(part: pd.DataFrame, axes: Axes) -> Points:
    """Single networks: a small point a seed, a large one their mean, ringed on the Pareto front; lines of held-out ones."""
    seeds = part.drop_duplicates(["model", "seed"]).dropna(subset=["novelty", "accuracy_mean"])
    means = seeds.groupby("model", sort=False)[["novelty", "accuracy_mean"]].mean()
    for row in seeds.itertuples():
        axes.scatter(row.novelty, row.accuracy_mean, color=colour(row.model), s=8, alpha=0.5)
    models = means.drop(index=[HELD_OUT, TRAINING], errors="ignore")
    front = set(models.index[on_the_front(models)])
    for model, row in means.iterrows():
        ring: dict[str, Any] = {"edgecolors": INK, "linewidths": 1.2} if model in front else {}
        axes.scatter(row["novelty"], row["accuracy_mean"], color=colour(model), s=40, zorder=3, **ring)
    if HELD_OUT in means.index:
        axes.axvline(1, color=INK, linewidth=0.8, linestyle="--")
        axes.axhline(means.loc[HELD_OUT, "accuracy_mean"], color=INK, linewidth=0.8, linestyle="--")
    axes.margins(x=0.2, y=0.1)
    axes.set(xlabel="distance to training networks / held-out networks'", ylabel="test accuracy of single networks")
    return [(row["novelty"], row["accuracy_mean"], label(model)) for model, row in means.iterrows()]


def loss_of_averages(curves: pd.DataFrame, x: str, axes: Axes) -> Points:
    """A line a model, named at its end."""
    ends = []
    for model, curve in curves.groupby("model", sort=False):
        axes.plot(curve[x], curve["nll"], color=colour(model), marker="o", markersize=2.5, linewidth=1)
        ends.append((curve[x].iloc[-1], curve["nll"].iloc[-1], label(model)))
    log_scale(axes.xaxis, curves[x])
    log_scale(axes.yaxis, curves["nll"])
    axes.margins(x=0.2)
    axes.set_ylabel("test NLL of the average [nats]")
    return ends
