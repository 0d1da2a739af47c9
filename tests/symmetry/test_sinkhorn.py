"""The Sinkhorn operator and its gradients, and matching by gradient descent through it."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.cases import LINEAR, TOLERANCE, largest_difference, random_networks, random_weights
from tests.symmetry.kinds import BUILT, drawn
from tests.symmetry.kinds import disguised as permuted_copies
from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import (
    identity,
    inverse,
    mix,
    permute,
    random_permutations,
    sinkhorn,
    sinkhorn_matching,
    squared_distance,
)

NETWORKS = 4
DOUBLE = torch.float64


def logits(*shape: int, size: float = 1.0):
    return size * torch.randn(*shape, generator=generator(0, "logits"), dtype=DOUBLE)


def unrolled(x, temperature: float, sweeps: int):
    """The same operator with every sweep on the tape."""
    logs = x / temperature
    for _ in range(sweeps):
        logs = logs.log_softmax(-1).log_softmax(-2)
    return logs.exp()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_rows_and_columns_sum_to_one(temperature):
    matrix = sinkhorn(logits(3, 6, 6), temperature, sweeps=300)
    ones = torch.ones(3, 6, dtype=DOUBLE)
    torch.testing.assert_close(matrix.sum(-1), ones, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(matrix.sum(-2), ones, rtol=0, atol=TOLERANCE)
    assert bool((matrix > 0).all())
    assert float((logits(3, 6, 6).softmax(-1).sum(-2) - 1).abs().max()) > 0.1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [2, 5])
def test_gradients_are_those_of_many_sweeps(temperature, size):
    x, direction = logits(2, size, size).requires_grad_(), torch.rand(2, size, size, dtype=DOUBLE, generator=generator(1))
    ours, tape = (
        torch.autograd.grad((operator(x, temperature, 400) * direction).sum(), x)[0] for operator in (sinkhorn, unrolled)
    )
    torch.testing.assert_close(ours, tape, rtol=1e-8, atol=1e-8)
    assert float(tape.abs().max()) > 1e-3
    one_sweep = torch.autograd.grad((unrolled(x, temperature, 1) * direction).sum(), x)[0]
    assert float((one_sweep - tape).abs().max()) > 1e-4


def test_large_logits_and_permutations_give_finite_gradients():
    for size in (1e2, 1e4):
        x = logits(3, 5, 5, size=size).float().requires_grad_()
        matrix = sinkhorn(x)
        (gradient,) = torch.autograd.grad((matrix**2).sum(), x)
        assert bool(torch.isfinite(matrix).all() and torch.isfinite(gradient).all())


def test_low_temperatures_give_the_best_assignment():
    x = logits(1, 3, 3)
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    best = max(orders, key=lambda order: float(sum(x[0, row, column] for row, column in enumerate(order))))
    expected = torch.eye(3, dtype=DOUBLE)[best]
    torch.testing.assert_close(sinkhorn(x, 0.005, 500)[0], expected, rtol=0, atol=1e-3)
    assert float((sinkhorn(x, 1.0, 500)[0] - expected).abs().max()) > 0.1


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [[5], [5, 4, 6]])
def test_mixing_by_permutation_matrices_permutes(hidden, bias):
    architecture = mlp([3, *hidden, 2], bias=bias)
    networks, order = (
        random_networks(architecture),
        random_permutations(architecture, 3, generator(0, "order")),
    )
    matrices = {group: torch.nn.functional.one_hot(indices).to(DOUBLE) for group, indices in order.items()}
    mixed, permuted = (
        mix(networks, matrices).weights,
        permute(networks, order).weights,
    )
    assert all(torch.equal(mixed[name], permuted[name]) for name in networks.weights)
    backwards = mix(networks, {group: matrix.mT for group, matrix in matrices.items()}).weights
    assert any(not torch.equal(backwards[name], permuted[name]) for name in networks.weights)


def test_mixing_by_equal_shares_averages_neurons():
    architecture = mlp([6, 7, 5, 3])
    weights = random_weights(architecture, 2)
    shares = {g.name: torch.full((2, g.size, g.size), 1 / g.size, dtype=DOUBLE) for g in architecture.hidden_groups}
    mean = weights["linear2.weight"].mean((1, 2), keepdim=True).expand(2, 5, 7)
    torch.testing.assert_close(mix(Networks(architecture, weights), shares).weights["linear2.weight"], mean)


def disguised(architecture):
    """A reference, copies of it in other neuron orders with little noise, and what undoes the orders."""
    reference = random_weights(architecture, 1)
    hidden = random_permutations(architecture, NETWORKS, generator(0, "hide"))
    copies = permute(
        Networks(architecture, {name: t.expand(NETWORKS, *t.shape[1:]) for name, t in reference.items()}), hidden
    ).weights
    noise = random_weights(architecture, NETWORKS, seed=5)
    return reference, {name: copies[name] + 0.01 * noise[name] for name in copies}, inverse(hidden)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_known_permutations_are_found_from_scratch(activation):
    architecture = mlp([6, 5, 4, 3], activation)
    reference, weights, expected = disguised(architecture)
    distance = partial(squared_distance, Networks(architecture, reference))
    found = sinkhorn_matching(Networks(architecture, weights), distance, distance, identity(architecture, NETWORKS), 80)
    assert all(torch.equal(found[group], indices) for group, indices in expected.items())
    assert any(not torch.equal(indices, identity(architecture, NETWORKS)[group]) for group, indices in expected.items())
    assert largest_difference(Networks(architecture, weights), permute(Networks(architecture, weights), found)) < TOLERANCE


def test_the_result_is_judged_no_worse_than_the_start():
    architecture = mlp([6, 5, 4, 3])
    reference, weights, best = disguised(architecture)
    distance = partial(squared_distance, Networks(architecture, reference))

    def backwards(candidate):
        return -distance(candidate)

    kept = sinkhorn_matching(Networks(architecture, weights), backwards, distance, best, 30)
    assert all(torch.equal(kept[group], indices) for group, indices in best.items())
    lost = sinkhorn_matching(Networks(architecture, weights), backwards, backwards, best, 30)
    assert any(not torch.equal(lost[group], indices) for group, indices in best.items())


def test_networks_do_not_feel_each_other():
    architecture = mlp([6, 5, 4, 3])
    reference, weights, _ = disguised(architecture)
    distance, start = partial(squared_distance, Networks(architecture, reference)), identity(architecture, NETWORKS)
    together = sinkhorn_matching(Networks(architecture, weights), distance, distance, start, 15)
    for index in range(NETWORKS):
        one = {name: tensor[index : index + 1] for name, tensor in weights.items()}
        alone = sinkhorn_matching(Networks(architecture, one), distance, distance, identity(architecture, 1), 15)
        assert all(torch.equal(alone[group][0], together[group][index]) for group in together)


@pytest.mark.parametrize("name", BUILT)
def test_networks_of_every_kind_are_brought_nearer(name):
    architecture = BUILT[name]()
    reference, start = drawn(architecture, 1), identity(architecture, NETWORKS)
    weights = permuted_copies(architecture, {name: t.expand(NETWORKS, *t.shape[1:]) for name, t in reference.items()})
    distance = partial(squared_distance, Networks(architecture, reference))
    found = sinkhorn_matching(Networks(architecture, weights), distance, distance, start, 60)
    networks = Networks(architecture, weights)
    before, after = distance(networks), distance(permute(networks, found))
    assert bool((after < 0.5 * before).all())
    kept = sinkhorn_matching(Networks(architecture, weights), lambda candidate: -distance(candidate), distance, start, 20)
    assert bool((distance(permute(networks, kept)) <= before).all())


def test_progress_counts_and_networks_without_hidden_neurons_need_nothing():
    counts = []
    architecture = mlp([6, 5, 3])
    reference, weights, start = disguised(architecture)
    distance = partial(squared_distance, Networks(architecture, reference))
    sinkhorn_matching(Networks(architecture, weights), distance, distance, start, 3, progress=counts.append)
    assert counts == [1, 2, 3]
    for linear in LINEAR.values():
        assert sinkhorn_matching(random_networks(linear), distance, distance, {}, 3) == {}
