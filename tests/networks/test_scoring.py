"""Losses against their definitions, and targets that belong to other outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.cases import random_networks
from wflib.architecture import Architecture, cnn, mlp
from wflib.networks import Networks, batch_losses, largest_value, network_losses, predict, scoring
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


def test_networks_with_large_values_run_as_few_at_once_as_memory_holds(monkeypatch):
    """Two channels of 8 × 8 are 128 numbers of each of 5 examples; two networks' are 1,280."""
    architecture = cnn((1, 8, 8), [2], 3)
    random = generator(0, "networks")
    networks = Networks.from_flat(architecture, torch.randn(5, architecture.dimension, generator=random))
    inputs = torch.randn(5, 1, 8, 8, generator=random)
    split, sizes, run = Split(inputs, torch.arange(5) % 3), [], Architecture.run
    everything = predict(networks, inputs), network_losses(networks, split)

    def counted(self, weights, *others):
        sizes.append(len(next(iter(weights.values()))))
        return run(self, weights, *others)

    monkeypatch.setattr(scoring, "NUMBERS", 2 * 5 * 128)
    monkeypatch.setattr(Architecture, "run", counted)
    assert largest_value(architecture) == 128
    found = predict(networks, inputs), network_losses(networks, split)
    assert sizes == [2, 2, 1, 2, 2, 1]
    for parts, whole in zip(found, everything, strict=True):
        torch.testing.assert_close(parts, whole)
    sizes.clear()
    predict(networks, inputs, chunk=1)
    assert sizes == [1] * 5
    sizes.clear()
    network_losses(networks, Split(inputs.expand(5, *inputs.shape), split.targets.expand(5, -1)))
    assert sizes == [5]  # examples of their own are there already
    perceptrons = Networks.from_flat(mlp([64, 100, 3]), torch.randn(5, mlp([64, 100, 3]).dimension, generator=random))
    sizes.clear()
    predict(perceptrons, inputs.flatten(1))
    assert sizes == [5]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm, self.last = nn.Linear(4, 3), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.norm(self.second(self.norm(self.first(x)))))


@pytest.mark.parametrize("momentum", [0.1, 1.0])
def test_statistics_of_a_norm_that_is_used_twice_move_twice(momentum):
    architecture = Architecture.from_module(Twice().double().eval(), torch.zeros(2, 4, dtype=torch.float64))
    random = generator(0, "twice")
    weights = architecture.unflatten(torch.rand(1, architecture.dimension, generator=random, dtype=torch.float64) + 0.1)
    inputs, targets = torch.randn(7, 4, generator=random, dtype=torch.float64), torch.arange(7) % 2
    losses, found = batch_losses(architecture, weights, Split(inputs, targets), momentum)
    module = Twice().double().train()
    module.load_state_dict({name: tensor[0] for name, tensor in weights.items()}, strict=False)
    module.norm.momentum = momentum
    torch.testing.assert_close(losses[0], nn.functional.cross_entropy(module(inputs), targets))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor[0], module.state_dict()[name])
