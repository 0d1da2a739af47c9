"""What networks cost, and from how many on drawing pays."""

from __future__ import annotations

import math

import pytest

from wflib.report import Cost, cost_of_run

SECONDS = {"fetch-data": 1, "train-zoo": 60, "align": 6, "canonicalize": 3, "train-flow": 420, "sample": 13, "evaluate": 99}


def test_drawing_pays_from_where_both_cost_the_same():
    cost = cost_of_run(SECONDS, {"networks": 1000, "draw_seconds": 2.0}, trained=16_000)
    assert cost == Cost(490, 0.002, 60 / 16_000)
    number = cost.pays_from
    assert cost.before + number * cost.draw == pytest.approx(number * cost.training)
    assert "drawing pays from 280,000 networks on" in cost.sentence()
    assert cost.metrics["pays_from"] == number


def test_drawing_that_costs_more_than_training_never_pays():
    cost = cost_of_run(SECONDS, {"networks": 1000, "draw_seconds": 13.0}, trained=16_000)
    assert math.isinf(cost.pays_from)
    assert "13 ms, training one anew 3.75 ms" in cost.sentence()
    assert "drawing never pays" in cost.sentence()
    assert "pays_from" not in cost.metrics


def test_a_model_that_learns_from_no_networks_needs_no_zoo():
    drawing = {"networks": 1000, "draw_seconds": 1.0, "fit_seconds": 5.0}
    cost = cost_of_run(SECONDS, drawing, trained=16_000, from_zoo=False)
    assert cost.before == SECONDS["fetch-data"] + 5


def test_another_model_costs_its_own_fit_and_not_the_flows():
    cost = cost_of_run(SECONDS, {"networks": 1000, "draw_seconds": 1.0, "fit_seconds": 5.0}, trained=16_000)
    assert cost == Cost(75, 0.001, 60 / 16_000)
