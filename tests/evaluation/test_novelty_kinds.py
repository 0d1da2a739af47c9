"""Distances modulo permutation of networks of every kind: bounds that no order comes below, and copies that are found."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tests.symmetry.kinds import BUILT, KINDS, NETWORKS, disguised, drawn, equal
from wflib.architecture import mlp, resnet, vit
from wflib.evaluation import nearest_distance
from wflib.evaluation.bound import squared_distance_bound, taken
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations, squared_distance, weight_matching

DOUBLE = torch.float64
over_kinds = pytest.mark.parametrize("name", KINDS)
over_built = pytest.mark.parametrize("name", BUILT)


def pairs(a, b):
    """All pairs of two sets of networks, and the shape of a matrix over them."""
    count, available = (len(next(iter(side.values()))) for side in (a, b))
    one, other = torch.cartesian_prod(torch.arange(count), torch.arange(available)).unbind(1)
    return {n: t[one] for n, t in a.items()}, {n: t[other] for n, t in b.items()}, (count, available)


def picked(weights, index):
    return {name: tensor[index] for name, tensor in weights.items()}


@over_kinds
def test_no_matching_comes_below_the_bound(name):
    architecture = KINDS[name]()
    queries, training = drawn(architecture), drawn(architecture, seed=1)
    # Near pairs as well as far ones: a bound of copies with noise must not be too large either.
    near = {key: t + 0.1 * training[key] for key, t in disguised(architecture, queries).items()}
    for others in (training, near):
        bound = squared_distance_bound(Networks(architecture, queries), Networks(architecture, others))
        moving, aims, shape = pairs(queries, others)
        found = weight_matching(
            Networks(architecture, aims), Networks(architecture, moving), generator(0, "match"), restarts=3
        )
        best = squared_distance(Networks(architecture, aims), permute(Networks(architecture, moving), found)).view(shape)
        assert bool((bound <= best + 1e-9).all())
        assert float((bound / best).mean()) > 0.1, "not an empty one"
        for seed in range(5):
            order = random_permutations(architecture, len(next(iter(moving.values()))), generator(seed, "order"))
            some = squared_distance(Networks(architecture, aims), permute(Networks(architecture, moving), order)).view(shape)
            assert bool((bound <= some + 1e-9).all())


@over_kinds
def test_the_bound_ignores_the_order_of_neurons_and_knows_copies(name):
    architecture = KINDS[name]()
    queries, training = Networks(architecture, drawn(architecture)), Networks(architecture, drawn(architecture, seed=1))
    shuffled = disguised(architecture, queries.weights)
    assert not equal(shuffled, queries.weights)
    bound = squared_distance_bound(queries, training)
    torch.testing.assert_close(squared_distance_bound(Networks(architecture, shuffled), training), bound)
    torch.testing.assert_close(squared_distance_bound(training, Networks(architecture, shuffled)).T, bound)
    copies = squared_distance_bound(Networks(architecture, shuffled), queries)
    torch.testing.assert_close(copies.diagonal(), torch.zeros(NETWORKS, dtype=DOUBLE), atol=1e-8, rtol=0)
    assert float(copies.fill_diagonal_(math.inf).min()) > 1
    # Each tensor that no permutation touches alone counts in full, and a change of any tensor shows.
    for key in queries.weights:
        changed = queries.weights | {key: queries.weights[key] + 1}
        seen = squared_distance_bound(Networks(architecture, changed), queries).diagonal()
        assert bool((seen > 1e-3).all()) != (key in architecture.statistics), key


@pytest.mark.parametrize("architecture", [resnet((1, 2, 2), [2, 2], 2), vit((1, 2, 2), 2, [2], 2)], ids=["resnet", "vit"])
def test_every_order_is_above_the_bound(architecture):
    queries, training = drawn(architecture, 2), drawn(architecture, 3, seed=1)
    shapes = {name: tensor.shape for name, tensor in random_permutations(architecture, 1, generator(0)).items()}
    moving, aims, shape = pairs(queries, training)
    choices = []
    for group, (_, *dims) in shapes.items():
        orders = list(itertools.permutations(range(dims[-1])))
        sets = itertools.product(orders, repeat=dims[0] if len(dims) > 1 else 1)
        choices.append([(group, torch.tensor(one).view(1, *dims).expand(shape[0] * shape[1], *dims)) for one in sets])
    least = torch.full(shape, math.inf, dtype=DOUBLE)
    for order in itertools.product(*choices):
        distance = squared_distance(Networks(architecture, aims), permute(Networks(architecture, moving), dict(order))).view(
            shape
        )
        least = torch.minimum(least, distance)
    bound = squared_distance_bound(Networks(architecture, queries), Networks(architecture, training))
    assert bool((bound <= least + 1e-9).all())
    assert bool((bound > 0.2 * least).all())


@over_built
def test_permuted_copies_are_found_and_changed_networks_are_not(name):
    architecture = BUILT[name]()
    training, chosen = Networks(architecture, drawn(architecture, 8)), torch.tensor([5, 2, 7])
    copies = disguised(architecture, picked(training.weights, chosen))
    for statistic in architecture.statistics:
        copies[statistic] = copies[statistic] * 3  # measured, no part of distances
    distance, index = nearest_distance(Networks(architecture, copies), training, generator(0, "match"), shortlist=3)
    assert index.tolist() == chosen.tolist()
    assert float(distance.max()) < 1e-6
    moved = {key: tensor + 0.1 for key, tensor in copies.items()}
    changed, found = nearest_distance(Networks(architecture, moved), training, generator(0, "match"), shortlist=3)
    assert found.tolist() == chosen.tolist()
    assert bool((changed > 0.1).all())
    learned = architecture.dimension - sum(training.weights[statistic][0].numel() for statistic in architecture.statistics)
    assert bool((changed <= 0.1 * learned**0.5 + 1e-6).all())
    fresh, _ = nearest_distance(Networks(architecture, drawn(architecture, 3, seed=1)), training, generator(0, "match"))
    assert float(fresh.min()) > 3


@over_built
def test_no_order_of_neurons_is_nearer_nor_any_stream(name):
    architecture = BUILT[name]()
    queries, training = drawn(architecture, 5), Networks(architecture, drawn(architecture, 6, seed=1))

    def search(side, seed=0):
        return nearest_distance(Networks(architecture, side), training, generator(seed, "match"), shortlist=4)[0]

    torch.testing.assert_close(search(disguised(architecture, queries)), search(queries))
    assert torch.equal(search(queries, 1), search(queries))
    assert bool(
        (search(queries).square() >= squared_distance_bound(Networks(architecture, queries), training).amin(1)).all()
    )


def test_entries_of_a_cell_lie_as_they_are_said_to():
    tensor = torch.arange(2 * 4 * 6 * 3).view(2, 4, 6, 3)
    rows, columns = torch.tensor([[3], [1]]), torch.tensor([[0, 2], [1, 3], [4, 5]])
    chosen = (("a", rows), ("b", columns), (None, torch.tensor([[0, 2]])))
    cell = taken(tensor, chosen)
    assert cell.shape == (2, 4, 2, 3)
    assert cell[1, :, 0, 2].tolist() == [int(tensor[1, 3, c, p]) for c in (4, 5) for p in (0, 2)]
    alone = taken(tensor, (("a", rows), (None, torch.arange(6)[None]), (None, torch.arange(3)[None])))
    assert torch.equal(alone, tensor[:, [3, 1]].flatten(2))
    fixed = taken(tensor, ((None, torch.tensor([[2]])), (None, torch.arange(6)[None]), (None, torch.arange(3)[None])))
    assert torch.equal(fixed, tensor[:, 2].flatten(1))


def test_statistics_and_perceptrons():
    architecture = mlp([3, 4, 2])
    weights = drawn(architecture)
    assert torch.equal(
        squared_distance(
            Networks(architecture, weights), Networks(architecture, {name: t[:1] for name, t in weights.items()})
        ),
        ((architecture.flatten(weights) - architecture.flatten(weights)[:1]) ** 2).sum(-1),
    )
    architecture = BUILT["cnn-batch"]()
    weights = drawn(architecture)
    other = weights | {name: weights[name] + 1 for name in architecture.statistics}
    assert float(squared_distance(Networks(architecture, weights), Networks(architecture, other)).max()) == 0
    other = weights | {"norm1.bias": weights["norm1.bias"] + 1}
    torch.testing.assert_close(
        squared_distance(Networks(architecture, weights), Networks(architecture, other)),
        torch.full((NETWORKS,), 4.0, dtype=DOUBLE),
    )
