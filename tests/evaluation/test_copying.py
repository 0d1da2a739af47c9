"""Tests of copying on points of a plane of many dimensions: levels kept, copies found, shares that can be found."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from tests.evaluation.families import ARCHITECTURE, runs, wrong_networks, zoo
from wflib.evaluation import (
    audit_copying,
    close_test,
    detectable_by_closeness,
    detectable_by_ratio,
    largest_error_overlap,
    nearest_distance,
    nearest_function,
    nearest_of_sets,
    ratio_with_error,
    share_test,
)
from wflib.evaluation import function_novelty as module
from wflib.evaluation.copying import chance_of_closest
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations

DIMENSION = 8


def nearest(queries: int, training: int, unseen: int, seed: int, copies: int = 0, scale: float = 1.0):
    """Distances of queries to training, unseen and all points, the first queries being training points."""
    random = generator(seed, "points")
    points = torch.randn(training + unseen, DIMENSION, generator=random)
    asked = scale * torch.randn(queries, DIMENSION, generator=random)
    asked[:copies] = points[torch.randint(training, (copies,), generator=random)]
    distance = torch.cdist(asked, points)
    return distance[:, :training].amin(1), distance[:, training:].amin(1), distance.argmin(1)


def test_the_share_of_training_neighbours_keeps_its_level_and_finds_a_memoriser():
    learned = torch.arange(60) < 40
    for scale in (1.0, 0.5):  # also for a wrong distribution
        levels = [
            share_test(nearest(80, 40, 20, seed, scale=scale)[2], learned, generator(seed, "s"), 199).p_value
            for seed in range(200)
        ]
        assert sum(p <= 0.05 for p in levels) <= 20
    found = share_test(nearest(200, 400, 200, 0, copies=200)[2], torch.arange(600) < 400, generator(0, "s"))
    assert found.share == 1
    assert found.expected == pytest.approx(2 / 3)
    assert found.p_value == 1 / 1000


def test_relabelling_counts_a_popular_neighbour_once():
    found = share_test(torch.zeros(100, dtype=torch.int64), torch.tensor([True, False]), generator(0, "s"))
    assert found.share == 1
    assert found.p_value > 0.4
    assert found.error == pytest.approx(0.5, abs=0.03)


def test_the_chance_of_the_closest_is_that_of_counting_orders():
    orders = list(combinations(range(7), 4))  # places of 4 of ours among 7
    for count in range(5):
        expected = sum(set(range(count)) <= set(order) for order in orders) / len(orders)
        assert chance_of_closest(count, 4, 3) == pytest.approx(expected)
    found = close_test(torch.tensor([0.1, 0.9, 0.15]), torch.tensor([0.4, 0.5]))
    assert (found.count, found.smallest, found.smallest_unseen) == (2, pytest.approx(0.1), pytest.approx(0.4))
    assert found.p_value == pytest.approx(3 / 5 * 2 / 4)
    assert close_test(torch.tensor([0.21, 0.9]), torch.tensor([0.4, 0.5])).count == 0  # more than half as far


@pytest.mark.parametrize("scale", [0.3, 0.6, 1.0, [1.0] * 3 + [0.1] * 27])
def test_another_distribution_makes_no_copies_and_few_copies_in_it_are_found(scale):
    """Closeness is another where a distribution is narrow; without a margin 10 to 15 % of these would be alarms."""
    random, sure = generator(0, "shapes"), []
    for _ in range(40):
        training, asked, relative_to = (torch.randn(size, 30, generator=random) for size in (1000, 100, 100))
        ours = torch.randn(250, 30, generator=random) * torch.tensor(scale)
        for copied in (0, 40):
            ours[:copied] = training[:copied]
            sides = [torch.cdist(some, training).amin(1) / torch.cdist(some, relative_to).amin(1) for some in (ours, asked)]
            sure.append(close_test(*sides).p_value <= 0.05)
    assert not any(sure[::2])
    assert all(sure[1::2])


def test_the_share_found_by_closeness_is_found_as_often_as_said():
    share = detectable_by_closeness(1000, 500, power=0.9)
    assert 0.005 < share < 0.03
    copies = torch.distributions.Binomial(1000, torch.tensor(share)).sample((4000,))
    found = torch.tensor([chance_of_closest(int(count), 1000, 500) <= 0.05 for count in copies])
    assert found.double().mean() == pytest.approx(0.9, abs=0.02)
    assert math.isnan(detectable_by_closeness(3, 2))


def test_the_ratio_has_errors_and_finds_few_copies_only_where_originals_are_among_neighbours():
    one_set = nearest(500, 500, 500, 0)[:2]
    assert math.isnan(ratio_with_error(*one_set, generator(0, "r")).error_trajectories)
    random = generator(0, "sets")
    points, asked = torch.randn(6, 500, DIMENSION, generator=random), torch.randn(500, DIMENSION, generator=random)
    sets = torch.cdist(asked, points).amin(2)
    several = ratio_with_error(sets[:5], sets[5], generator(0, "r"))
    assert abs(several.ratio - 1) < 3 * math.hypot(several.error, several.error_trajectories)
    shares = [detectable_by_ratio(*one_set, coverage, generator(0, "r")) for coverage in (1.0, 0.2)]
    assert 0 < 3 * shares[0] < shares[1] < 1
    planted = [nearest(500, 500, 500, seed, copies=int(3 * shares[0] * 500))[:2] for seed in range(10)]
    assert all(ratio_with_error(*pair, generator(0, "r")).ratio < 1 for pair in planted)


def test_several_sets_at_once_are_searched_like_one_and_own_trajectories_left_out():
    queries, others = (Networks.from_flat(ARCHITECTURE, runs(count, 0, name)) for count, name in ((5, "q"), (12, "n")))
    odd = torch.arange(12) % 2 == 1
    excluded = torch.zeros(5, 12, dtype=torch.bool)
    excluded[2] = odd
    found = nearest_of_sets(queries, others, [odd, ~odd], generator(0, "m"), 12, excluded)
    for members, (distance, index) in zip((odd, ~odd), found, strict=True):
        expected, place = nearest_distance(queries, others[members], generator(0, "m"), 12)
        rows = torch.tensor([row for row in range(5) if not excluded[row, members].all()])
        torch.testing.assert_close(distance[rows], expected[rows])
        assert index[rows].tolist() == members.nonzero().flatten()[place[rows]].tolist()
    assert found[0][0][2] == math.inf
    assert found[0][1][2] == -1


def test_permuted_copies_are_found_and_a_narrow_distribution_is_none():
    family = zoo(200, 100, 2, 0)
    training, unseen = family.training_part, family.held_out_part
    copies = wrong_networks("a tenth of copies", training, 200, 0)
    copies = permute(copies, random_permutations(ARCHITECTURE, 200, generator(0, "p")))
    found = audit_copying(copies, training, unseen, generator(0, "c"), snapshots=2)
    assert found.close.count >= 20
    assert found.close.smallest < 1e-4
    assert found.close.p_value < 0.01
    assert found.ratio.ratio < 0.98
    narrow = wrong_networks("narrow", training, 200, 0)
    found = audit_copying(narrow, training, unseen, generator(0, "c"))
    assert min(found.close.p_value, found.share.p_value) > 0.05
    with pytest.raises(ValueError, match=r"four held-out trajectories, got 200 and 3"):
        audit_copying(narrow, training, unseen[:6], generator(0, "c"))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("elements", [2**23, 40])
def test_nearest_functions_and_overlaps_are_their_definitions(classes, elements, monkeypatch):
    monkeypatch.setattr(module, "ELEMENTS", elements)
    random = generator(0, "functions")
    ours, theirs = (torch.randn(count, 9, classes, generator=random).log_softmax(-1) for count in (7, 11))
    own, runs_of = torch.arange(7), torch.arange(11) // 2
    variation = (ours.exp()[:, None] - theirs.exp()[None]).abs().sum(-1).mean(-1) / 2
    distance, index = nearest_function(ours, theirs)
    torch.testing.assert_close(distance, variation.amin(1))
    assert torch.equal(index, variation.argmin(1))
    foreign = variation.masked_fill(own[:, None] == runs_of[None], math.inf)
    torch.testing.assert_close(nearest_function(ours, theirs, own, runs_of)[0], foreign.amin(1))
    wrong, training_wrong = (torch.rand(count, 9, generator=random) < 0.4 for count in (7, 11))
    both = (wrong[:, None] & training_wrong[None]).sum(-1) / (wrong[:, None] | training_wrong[None]).sum(-1).clamp_min(1)
    torch.testing.assert_close(largest_error_overlap(wrong, training_wrong), both.amax(1))
    foreign = both.masked_fill(own[:, None] == runs_of[None], 0)
    torch.testing.assert_close(largest_error_overlap(wrong, training_wrong, own, runs_of), foreign.amax(1))


def test_other_examples_are_refused():
    with pytest.raises(ValueError, match=r"nearest_function expected training networks on the same examples"):
        nearest_function(torch.zeros(2, 3, 2), torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match=r"close_test: expected networks, got 0 and 2"):
        close_test(torch.zeros(0), torch.zeros(2))
    with pytest.raises(ValueError, match=r"ratio_with_error expected training distances"):
        ratio_with_error(torch.zeros(3), torch.zeros(2), generator(0, "r"))
