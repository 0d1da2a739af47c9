"""Reliability: sure networks are as often right as they say, the calibration error is its gaps, over-confidence shows."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import RELIABILITY_SCHEMA, expected_calibration_error, reliability_table
from wflib.networks import Networks, predict
from wflib.rng import generator
from wflib.tasks import Split
from wflib.zoo import initialize


@pytest.fixture
def networks() -> Networks:
    return initialize(mlp([3, 4, 3]), 5, 1.0, generator(0, "reliability")).to(torch.float64)


def labelled(networks: Networks, sharper: float = 1.0, count: int = 4000) -> Split:
    """Examples whose classes are drawn from the first network's own predictions, made sharper."""
    random = generator(1, "reliability")
    inputs = torch.randn(count, 3, generator=random, dtype=torch.float64)
    probabilities = (sharper * predict(networks[:1], inputs)[0]).softmax(-1)
    return Split(inputs, torch.multinomial(probabilities, 1, generator=random)[:, 0])


def test_confidence_is_accuracy_where_classes_are_drawn_from_predictions(networks):
    table = reliability_table("one", networks[:1], labelled(networks), 10)
    assert list(table.columns) == list(RELIABILITY_SCHEMA)
    errors = (table.accuracy * (1 - table.accuracy) / (4000 * table.share)).pow(0.5)
    assert bool(((table.accuracy - table.confidence).abs() < 4 * errors + 1e-3).all())
    other = reliability_table("one", networks[:1], labelled(networks, sharper=0.2), 10)  # over-confident networks
    assert (other.share * (other.confidence - other.accuracy)).sum() > 0.1


def test_gaps_weighted_by_shares_are_the_calibration_error_of_one_network(networks):
    split = labelled(networks, sharper=0.5, count=300)
    table = reliability_table("one", networks[:1], split, 7)
    gap = (table.share * (table.accuracy - table.confidence).abs()).sum()
    expected = expected_calibration_error(predict(networks[:1], split.inputs), split.targets, 7).item()
    assert gap == pytest.approx(expected, abs=1e-9)


def test_bins_pool_networks_and_examples_and_leave_out_empty_ones(networks):
    split = labelled(networks, count=50)
    table = reliability_table("all", networks, split, 10)
    assert table.share.sum() == pytest.approx(1)
    assert table.confidence.is_monotonic_increasing
    assert bool((table.confidence > 1 / 3 - 1e-9).all())  # of three classes one has a third
    right = (predict(networks, split.inputs).argmax(-1) == split.targets).double().mean().item()
    assert (table.share * table.accuracy).sum() == pytest.approx(right)


def test_no_bins_are_refused(networks):
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        reliability_table("all", networks, labelled(networks, count=5), 0)
