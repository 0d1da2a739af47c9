"""Signs of neurons with odd activations: left alone by default, made canonical when asked."""

from __future__ import annotations

import pytest
import torch

from tests.cases import ARCHITECTURES, LINEAR, TOLERANCE, copy_of, largest_difference, random_networks, random_weights
from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import canonicalize, decanonicalize, permute, random_permutations, random_scales, scale
from wflib.symmetry.scaling import scaling_kind

ALL = ARCHITECTURES | LINEAR
over_all = pytest.mark.parametrize("architecture", ALL.values(), ids=ALL)
NETWORKS = 3


def distance(architecture, a, b) -> float:
    return float((architecture.flatten(a) - architecture.flatten(b)).abs().max())


def has_signs(architecture) -> bool:
    return any(scaling_kind(architecture, group.name) in ("sign", "any") for group in architecture.hidden_groups)


@over_all
def test_functions_stay_there_and_back(architecture):
    networks = random_networks(architecture)
    canonical = canonicalize(networks, signs=True)
    assert largest_difference(networks, canonical.networks) < TOLERANCE
    back = decanonicalize(canonical.networks, canonical.record)
    assert back.architecture == architecture
    assert distance(architecture, back.weights, networks.weights) < TOLERANCE
    if has_signs(architecture):
        unsigned = {group: factor.abs() for group, factor in canonical.record.items()}
        assert distance(architecture, decanonicalize(canonical.networks, unsigned).weights, networks.weights) > 1e-3


@over_all
def test_orbits_of_all_scalings_have_one_representative(architecture):
    weights = random_weights(architecture)
    moved = scale(
        Networks(architecture, weights), random_scales(architecture, NETWORKS, generator(0, "scales"), dtype=torch.float64)
    ).weights
    here, there = (canonicalize(Networks(architecture, side), signs=True) for side in (weights, moved))
    assert distance(here.networks.architecture, here.networks.weights, there.networks.weights) < TOLERANCE
    without = [canonicalize(Networks(architecture, side)).networks.weights for side in (weights, moved)]
    assert (distance(here.networks.architecture, *without) > 1e-3) == has_signs(architecture)


@over_all
def test_twice_is_once_and_permutations_commute(architecture):
    networks = random_networks(architecture)
    once = canonicalize(networks, signs=True)
    twice = canonicalize(once.networks, signs=True)
    assert distance(once.networks.architecture, once.networks.weights, twice.networks.weights) < TOLERANCE
    assert all(float((factor - 1).abs().max()) < TOLERANCE for factor in twice.record.values())
    order = random_permutations(architecture, NETWORKS, generator(0, "order"))
    moved = canonicalize(permute(networks, order), signs=True)
    assert distance(once.networks.architecture, permute(once.networks, order).weights, moved.networks.weights) < TOLERANCE


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_neurons_without_incoming_weights_take_the_sign_of_their_bias(activation):
    architecture = mlp([3, 5, 2], activation)
    networks = Networks(architecture, copy_of(random_weights(architecture)))
    networks.weights["linear1.weight"][0, :2] = 0
    networks.weights["linear1.bias"][0, :2] = torch.tensor([-2.0, 0.0])
    canonical = canonicalize(networks, "weights", signs=True)
    assert canonical.record["hidden1"][0, :2].tolist() == [-1, 1]
    assert canonical.networks.weights["linear1.bias"][0, 0] == 2
    assert largest_difference(networks, canonical.networks) < TOLERANCE


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_signs_are_left_as_they_are_by_default(activation):
    architecture = mlp([3, 5, 2], activation)
    weights = random_weights(architecture)
    signs = {"hidden1": torch.tensor([1.0, -1, -1, 1, -1], dtype=torch.float64).expand(NETWORKS, -1)}
    here, there = (
        canonicalize(Networks(architecture, side))
        for side in (weights, scale(Networks(architecture, weights), signs).weights)
    )
    assert distance(here.networks.architecture, scale(here.networks, signs).weights, there.networks.weights) < TOLERANCE
    assert distance(here.networks.architecture, here.networks.weights, there.networks.weights) > 1e-3
