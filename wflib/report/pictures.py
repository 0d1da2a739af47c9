"""Networks side by side: their first weight tensors as images on one colour scale a tensor."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

__all__ = ["network_pictures", "weight_image"]

WIDTH = 9.0
TITLES = {"zoo": "a training network", "sample": "a sample", "nearest": "the training network nearest to it"}
COLOURS = "RdBu_r"
QUANTILE = 0.995
"""Share of weights inside the colour scale: a few large ones must not make all others pale."""


def network_pictures(pictures: pd.DataFrame) -> Figure:
    """A column a network, a row a tensor.

    Args:
        pictures: Columns ``network``, ``distance``, ``tensor``, ``unit``, ``channel``, ``y``, ``x``, ``value``.
    """
    names = [name for name in TITLES if (pictures["network"] == name).any()]
    tensors = list(dict.fromkeys(pictures["tensor"]))
    images = {key: weight_image(part) for key, part in pictures.groupby(["network", "tensor"], sort=False)}
    shapes = [images[names[0], tensor].shape for tensor in tensors]
    heights = [np.clip(WIDTH / len(names) * height / width, 0.4, 3.2) for height, width in shapes]
    layout = ConstrainedLayoutEngine(wspace=0.08)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.45 * len(tensors) + 0.3), layout=layout)
    panels = figure.subplots(len(tensors), len(names), squeeze=False, height_ratios=heights)
    for row, tensor in zip(panels, tensors, strict=True):
        values = pictures.loc[pictures["tensor"] == tensor, "value"].abs()
        limit = float(values.quantile(QUANTILE)) or 1.0
        for axes, name in zip(row, names, strict=True):
            drawn = axes.imshow(images[name, tensor], cmap=COLOURS, vmin=-limit, vmax=limit, aspect="auto")
            plain(axes)
        row[0].set_ylabel(tensor.removesuffix(".weight"))
        bar = figure.colorbar(drawn, ax=list(row), shrink=0.9, pad=0.01, aspect=12)
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(2, symmetric=True)
        bar.update_ticks()
    for axes, name in zip(panels[0], names, strict=True):
        distance = pictures.loc[pictures["network"] == name, "distance"].iloc[0]
        away = "" if name == "sample" else f"\n{distance:.3g} away"
        axes.set_title(f"{TITLES[name]}{away}", fontsize="medium")
    return figure


def weight_image(part: pd.DataFrame) -> np.ndarray:
    """One tensor of one network as a picture: a matrix as it is, filters as tiles with a gap between them.

    Args:
        part: Columns ``unit``, ``channel``, ``y``, ``x``, ``value``, every place once.

    Returns:
        A matrix; (units, inputs), or tiles of (y, x) in rows of units and columns of channels, or in a near square of units
        where there is one channel. Gaps are NaN.
    """
    shape = tuple(part[["unit", "channel", "y", "x"]].max() + 1)
    ordered: np.ndarray = part.sort_values(["unit", "channel", "y", "x"])["value"].to_numpy(dtype=float).reshape(shape)
    units, channels, height, width = shape
    if height == 1:
        return ordered.reshape(units, channels * width)
    if channels == 1:
        columns = int(np.ceil(np.sqrt(units)))
        lacking = -units % columns
        filled = np.concatenate([ordered, np.full((lacking, 1, height, width), np.nan)])
        ordered = filled.reshape(-1, columns, height, width)
    framed = np.pad(ordered, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    rows, columns = framed.shape[:2]
    return framed.transpose(0, 2, 1, 3).reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1]


def plain(axes: Axes) -> None:
    """No ticks and no frame: places of weights have no names."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
