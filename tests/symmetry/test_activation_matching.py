"""Activation matching: exact assignments on activations, per hidden group."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from tests.cases import ARCHITECTURES, LINEAR, TOLERANCE, largest_difference, random_inputs, random_networks, random_weights
from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import activation_matching, identity, inverse, permute, random_permutations

NETWORKS = 5


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_known_permutations_are_found(architecture):
    reference, inputs = random_weights(architecture, 1), random_inputs(architecture, 50)
    hidden = random_permutations(architecture, NETWORKS, generator(0, "hide"))
    networks = permute(Networks(architecture, {n: t.expand(NETWORKS, *t.shape[1:]) for n, t in reference.items()}), hidden)
    found = activation_matching(Networks(architecture, reference), networks, inputs, chunk=2)
    aligned = permute(networks, found)
    assert largest_difference(networks, aligned) < TOLERANCE
    # Neurons that fire for no input may be exchanged; all others are found.
    activations = architecture.activations(reference, inputs)
    for group, indices in inverse(hidden).items():
        alive = activations[group][0].abs().amax(0) > 0
        assert torch.equal(found[group][:, alive], indices[:, alive])
    assert any(not torch.equal(indices, identity(architecture, NETWORKS)[group]) for group, indices in found.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_finds_what_its_numbers_in_full_precision_would(dtype):
    """Sums of these products over examples are above float16's 65,504."""
    architecture = mlp([3, 4, 2])
    reference, networks = (random_networks(architecture, n, seed=n).map(lambda t: 30 * t).to(dtype) for n in (1, NETWORKS))
    inputs = random_inputs(architecture, 100)
    found = activation_matching(reference, networks, inputs)
    right = activation_matching(reference.to(torch.float32), networks.to(torch.float32), inputs)
    assert all(torch.equal(found[name], right[name]) for name in right)


@pytest.mark.parametrize("width", [2, 4])
def test_no_order_brings_activations_nearer(width):
    architecture = mlp([3, width, 2])
    reference, weights = random_weights(architecture, 1, seed=1), random_weights(architecture, NETWORKS, seed=2)
    inputs = random_inputs(architecture, 20)
    found = activation_matching(Networks(architecture, reference), Networks(architecture, weights), inputs)["hidden1"]
    aim, ours = (architecture.activations(side, inputs)["hidden1"] for side in (reference, weights))
    for index in range(NETWORKS):
        distances = {
            order: float(((aim[0] - ours[index][:, list(order)]) ** 2).sum()) for order in permutations(range(width))
        }
        assert distances[tuple(found[index].tolist())] == pytest.approx(min(distances.values()))
        assert max(distances.values()) > min(distances.values()) + 1e-3


def test_networks_without_hidden_neurons_need_no_matching():
    for architecture in LINEAR.values():
        weights = random_weights(architecture)
        assert (
            activation_matching(
                random_networks(architecture, 1),
                Networks(architecture, weights),
                random_inputs(architecture),
            )
            == {}
        )
