"""Weight matching: known permutations are found, brute force does no better, and nothing gets worse."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from tests.cases import LINEAR, TOLERANCE, largest_difference, random_networks, random_weights
from wflib.activation import ACTIVATIONS
from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import (
    identity,
    inverse,
    order_free_matching,
    permute,
    random_permutations,
    squared_distance,
    weight_matching,
)
from wflib.symmetry import matching as matching_module
from wflib.symmetry.assignment import solve_assignments

NETWORKS = 6
DEEP = {
    f"{len(hidden)}-{activation}-{'bias' if bias else 'nobias'}": mlp([6, *hidden, 3], activation, bias=bias)
    for hidden in ([7], [6, 5], [6, 5, 7], [6, 5, 7, 4])
    for activation in ACTIVATIONS
    for bias in (True, False)
}
over_deep = pytest.mark.parametrize("architecture", DEEP.values(), ids=DEEP)


def match(architecture, reference, weights, restarts=1, name="match"):
    return weight_matching(Networks(architecture, reference), Networks(architecture, weights), generator(0, name), restarts)


def disguised(architecture, weights, noise: float):
    """Networks in random neuron order with noise, and the permutations that undo the order."""
    hidden = random_permutations(architecture, NETWORKS, generator(0, "hide"))
    permuted = permute(Networks(architecture, weights), hidden).weights
    random = generator(0, "noise")
    noisy = {
        name: tensor + noise * torch.randn(tensor.shape, generator=random, dtype=tensor.dtype)
        for name, tensor in permuted.items()
    }
    return noisy, inverse(hidden)


@over_deep
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("references", [1, NETWORKS])
def test_known_permutations_are_found(architecture, noise, references):
    reference = random_networks(architecture, references)
    everywhere = {name: tensor.expand(NETWORKS, *tensor.shape[1:]) for name, tensor in reference.weights.items()}
    weights, expected = disguised(architecture, everywhere, noise)
    found = match(architecture, reference.weights, weights, restarts=12)
    for group, indices in expected.items():
        assert torch.equal(found[group], indices)
    assert any(not torch.equal(found[name], same) for name, same in identity(architecture, NETWORKS).items())
    aligned = permute(Networks(architecture, weights), found)
    assert largest_difference(Networks(architecture, weights), aligned) < TOLERANCE
    if noise == 0:
        assert float(squared_distance(reference, aligned).max()) == 0
        assert float(squared_distance(reference, Networks(architecture, weights)).min()) > 1


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_one_hidden_group_is_matched_as_well_as_by_brute_force(width, bias):
    architecture = mlp([3, width, 2], bias=bias)
    reference, networks = (
        random_networks(architecture, 1, seed=1),
        random_networks(architecture, NETWORKS, seed=2),
    )
    aligned = permute(networks, match(architecture, reference.weights, networks.weights))
    distances = torch.stack(
        [
            squared_distance(reference, permute(networks, {"hidden1": order}))
            for order in (torch.tensor(p).expand(NETWORKS, -1) for p in permutations(range(width)))
        ]
    )
    found = squared_distance(reference, aligned)
    torch.testing.assert_close(found, distances.min(0).values, rtol=TOLERANCE, atol=TOLERANCE)
    if width > 1:
        assert bool((distances.max(0).values > found + 1e-3).all())


@over_deep
@pytest.mark.parametrize("references", [1, NETWORKS])
def test_matching_is_never_worse_than_no_matching_and_restarts_never_harm(architecture, references):
    reference, networks = (
        random_networks(architecture, references, seed=1),
        random_networks(architecture, NETWORKS, seed=2),
    )
    before = squared_distance(reference, networks)
    once, often = (
        squared_distance(
            reference,
            permute(networks, match(architecture, reference.weights, networks.weights, restarts)),
        )
        for restarts in (1, 4)
    )
    assert bool((once <= before + TOLERANCE).all())
    assert bool((once < before - 1e-3).any())
    worst = permute(networks, random_permutations(architecture, NETWORKS, generator(0, "worse")))
    assert bool((squared_distance(reference, worst) > once + 1e-3).any())
    assert bool((often <= before + TOLERANCE).all())


def test_more_starts_of_the_same_stream_are_never_worse():
    architecture = mlp([4, 6, 6, 6, 2])
    reference, weights = random_weights(architecture, 1, seed=1), random_weights(architecture, 20, seed=2)
    lines = []
    weight_matching(
        Networks(architecture, reference),
        Networks(architecture, weights),
        generator(0, "match"),
        restarts=5,
        progress=lines.append,
    )
    distances = [float(line.rsplit(" ", 1)[1]) for line in lines]
    assert len(distances) == 5
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0]


def test_each_network_is_matched_on_its_own():
    architecture = mlp([4, 5, 4, 2])
    reference, weights = random_weights(architecture, NETWORKS, seed=1), random_weights(architecture, NETWORKS, seed=2)
    together = match(architecture, reference, weights)
    for index in range(NETWORKS):
        one, other = ({name: tensor[index : index + 1] for name, tensor in side.items()} for side in (reference, weights))
        alone = match(architecture, one, other)
        assert all(torch.equal(alone[name][0], together[name][index]) for name in together)
    assert any(not torch.equal(indices[0], indices[1]) for indices in together.values())


def test_a_network_that_needs_more_sweeps_shifts_no_other():
    architecture = mlp([4, 6, 6, 6, 2])
    reference, weights = random_weights(architecture, 1, seed=1), random_weights(architecture, 20, seed=2)
    together = match(architecture, reference, weights, restarts=5)
    changed = {name: torch.cat([reference[name], tensor[1:]]) for name, tensor in weights.items()}
    found = match(architecture, reference, changed, restarts=5)
    assert all(torch.equal(found[name][1:], together[name][1:]) for name in together)
    assert any(not torch.equal(found[name][:1], together[name][:1]) for name in together)


def test_the_same_stream_gives_the_same_permutations():
    architecture = mlp([4, 6, 6, 6, 2])
    reference, weights = random_weights(architecture, 1, seed=1), random_weights(architecture, 20, seed=2)
    first, again, other = (match(architecture, reference, weights, 3, name) for name in ("a", "a", "b"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.fixture
def solved(monkeypatch):
    """Gains of every call that solves assignments while networks are matched."""
    given = []

    def noted(gains):
        given.append(gains)
        return solve_assignments(gains)

    monkeypatch.setattr(matching_module, "solve_assignments", noted)
    return given


def test_identical_neurons_do_not_keep_the_descent_running(solved):
    architecture = mlp([3, 4, 4, 2])
    weights = {name: torch.ones_like(tensor) for name, tensor in random_weights(architecture, 2).items()}
    found = match(architecture, weights, weights, restarts=2)
    assert (
        float(squared_distance(Networks(architecture, weights), permute(Networks(architecture, weights), found)).max()) == 0
    )
    assert [len(gains) for gains in solved] == [2] * 4, "one sweep over two groups for each of two starts"


def test_a_group_is_matched_again_only_where_another_has_moved(solved):
    architecture = mlp([4, 5, 6, 5, 2])
    reference, weights = random_weights(architecture, NETWORKS, seed=1), random_weights(architecture, NETWORKS, seed=2)
    found = match(architecture, reference, weights)
    problems = [matrix.numpy().tobytes() for gains in solved for matrix in gains]
    assert len(problems) > 3 * NETWORKS, "a single sweep would show nothing"
    assert len(set(problems)) == len(problems), "the same problem was solved twice"
    moved = permute(Networks(architecture, weights), found).weights
    for group in found:
        gains = matching_module.matching_gains(architecture, reference, moved, group)
        best = gains.gather(2, solve_assignments(gains).unsqueeze(2)).sum((1, 2))
        kept = gains.diagonal(dim1=1, dim2=2).sum(1)
        torch.testing.assert_close(kept, best, rtol=1e-5, atol=1e-6)
    gains = matching_module.matching_gains(architecture, reference, weights, group)
    best = gains.gather(2, solve_assignments(gains).unsqueeze(2)).sum((1, 2))
    assert bool((gains.diagonal(dim1=1, dim2=2).sum(1) < best - 0.1).all()), "weights as they were are no fixed point"


def test_networks_without_hidden_neurons_need_no_matching():
    for architecture in LINEAR.values():
        weights = random_weights(architecture)
        assert match(architecture, weights, weights, restarts=2) == {}


@pytest.mark.parametrize(
    ("references", "restarts", "message"), [(1, 0, "restarts.*got 0"), (2, 1, "1 reference .* 3 networks, got 2")]
)
def test_wrong_numbers_are_refused(references, restarts, message):
    architecture = mlp([3, 4, 2])
    with pytest.raises(ValueError, match=message):
        match(architecture, random_weights(architecture, references), random_weights(architecture, 3), restarts)


def test_weights_of_another_architecture_are_refused():
    architecture, other = mlp([3, 4, 2]), mlp([3, 5, 2])
    for sides in ((architecture, other), (other, architecture)):
        reference, weights = (random_weights(side) for side in sides)
        with pytest.raises(ValueError, match="Shape mismatch"):
            match(architecture, reference, weights)


@over_deep
def test_matching_by_own_tensors_gives_the_same_networks_for_every_order_given(architecture):
    # A group between two others without bias has no tensor of its own, and keeps the order given.
    if (
        len(architecture.hidden_groups) > 2
        and "nobias" in {name for name, case in DEEP.items() if case is architecture}.pop()
    ):
        architecture = mlp([6, 6, 5, 3], bias=False)
    reference, networks = (
        random_weights(architecture, NETWORKS),
        random_networks(architecture, NETWORKS, seed=1),
    )
    shuffled = permute(networks, random_permutations(architecture, NETWORKS, generator(0, "shuffle")))
    ours, theirs = (
        permute(
            Networks(architecture, side),
            order_free_matching(Networks(architecture, reference), Networks(architecture, side)),
        ).weights
        for side in (networks.weights, shuffled.weights)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = permute(
        shuffled,
        order_free_matching(networks, shuffled),
    ).weights
    assert all(torch.equal(again[name], networks.weights[name]) for name in again)
