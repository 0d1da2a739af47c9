"""Names beside points that do not cover one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Affine2D, Bbox

from wflib.report.theme import INK

__all__ = ["place_labels"]

RADII = (5, 9, 14, 20, 27, 36, 48, 62, 80)
"""Distances from a point to try, in points (1/72 inch)."""
NEAR = 9
"""Distance up to which a name needs no line to its point."""
DIRECTIONS = np.exp(1j * np.pi / 8 * np.array([0, 1, -1, 8, 7, -7, 2, -2, 6, -6, 4, -4, 3, -3, 5, -5]))
POINT = 3
"""Half the width that a point takes, in points."""


def place_labels(axes: Axes, points: Sequence[tuple[float, float, str]], size: float = 7) -> list[Annotation]:
    """Write each point's name at the nearest place where it covers no other name and no point.

    The figure must have its final layout, and limits and scales of the axes their final values: places are those of the
    page, not of the data. The same points get the same places every time.

    Args:
        axes: Where points have been drawn.
        points: x, y and name of each.
        size: Of the letters, in points.

    Returns:
        The names, those further away with a line to their point. Where no place is free, the one that covers least.
    """
    scale = axes.figure.dpi / 72
    places = axes.transData.transform([point[:2] for point in points])
    taken = [Bbox.from_extents(*(place - POINT * scale), *(place + POINT * scale)) for place in places]
    placed = []
    for (x, y, text), place in sorted(zip(points, places, strict=True), key=lambda one: (-one[1][1], one[1][0], one[0][2])):
        name = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", fontsize=size, va="center")
        name.set_in_layout(False)
        box = name.get_window_extent()
        offset, found = best_place(place / scale, box.width / scale, box.height / scale, taken, axes.bbox, scale)
        name.set_position(offset)
        name.set_horizontalalignment("left")
        taken.append(found)
        if np.abs(nearest_corner(place, found)).max() > NEAR * scale:
            style = {"arrowstyle": "-", "color": INK, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2, "alpha": 0.6}
            name.remove()
            name = axes.annotate(
                text, (x, y), offset, textcoords="offset points", fontsize=size, va="center", ha="left", arrowprops=style
            )
            name.set_in_layout(False)
        placed.append(name)
    return placed


def best_place(
    place: np.ndarray, width: float, height: float, taken: list[Bbox], inside: Bbox, scale: float
) -> tuple[tuple[float, float], Bbox]:
    """Offset in points of a name's left end, and its box in pixels: the first free one, else the one that covers least."""
    best, least = None, np.inf
    for radius in RADII:
        for direction in DIRECTIONS:
            x, y = radius * direction.real, radius * direction.imag
            left = x - width * (1 - np.sign(np.round(x, 6))) / 2  # the name's near side or middle is at the radius
            box = Bbox.from_bounds(place[0] + left, place[1] + y - height / 2, width, height).transformed(
                Affine2D().scale(scale)
            )
            covered = sum(area(box, other) for other in taken) + outside(box, inside)
            if covered < least:
                best, least = ((float(left), float(y)), box), covered
            if covered == 0:
                return (float(left), float(y)), box
    assert best is not None
    return best


def area(one: Bbox, other: Bbox) -> float:
    """What two boxes share."""
    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else shared.width * shared.height


def outside(box: Bbox, inside: Bbox) -> float:
    """How much of a box lies outside another."""
    within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
    return 0.0 if within else box.width * box.height - area(box, inside)


def nearest_corner(place: np.ndarray, box: Bbox) -> np.ndarray:
    """From a point to the nearest place of a box, in pixels."""
    away: np.ndarray = np.clip(place, [box.x0, box.y0], [box.x1, box.y1]) - place
    return away
