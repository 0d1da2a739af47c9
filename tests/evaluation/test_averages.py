"""Averages of networks: of one, of all, and of those between."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import (
    average_curve,
    average_scores,
    bayesian_model_average,
    brier_score,
    expected_calibration_error,
    nested_averages,
)
from wflib.networks import Networks, accuracy, negative_log_likelihood, predict
from wflib.rng import generator
from wflib.tasks import Split


def test_averages_go_from_single_networks_to_all_of_them():
    architecture, random = mlp([3, 4, 3]), generator(0, "networks")
    networks = Networks.from_flat(architecture, torch.randn(20, architecture.dimension, generator=random))
    split = Split(torch.randn(50, 3, generator=random), torch.arange(50) % 3)
    found = average_curve(networks, split, generator(0, "average"), repeats=400)
    assert list(found) == ["average_1", "average_2", "average_5", "average_10", "average_20"]
    log_probabilities = predict(networks, split.inputs)
    single = negative_log_likelihood(log_probabilities, split.targets)
    error = single.std().item() / 400**0.5
    assert found["average_1"] == pytest.approx(single.mean().item(), abs=4 * error)
    whole = negative_log_likelihood(bayesian_model_average(log_probabilities)[None], split.targets)
    assert found["average_20"] == pytest.approx(whole.item(), rel=1e-5)
    losses = list(found.values())
    assert losses == sorted(losses, reverse=True)  # by convexity
    assert found["average_2"] < found["average_1"] - 4 * error


@pytest.fixture
def networks() -> Networks:
    architecture = mlp([3, 4, 3])
    return Networks.from_flat(architecture, torch.randn(12, architecture.dimension, generator=generator(0, "networks")))


@pytest.fixture
def split() -> Split:
    return Split(torch.randn(50, 3, generator=generator(0, "examples")), torch.arange(50) % 3)


def test_nested_averages_are_averages_of_the_first_networks(networks, split):
    log_probabilities, order = predict(networks, split.inputs), torch.randperm(12, generator=generator(0, "order"))
    counts = [1, 3, 7, 12]
    found = nested_averages(log_probabilities, order, counts)
    expected = torch.stack([bayesian_model_average(log_probabilities[order[:count]]) for count in counts])
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(nested_averages(log_probabilities, order.flip(0), counts)[:3], expected[:3])
    torch.testing.assert_close(nested_averages(log_probabilities, order.flip(0), counts)[3], expected[3])
    far = log_probabilities - 2000  # what no probability in floating point is
    torch.testing.assert_close(nested_averages(far, order, counts), expected - 2000)


@pytest.mark.parametrize("counts", [[], [0, 1], [2, 2], [3, 1], [13]])
def test_counts_that_do_not_rise_to_the_number_of_networks_are_refused(networks, split, counts):
    with pytest.raises(ValueError, match="expected rising counts from 1 to 12 at most, got"):
        nested_averages(predict(networks, split.inputs), torch.arange(12), counts)


def test_scores_of_all_networks_are_those_of_their_average(networks, split):
    outside = {"same": split.inputs, "far": 1e4 * split.inputs}
    found = average_scores(networks, split, outside, generator(0, "average"), bins=5, repeats=3)
    assert found["averaged"].tolist() == [1, 2, 5, 10, 12]
    average = bayesian_model_average(predict(networks, split.inputs))[None]
    whole = found.iloc[-1]
    assert whole["nll"] == pytest.approx(negative_log_likelihood(average, split.targets).item(), rel=1e-5)
    assert whole["brier"] == pytest.approx(brier_score(average, split.targets).item(), rel=1e-5)
    assert whole["accuracy"] == pytest.approx(accuracy(average, split.targets).item())
    assert whole["ece"] == pytest.approx(expected_calibration_error(average, split.targets, 5).item(), rel=1e-5)
    assert found["auroc_same"].tolist() == pytest.approx([0.5] * 5)
    assert found["auroc_far"].iloc[0] < 0.1  # one network is sure of what is far
    shares = [whole[f"selective_accuracy_{share}"] for share in (50, 80, 90)]
    assert all(0 <= share <= 1 for share in shares)
    again = average_scores(networks, split, outside, generator(0, "average"), bins=5, repeats=3)
    assert again.equals(found)
    other = average_scores(networks, split, outside, generator(1, "average"), bins=5, repeats=3)
    assert other["nll"].iloc[0] != whole["nll"] != found["nll"].iloc[0] != other["nll"].iloc[0]
