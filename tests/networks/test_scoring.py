"""Losses against their definitions, and targets that belong to other outputs."""

from __future__ import annotations

import pytest
import torch

from tests.cases import random_networks
from wflib.architecture import mlp
from wflib.networks import network_losses
from wflib.rng import generator
from wflib.tasks import Split

REGRESSION = mlp([3, 4, 1], task_type="regression")


def test_targets_of_a_regression_are_those_of_its_own_examples():
    networks, random = random_networks(REGRESSION, 2), generator(0, "regression")
    inputs, targets = (torch.randn(5, count, generator=random, dtype=torch.float64) for count in (3, 1))
    expected = 0.5 * (networks.forward(inputs) - targets).square().mean((1, 2))
    torch.testing.assert_close(network_losses(networks, Split(inputs, targets)), expected)
    own = Split(inputs.expand(2, *inputs.shape), targets.expand(2, *targets.shape))
    torch.testing.assert_close(network_losses(networks, own), expected)
    # One number an example would be compared with all examples' outputs.
    assert (0.5 * (networks.forward(inputs) - targets[:, 0]).square().mean((1, 2)) - expected).abs().min() > 0.01
    for wrong in (targets[:, 0], targets[:1], targets.expand(5, 2)):
        with pytest.raises(ValueError, match=r"expected targets \(examples, outputs\) of a regression, \(5, 1\), got"):
            network_losses(networks, Split(inputs, wrong))
