"""Sinkhorn and activation matching: relaxed permutations behave as permutations, and known ones are found."""

from __future__ import annotations

import pytest
import torch

from tests.cases import ARCHITECTURES, random_inputs, random_weights
from wflib.architecture import mlp
from wflib.rng import generator
from wflib.symmetry import (
    activation_matching,
    identity,
    inverse,
    mix,
    permute,
    random_permutations,
    sinkhorn,
    sinkhorn_matching,
    squared_distance,
    weight_matching,
)
from wflib.symmetry.sinkhorn import matrices_of

NETWORKS = 5
DEEP = mlp([6, 7, 5, 3])


def disguised(architecture, noise: float = 0.02):
    """A reference, copies of it in random neuron order with noise, and the permutations that undo the order."""
    reference = random_weights(architecture, 1)
    copies = {name: tensor.expand(NETWORKS, *tensor.shape[1:]) for name, tensor in reference.items()}
    hidden, random = random_permutations(architecture, NETWORKS, generator(0, "hide")), generator(0, "noise")
    permuted = permute(architecture, copies, hidden)
    noisy = {k: v + noise * torch.randn(v.shape, generator=random, dtype=v.dtype) for k, v in permuted.items()}
    return reference, noisy, inverse(hidden)


def test_sinkhorn_gives_doubly_stochastic_matrices():
    logits = torch.randn(4, 6, 6, generator=generator(0, "x"), dtype=torch.float64)
    matrix = sinkhorn(logits, sweeps=200)
    assert torch.allclose(matrix.sum(-1), torch.ones(4, 6, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(matrix.sum(-2), torch.ones(4, 6, dtype=torch.float64), atol=1e-10)
    assert not torch.allclose(sinkhorn(logits, sweeps=1).sum(-1), torch.ones(4, 6, dtype=torch.float64), atol=1e-2)


def test_sinkhorn_is_stable_and_becomes_a_permutation_as_temperature_falls():
    logits = 1e4 * torch.randn(3, 5, 5, generator=generator(0, "x"))
    assert bool(torch.isfinite(sinkhorn(logits)).all())
    permutation = torch.randperm(5, generator=generator(0, "p"))
    cold = sinkhorn(torch.nn.functional.one_hot(permutation, 5).double()[None], temperature=0.01)
    assert torch.equal(cold.round()[0].argmax(1), permutation)
    assert float((cold - cold.round()).abs().max()) < 1e-10
    assert float((sinkhorn(cold, temperature=10) - cold).abs().max()) > 0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_mixing_with_permutation_matrices_permutes(architecture):
    weights = random_weights(architecture, NETWORKS)
    permutations = random_permutations(architecture, NETWORKS, generator(0, "p"))
    mixed = mix(architecture, weights, matrices_of(permutations, torch.float64, torch.device("cpu")))
    expected = permute(architecture, weights, permutations)
    assert all(torch.equal(mixed[name], expected[name]) for name in weights)
    assert any(not torch.equal(mixed[name], weights[name]) for name in weights)


def test_mixing_averages_neurons():
    weights = random_weights(DEEP, 2)
    mean = {group.name: torch.full((2, group.size, group.size), 1 / group.size).double() for group in DEEP.hidden_groups}
    mixed = mix(DEEP, weights, mean)
    middle = weights["linear2.weight"].mean((1, 2), keepdim=True).expand(2, 5, 7)
    assert torch.allclose(mixed["linear2.weight"], middle)


def test_sinkhorn_matching_finds_known_permutations_from_a_wrong_start():
    reference, weights, expected = disguised(DEEP)

    def distance(networks):
        return squared_distance(DEEP, reference, networks)

    start = identity(DEEP, NETWORKS)
    found = sinkhorn_matching(DEEP, weights, distance, distance, start, iterations=150)
    assert all(torch.equal(found[group], indices) for group, indices in expected.items())
    assert all(not torch.equal(start[group], indices) for group, indices in expected.items())


def test_sinkhorn_matching_keeps_a_better_start():
    reference, weights, expected = disguised(DEEP)

    def away(networks):
        return -squared_distance(DEEP, reference, networks)

    def distance(networks):
        return squared_distance(DEEP, reference, networks)

    found = sinkhorn_matching(DEEP, weights, away, distance, expected, iterations=30)
    assert all(torch.equal(found[group], indices) for group, indices in expected.items())
    moved = sinkhorn_matching(DEEP, weights, away, away, expected, iterations=30)
    assert any(not torch.equal(moved[group], indices) for group, indices in expected.items())


@pytest.mark.parametrize("architecture", [mlp([6, 7, 3]), DEEP, mlp([6, 5, 5, 4, 3], "tanh")], ids=["1", "2", "3"])
def test_activation_matching_finds_known_permutations(architecture):
    reference, weights, expected = disguised(architecture)
    found = activation_matching(architecture, reference, weights, random_inputs(architecture, 200), chunk=2)
    assert all(torch.equal(found[group], indices) for group, indices in expected.items())
    misled = activation_matching(
        architecture, random_weights(architecture, 1, seed=1), weights, random_inputs(architecture, 200)
    )
    assert any(not torch.equal(misled[group], indices) for group, indices in expected.items())


def test_activation_matching_brings_activations_nearest():
    """The first hidden layer's assignment is optimal for activations, which weight matching's is not."""
    architecture, inputs = mlp([6, 7, 3]), random_inputs(mlp([6, 7, 3]), 100)
    reference, weights = random_weights(architecture, 1), random_weights(architecture, 40, seed=1)

    def gap(permutations):
        ours = architecture.activations(permute(architecture, weights, permutations), inputs)["hidden1"]
        return (ours - architecture.activations(reference, inputs)["hidden1"]).square().sum((1, 2))

    by_activations = gap(activation_matching(architecture, reference, weights, inputs))
    by_weights = gap(weight_matching(architecture, reference, weights, generator(0, "m")))
    assert bool((by_activations <= by_weights + 1e-9).all())
    assert bool((by_activations < by_weights - 1e-3).any())
