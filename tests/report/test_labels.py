"""Names beside points cover neither one another nor points, where there is room."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from wflib.report import theme
from wflib.report.labels import area, place_labels


def crowd(seed: int, count: int = 10) -> list[tuple[float, float, str]]:
    """Points of which half lie close together, on logarithmic axes."""
    random = np.random.default_rng(seed)
    spread = np.where(np.arange(count) % 2, 0.03, 1.0)[:, None]
    return [(x, y, f"model number {k}") for k, (x, y) in enumerate(np.exp(spread * random.normal(size=(count, 2))))]


@pytest.fixture
def axes():
    with theme():
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        yield figure.subplots()


def drawn(axes, points) -> None:
    axes.scatter(*np.array([point[:2] for point in points]).T)
    axes.set(xscale="log", yscale="log")
    axes.figure.draw_without_rendering()
    axes.figure.set_layout_engine("none")


def overlapping(boxes: list[Bbox]) -> int:
    return sum(area(one, other) > 0 for one, other in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("seed", range(5))
def test_names_do_not_cover_one_another_or_points(axes, seed):
    points = crowd(seed)
    drawn(axes, points)
    naive = [axes.annotate(text, (x, y), (5, 3), textcoords="offset points", fontsize=7) for x, y, text in points]
    assert overlapping([name.get_window_extent() for name in naive]) > 0  # as they were
    for name in naive:
        name.remove()
    names = place_labels(axes, points)
    boxes = [Bbox.from_bounds(*text_box(name)) for name in names]
    assert overlapping(boxes) == 0
    places = axes.transData.transform([point[:2] for point in points])
    assert not [box for box, place in itertools.product(boxes, places) if box.contains(*place)]
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    assert {name.get_text() for name in names} == {text for *_, text in points}


def text_box(name) -> tuple[float, float, float, float]:
    """Of the letters alone, without the line to the point."""
    name.get_window_extent()  # which brings it to its place
    return Text.get_window_extent(name).bounds


def test_places_are_the_same_every_time_and_far_names_have_lines(axes):
    points = [(1 + 1e-6 * k, 1, f"model number {k}") for k in range(12)] + [(3, 3, "alone")]
    drawn(axes, points)
    first = [(name.get_text(), name.get_position()) for name in place_labels(axes, points)]
    other = Figure(figsize=(7, 4.5), layout="constrained").subplots()
    with theme():
        drawn(other, points)
        names = place_labels(other, points)
    assert len(first) == len(names)
    assert {name.get_text(): name.arrow_patch is not None for name in names}["alone"] is False
    assert any(name.arrow_patch is not None for name in names)
    again = Figure(figsize=(7, 4.5), layout="constrained").subplots()
    with theme():
        drawn(again, points)
        assert [name.get_position() for name in place_labels(again, points)] == [name.get_position() for name in names]
