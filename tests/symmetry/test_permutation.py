"""Permutations of hidden neurons: a group that acts on weights and leaves functions alone."""

from __future__ import annotations

import pytest
import torch

from tests.cases import ARCHITECTURES, LINEAR, TOLERANCE, largest_difference, random_networks, random_weights
from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import compose, identity, inverse, permute, random_permutations

over_all = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
NETWORKS = 3


def permutations(architecture, name: str):
    return random_permutations(architecture, NETWORKS, generator(0, name))


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@over_all
def test_permuting_preserves_the_function(architecture):
    networks = random_networks(architecture)
    permuted = permute(networks, permutations(architecture, "a"))
    assert not equal(permuted.weights, networks.weights)
    assert largest_difference(networks, permuted) < TOLERANCE


@over_all
def test_an_uncoupled_permutation_changes_the_function(architecture):
    networks = random_networks(architecture)
    for group in architecture.hidden_groups:
        shift = {group.name: torch.arange(group.size).roll(1).expand(NETWORKS, -1)}
        coupled = permute(networks, shift)
        assert largest_difference(networks, coupled) < TOLERANCE
        outgoing = next(layer.weight for layer in architecture.layers if layer.source == group.name)
        uncoupled = coupled.weights | {outgoing: networks.weights[outgoing]}
        assert largest_difference(networks, Networks(architecture, uncoupled)) > 1e-3


@over_all
def test_permutations_form_a_group(architecture):
    a, b, c = (permutations(architecture, name) for name in "abc")
    neutral = identity(architecture, NETWORKS)
    assert equal(compose(a, neutral), a)
    assert equal(compose(neutral, a), a)
    assert equal(compose(a, inverse(a)), neutral)
    assert equal(compose(inverse(a), a), neutral)
    assert equal(compose(compose(a, b), c), compose(a, compose(b, c)))
    assert equal(inverse(compose(a, b)), compose(inverse(b), inverse(a)))
    assert not equal(a, neutral)
    assert not equal(compose(a, b), compose(b, a))


@over_all
def test_weights_follow_composition(architecture):
    networks = random_networks(architecture)
    first, second = permutations(architecture, "first"), permutations(architecture, "second")
    one_by_one = permute(permute(networks, first), second).weights
    assert equal(one_by_one, permute(networks, compose(second, first)).weights)
    assert not equal(one_by_one, permute(networks, compose(first, second)).weights)
    assert equal(permute(permute(networks, first), inverse(first)).weights, networks.weights)
    assert equal(permute(networks, identity(architecture, NETWORKS)).weights, networks.weights)


def test_neuron_k_of_the_permuted_network_is_neuron_p_of_k():
    architecture = mlp([2, 3, 1])
    weights = random_weights(architecture, networks=1)
    permuted = permute(Networks(architecture, weights), {"hidden1": torch.tensor([[2, 0, 1]])}).weights
    for k, original in enumerate([2, 0, 1]):
        assert torch.equal(permuted["linear1.weight"][0, k], weights["linear1.weight"][0, original])
        assert permuted["linear1.bias"][0, k] == weights["linear1.bias"][0, original]
        assert permuted["linear2.weight"][0, 0, k] == weights["linear2.weight"][0, 0, original]
    assert torch.equal(permuted["linear2.bias"], weights["linear2.bias"])


def test_random_permutations_are_uniform_and_independent():
    drawn = random_permutations(mlp([2, 3, 3, 1]), 6000, generator(0, "uniform"))
    for indices in drawn.values():
        assert torch.equal(indices.sort(1).values, torch.arange(3).expand(6000, -1))
        _, counts = torch.unique(indices, dim=0, return_counts=True)
        assert len(counts) == 6
        assert float((counts - 1000).abs().max()) < 5 * 30
    agree = (drawn["hidden1"] == drawn["hidden2"]).all(1).double().mean()
    assert abs(float(agree) - 1 / 6) < 0.025


def test_networks_without_hidden_neurons_have_the_trivial_group():
    for architecture in LINEAR.values():
        weights = random_weights(architecture)
        assert permutations(architecture, "a") == identity(architecture, NETWORKS) == {}
        assert equal(permute(Networks(architecture, weights), {}).weights, weights)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden2": torch.zeros(NETWORKS, 4, dtype=torch.int64)}, "'hidden2' is no hidden group.*hidden1"),
        ({"output": torch.arange(2).expand(NETWORKS, -1)}, "'output' is no hidden group.*hidden1"),
        ({"hidden1": torch.arange(3).expand(NETWORKS, -1)}, r"hidden1 expected \(3, 4\), got \(3, 3\)"),
        ({"hidden1": torch.arange(4).expand(2, -1)}, r"hidden1 expected \(3, 4\), got \(2, 4\)"),
        ({"hidden1": torch.tensor([0, 0, 1, 2]).expand(NETWORKS, -1)}, "hidden1.*each neuron once"),
        ({"hidden1": torch.tensor([0, 1, 2, 4]).expand(NETWORKS, -1)}, "hidden1.*each neuron once"),
    ],
)
def test_what_is_no_permutation_is_refused(wrong, message):
    architecture = mlp([2, 4, 2])
    with pytest.raises(ValueError, match=message):
        permute(random_networks(architecture), wrong)
