"""The report's figures: which panels go together, their names, titles and captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from wflib.report.barriers import barrier_limits, barrier_matrix
from wflib.report.curves import learning_rate, quality_by_steps, training_loss
from wflib.report.data import ReportData
from wflib.report.pictures import network_pictures
from wflib.report.sources import calibration, distribution, diversity, variance_ratio
from wflib.report.theme import INK

__all__ = ["FIGURES", "ReportFigure"]

WIDTH = 9.0
LABELS = {
    "accuracy": "test accuracy",
    "nll": "test negative log-likelihood [nats]",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "nearest_distance": "distance to nearest training network",
    "error_overlap": "overlap of errors with a training network (IoU)",
}


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    Attributes:
        name: Name of its file, without folder and suffix.
        title: Heading.
        caption: How to read it.
        draw: Draws it inside ``theme()``; ``None`` where its tables have no rows.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[ReportData], Figure | None]


def networks(data: ReportData) -> Figure | None:
    return network_pictures(data.pictures) if len(data.pictures) else None


def quality(data: ReportData) -> Figure | None:
    metrics = filled(data.networks, ["accuracy", "nll"])
    return by_network(data, metrics)


def novelty(data: ReportData) -> Figure | None:
    metrics = filled(data.networks, ["nearest_distance", "error_overlap"])
    return by_network(data, metrics)


def by_network(data: ReportData, metrics: list[str]) -> Figure | None:
    if not metrics:
        return None
    networks, errors = data.networks, data.groups.set_index("source").astype(float)
    rows = networks.dropna(subset=metrics, how="all")["source"].nunique()
    figure, panels = canvas(len(metrics), 1.1 + 0.38 * rows)
    for metric, axes in zip(metrics, panels, strict=True):
        known = errors[f"{metric}_error"].to_dict()
        distribution(networks, metric, axes, text=LABELS[metric], log=metric == "nll", errors=known)
    return figure


def spread(data: ReportData) -> Figure | None:
    panels_of = {"diversity": diversity, "variance_ratio": variance_ratio}
    columns = filled(data.groups, list(panels_of))
    if not columns:
        return None
    rows = data.groups[columns].notna().any(axis=1).sum()
    figure, panels = canvas(len(columns), 1.1 + 0.36 * rows)
    for column, axes in zip(columns, panels, strict=True):
        panels_of[column](data.groups, axes)
    return figure


def calibrations(data: ReportData) -> Figure | None:
    scores = [score for score in ("ece", "brier") if filled(data.groups, [f"{score}_mean", f"bma_{score}"])]
    if not scores:
        return None
    figure, panels = canvas(len(scores), 1.4 + 0.36 * len(data.groups))
    for score, axes in zip(scores, panels, strict=True):
        calibration(data.groups, score, axes, text=LABELS[score])
    hollow = Line2D([], [], color=INK, linestyle="none", marker="o", markerfacecolor="white", markeredgewidth=1.6)
    handles = [hollow, Line2D([], [], color=INK, linestyle="none", marker="D")]
    figure.legend(handles, ["single networks, mean", "model average"], loc="outside upper left", ncols=2)
    return figure


def barriers(data: ReportData) -> Figure | None:
    stages = [stage for stage in ("unaligned", "aligned") if (data.barriers["stage"] == stage).any()]
    if not stages:
        return None
    figure, panels = canvas(len(stages), 4.0)
    low, high = barrier_limits(data.barriers)
    for stage, axes in zip(stages, panels, strict=True):
        barrier_matrix(data.barriers, stage, axes, limits=(low, high))
    beyond = bool((data.barriers["excess"] > high).any())
    bar = figure.colorbar(panels[0].images[0], ax=panels, shrink=0.85, extend="max" if beyond else "neither")
    bar.set_label("excess loss at the midpoint [nats]")
    bar.outline.set_visible(False)
    return figure


def steps(data: ReportData) -> Figure | None:
    metrics = [metric for metric in ("accuracy", "nll") if filled(data.curve, [f"{metric}_mean"])]
    if not metrics:
        return None
    figure, panels = canvas(len(metrics), 3.7)
    zoo = data.groups[data.groups["source"] == "zoo"]
    for metric, axes in zip(metrics, panels, strict=True):
        levels = zoo[[f"{metric}_mean", f"{metric}_std"]].to_numpy(dtype=float)
        level = tuple(np.nan_to_num(levels[0])) if len(levels) and np.isfinite(levels[0, 0]) else None
        quality_by_steps(data.curve, metric, axes, text=LABELS[metric], zoo=level, log=metric == "nll")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=len(names))
    return figure


def training(data: ReportData) -> Figure | None:
    if not filled(data.history, ["loss"]):
        return None
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    if not filled(data.history, ["learning_rate"]):
        training_loss(data.history, figure.subplots())
        return figure
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    training_loss(data.history, upper).set(xlabel="")
    learning_rate(data.history, lower)
    return figure


def filled(table: pd.DataFrame, columns: list[str]) -> list[str]:
    return [column for column in columns if table[column].notna().any()]


def canvas(count: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(wspace=0.06))
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


FIGURES = (
    ReportFigure(
        "networks",
        "Networks themselves",
        "Weights of a sample between a training network and the one nearest to the sample, neurons in one "
        "order: a row a neuron, or an image a neuron where the task has images; blue is negative, red positive. Numbers are "
        "distances from the sample over all weights. A copy would look like its neighbour; a new network differs from it "
        "about as much as from any other.",
        networks,
    ),
    ReportFigure(
        "quality",
        "Quality of single networks",
        "Each point is one network on test data that nothing else used; boxes show quartiles, whiskers go from 5 to 95 %. "
        "Samples should lie where the zoo and the held-out networks lie: far right for accuracy, far left for the negative "
        "log-likelihood (logarithmic axis).",
        quality,
    ),
    ReportFigure(
        "calibration",
        "Calibration",
        "Hollow circles are the mean over single networks, filled diamonds the average of their predicted probabilities; "
        "further left is better. A long line to the left means that averaging the networks pays.",
        calibrations,
    ),
    ReportFigure(
        "diversity",
        "Diversity",
        "Left: mean Jensen–Shannon divergence between the predictions of two networks of a source; samples should come near "
        "the zoo's level (dashed). Right: variance of the weights relative to the zoo's, after alignment; inside the grey "
        "range (0.8 to 1.2) a source has the zoo's spread, to its left it has collapsed.",
        spread,
    ),
    ReportFigure(
        "novelty",
        "Novelty",
        "How near each network is to the training network most like it, in weights (left) and in the test inputs both get "
        "wrong (right). Copies would have small distances and large overlaps, as the training networks with noise show; new "
        "networks look like the held-out ones.",
        novelty,
    ),
    ReportFigure(
        "barriers",
        "Loss barriers between networks",
        "Each cell is a pair of networks: the loss at the midpoint of their weights above the mean loss of the two. Darker "
        "is lower: alignment works if the right matrix is darker than the left one on their common colour scale.",
        barriers,
    ),
    ReportFigure(
        "steps",
        "Quality by number of steps",
        "Samples drawn with more steps cost more and follow the flow more closely; bars are one standard deviation over "
        "networks. The line and band show the zoo.",
        steps,
    ),
    ReportFigure(
        "training",
        "Training of the flow",
        "Loss on training networks and on held-out networks; a validation loss that rises while the training loss falls "
        "means that the flow learns its training networks by heart. Below, the learning rate.",
        training,
    ),
)
