"""Weight matching for networks of every kind: planted permutations are found."""

from __future__ import annotations

import pytest
import torch

from tests.architecture.cases import CASES, NETWORKS, change, random_networks, random_weights, traced
from tests.symmetry.kinds import BUILT, KINDS, disguised, drawn, equal
from wflib.architecture.derive import Axis, Block
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import (
    identity,
    order_free_matching,
    permute,
    random_permutations,
    squared_distance,
    weight_matching,
)


@pytest.mark.parametrize("references", [1, NETWORKS])
@pytest.mark.parametrize("name", CASES)
def test_planted_permutations_are_found(name, references):
    architecture = traced(name)[1]
    reference = random_weights(architecture, references)
    everywhere = {key: tensor.expand(NETWORKS, *tensor.shape[1:]) for key, tensor in reference.items()}
    hidden = random_permutations(architecture, NETWORKS, generator(0, "hide"))
    networks = permute(Networks(architecture, everywhere), hidden)
    for operation in architecture.operations:
        for statistic in operation.statistics:  # statistics are no part of the cost
            networks.weights[statistic] = networks.weights[statistic] * 100
    found = weight_matching(Networks(architecture, reference), networks, generator(0, "match"), restarts=8)
    back = permute(networks, found).weights
    learned = [key for key in networks.weights if key not in architecture.statistics]
    assert all(torch.equal(back[key], everywhere[key]) for key in learned)


def test_matching_keeps_functions_and_refuses_no_descent():
    architecture = traced("transformer")[1]
    reference, networks = (
        random_networks(architecture, 1),
        random_networks(architecture),
    )
    found = weight_matching(reference, networks, generator(0, "match"))
    assert change(architecture, networks.weights, permute(networks, found).weights) < 1e-10
    with pytest.raises(ValueError, match="restarts must be at least 1, got 0"):
        weight_matching(reference, networks, generator(0, "match"), restarts=0)


def test_progress_is_told_after_each_start():
    architecture, lines = traced("transformer")[1], []
    reference, networks = random_networks(architecture, 1), random_networks(architecture)
    found = weight_matching(reference, networks, generator(0, "match"), restarts=3, progress=lines.append)
    distance = squared_distance(reference, permute(networks, found)).mean()
    assert [line.rsplit(" ", 1)[0] for line in lines] == [f"start {n}/3: mean squared distance" for n in (1, 2, 3)]
    assert float(lines[-1].rsplit(" ", 1)[1]) == pytest.approx(distance.item(), abs=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_matching_by_own_weights_gives_the_same_networks_for_every_order_given(name):
    architecture = KINDS[name]()
    reference, weights = Networks(architecture, drawn(architecture)), drawn(architecture, seed=1)
    shuffled = disguised(architecture, weights)
    assert not equal(shuffled, weights)
    ours, theirs = (
        permute(
            Networks(architecture, side),
            order_free_matching(reference, Networks(architecture, side)),
        ).weights
        for side in (weights, shuffled)
    )
    assert equal(ours, theirs)
    again = permute(
        Networks(architecture, shuffled),
        order_free_matching(Networks(architecture, weights), Networks(architecture, shuffled)),
    ).weights
    assert equal(again, weights)
    before, after = (squared_distance(reference, Networks(architecture, side)) for side in (weights, ours))
    assert float((after - before).mean()) < 0


@pytest.mark.parametrize("name", KINDS)
def test_a_start_is_swept_from_and_never_left_for_worse(name):
    architecture = KINDS[name]()
    reference, networks = Networks(architecture, drawn(architecture)), Networks(architecture, drawn(architecture, seed=1))
    first = random_permutations(architecture, NETWORKS, generator(0, "first"))
    before = squared_distance(reference, permute(networks, first))
    none, some = (
        weight_matching(
            reference,
            networks,
            generator(0, "m"),
            max_sweeps=sweeps,
            first=first,
        )
        for sweeps in (0, 100)
    )
    assert equal(none, first)
    after = squared_distance(reference, permute(networks, some))
    assert bool((after <= before + 1e-9).all())
    assert float((before - after).max()) > 0.1


@pytest.mark.parametrize("name", BUILT)
def test_order_free_starts_give_order_free_results(name):
    architecture = BUILT[name]()
    reference, weights = Networks(architecture, drawn(architecture, 5)), drawn(architecture, 5, seed=1)

    def distances(side, free: bool):
        first = order_free_matching(reference, Networks(architecture, side)) if free else None
        found = weight_matching(reference, Networks(architecture, side), generator(0, "match"), first=first)
        return squared_distance(reference, permute(Networks(architecture, side), found))

    shuffled = disguised(architecture, weights)
    torch.testing.assert_close(distances(weights, True), distances(shuffled, True))
    if name not in ("cnn", "cnn-batch"):
        assert float((distances(weights, False) - distances(shuffled, False)).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["residual", "vit", "grouped"])
def test_each_network_is_matched_on_its_own(name):
    architecture = KINDS[name]()
    reference, weights = Networks(architecture, drawn(architecture)), drawn(architecture, seed=1)
    together = weight_matching(reference, Networks(architecture, weights), generator(0, "m"), restarts=3)
    changed = {key: torch.cat([reference.weights[key][:1], tensor[1:]]) for key, tensor in weights.items()}
    other = weight_matching(reference, Networks(architecture, changed), generator(0, "m"), restarts=3)
    assert all(torch.equal(other[group][1:], together[group][1:]) for group in together)
    assert any(not torch.equal(other[group][0], together[group][0]) for group in together)


def test_groups_without_weights_of_their_own_keep_their_order():
    architecture = KINDS["convolution"]()
    reference, networks = drawn(architecture), Networks(architecture, drawn(architecture, seed=1))
    own = {"0.weight", "0.bias", "2.bias", "6.weight"}
    silent = {key: tensor * (key not in own) for key, tensor in reference.items()}
    assert equal(
        order_free_matching(Networks(architecture, silent), networks),
        identity(architecture, NETWORKS),
    )
    assert not equal(
        order_free_matching(Networks(architecture, reference), networks),
        identity(architecture, NETWORKS),
    )


def test_places_that_no_block_holds_are_fixed():
    axis = Axis("t[0]", 6, (Block("a", torch.tensor([[4], [1]])), Block("b", torch.tensor([[[0], [5]]]))))
    assert axis.fixed.tolist() == [2, 3]
    assert Axis("t[1]", 3).fixed.tolist() == [0, 1, 2]
