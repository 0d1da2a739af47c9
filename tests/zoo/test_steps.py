"""A few steps of training from given weights, of every kind of network."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp, resnet
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.tasks import Split
from wflib.zoo import adam_steps, initialize

KINDS = {
    f"{kind}-{task}": make(task)
    for task in ("classification", "regression")
    for kind, make in {
        "mlp": lambda task: mlp([64, 4, 2], task_type=task),
        "resnet": lambda task: resnet((1, 8, 8), [2, 3], 2, task_type=task),
    }.items()
}


@pytest.mark.parametrize("name", KINDS)
def test_steps_lower_the_loss_of_every_network(name):
    architecture, random = KINDS[name], generator(0, "steps")
    inputs = torch.randn(30, *architecture.inputs, generator=random)
    targets = torch.arange(30) % 2 if "classification" in name else torch.randn(30, 2, generator=random)
    split, start = Split(inputs, targets), initialize(architecture, 3, 0.3, random, "he")
    before, after = (network_losses(networks, split) for networks in adam_steps(start, split, [0, 15], 0.01))
    assert (after < before).all()


def test_no_networks_are_refused():
    networks = Networks.from_flat(mlp([3, 2]), torch.zeros(2, 8))
    split = Split(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    assert len(adam_steps(networks, split, 1, 0.1)[0]) == 2
    with pytest.raises(ValueError, match="at least one network, got none"):
        adam_steps(networks[:0], split, 1, 0.1)
