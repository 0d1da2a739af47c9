"""Averages of networks: of one, of all, and of those between."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import average_curve, bayesian_model_average
from wflib.networks import Networks, negative_log_likelihood, predict
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
