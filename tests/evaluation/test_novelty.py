"""Distances modulo permutation and overlap of errors, with copies that must be found."""

import itertools
import math

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import bound as bound_module
from wflib.evaluation import error_overlap, nearest_distance, thin_trajectories
from wflib.evaluation.bound import squared_distance_bound
from wflib.evaluation.novelty import nearest_candidate, shortlists
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations, squared_distance, weight_matching
from wflib.zoo import Zoo, base

ARCHITECTURE = mlp([3, 5, 2])


def networks(count: int, *names: str | int) -> dict[str, torch.Tensor]:
    return ARCHITECTURE.unflatten(torch.randn(count, ARCHITECTURE.dimension, generator=generator(0, "networks", *names)))


def test_permuted_training_networks_are_at_distance_zero_and_others_are_not():
    training, chosen = networks(12, "training"), torch.tensor([7, 2, 11])
    picked = {name: tensor[chosen] for name, tensor in training.items()}
    copies = permute(Networks(ARCHITECTURE, picked), {"hidden1": torch.arange(5).roll(2).expand(3, -1)})
    distance, index = nearest_distance(copies, Networks(ARCHITECTURE, training), generator(0, "match"))
    assert index.tolist() == [7, 2, 11]
    assert distance.max() < 1e-6
    plain = torch.cdist(copies.flat, ARCHITECTURE.flatten(training)).min(1).values
    assert plain.min() > 1
    fresh, _ = nearest_distance(
        Networks(ARCHITECTURE, networks(3, "fresh")), Networks(ARCHITECTURE, training), generator(0, "match")
    )
    assert fresh.min() > 1


def test_distance_agrees_with_brute_force_over_permutations():
    training, queries = networks(4, "training"), networks(2, "queries")
    best = torch.full((2,), math.inf)
    for order in itertools.permutations(range(5)):
        moved = permute(Networks(ARCHITECTURE, queries), {"hidden1": torch.tensor(order).expand(2, -1)}).weights
        plain = (ARCHITECTURE.flatten(moved)[:, None] - ARCHITECTURE.flatten(training)[None]).norm(dim=-1)
        best = torch.minimum(best, plain.min(1).values)
    distance, _ = nearest_distance(Networks(ARCHITECTURE, queries), Networks(ARCHITECTURE, training), generator(0, "match"))
    torch.testing.assert_close(distance, best)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [[5], [5, 4], [4, 3, 5]])
def test_the_bound_ignores_the_order_of_neurons_and_knows_copies(hidden, bias):
    architecture, random = mlp([3, *hidden, 2], bias=bias).canonical_form("weights"), generator(0, "bound")
    flat = torch.randn(15, architecture.dimension, generator=random, dtype=torch.float64)
    flat *= torch.linspace(3, 0.1, 15, dtype=torch.float64)[:, None]  # small networks must not hide the copies of large ones
    ours, theirs = architecture.unflatten(flat[:6]), architecture.unflatten(flat[6:])
    shuffled = permute(Networks(architecture, ours), random_permutations(architecture, 6, random))
    plain = torch.cdist(architecture.flatten(ours), architecture.flatten(theirs))
    moved = torch.cdist(shuffled.flat, architecture.flatten(theirs))
    assert (plain - moved).abs().max() > 0.1
    bound = squared_distance_bound(Networks(architecture, ours), Networks(architecture, theirs))
    torch.testing.assert_close(squared_distance_bound(shuffled, Networks(architecture, theirs)), bound)
    torch.testing.assert_close(squared_distance_bound(Networks(architecture, theirs), shuffled).T, bound)
    copies = squared_distance_bound(shuffled, Networks.from_flat(architecture, flat))
    assert copies.argmin(1).tolist() == list(range(6))
    torch.testing.assert_close(copies[:, :6].diagonal(), torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("pairs", "rows"), [(6, 2), (1, 3), (200, 5)])
def test_the_bound_does_not_depend_on_the_tiles_it_is_computed_in(pairs, rows, monkeypatch):
    architecture, random = mlp([3, 4, 5, 2]), generator(0, "tiles")
    flat = torch.randn(18, architecture.dimension, generator=random, dtype=torch.float64)
    queries, training = architecture.unflatten(flat[:7]), architecture.unflatten(flat[7:])
    whole = squared_distance_bound(Networks(architecture, queries), Networks(architecture, training))
    monkeypatch.setattr(bound_module, "TILE", pairs * 5**2)
    monkeypatch.setattr(bound_module, "TILE_QUERIES", rows)
    torch.testing.assert_close(
        squared_distance_bound(Networks(architecture, queries), Networks(architecture, training)), whole
    )
    assert (whole - whole.roll(1, 0)).abs().min() > 1e-3, "misplaced rows would show"
    assert (whole - whole.roll(1, 1)).abs().min() > 1e-3, "misplaced columns would show"


@pytest.mark.parametrize("hidden", [[4], [3, 4], [3, 2, 3]])
def test_no_order_of_neurons_comes_below_the_bound(hidden):
    architecture, random = mlp([3, *hidden, 2]), generator(0, "below")
    flat = torch.randn(9, architecture.dimension, generator=random, dtype=torch.float64)
    queries, training = architecture.unflatten(flat[:4]), architecture.unflatten(flat[4:])
    least = torch.full((4, 5), math.inf, dtype=torch.float64)
    orders = (itertools.permutations(range(width)) for width in hidden)
    for every in itertools.product(*orders):
        order = {
            group.name: torch.tensor(o).expand(4, -1) for group, o in zip(architecture.hidden_groups, every, strict=True)
        }
        moved = permute(Networks(architecture, queries), order).flat
        least = torch.minimum(least, torch.cdist(moved, flat[4:]).square())
    bound = squared_distance_bound(Networks(architecture, queries), Networks(architecture, training))
    assert bool((bound <= least + 1e-9).all())
    assert bool((bound > 0.2 * least).all())  # and not an empty one


def test_a_shortlist_by_the_bound_finds_what_plain_distances_miss():
    training, random = networks(200, "training"), generator(0, "near")
    near = ARCHITECTURE.unflatten(ARCHITECTURE.flatten(training)[:20] + 0.3 * torch.randn(20, 32, generator=random))
    near = permute(Networks(ARCHITECTURE, near), random_permutations(ARCHITECTURE, 20, random)).weights
    _, found = nearest_distance(
        Networks(ARCHITECTURE, near), Networks(ARCHITECTURE, training), generator(0, "match"), shortlist=5
    )
    assert found.tolist() == list(range(20))
    plain = torch.cdist(ARCHITECTURE.flatten(near), ARCHITECTURE.flatten(training)).topk(5, largest=False).indices
    assert int((plain == torch.arange(20)[:, None]).any(1).sum()) < 15


def test_no_order_of_neurons_is_nearer():
    architecture, random = mlp([3, 8, 8, 2]), generator(0, "order")
    flat = torch.randn(40, architecture.dimension, generator=random, dtype=torch.float64)
    queries, training = architecture.unflatten(flat[:10]), architecture.unflatten(flat[10:])
    shuffled = permute(Networks(architecture, queries), random_permutations(architecture, 10, random)).weights

    def search(side, seed=0):
        return nearest_distance(
            Networks(architecture, side), Networks(architecture, training), generator(seed, "match"), shortlist=5
        )[0]

    def from_the_order_given(side):
        first = {name: tensor[:10] for name, tensor in training.items()}
        found = weight_matching(Networks(architecture, first), Networks(architecture, side), generator(0, "match"))
        return squared_distance(Networks(architecture, first), permute(Networks(architecture, side), found))

    torch.testing.assert_close(search(shuffled), search(queries))
    assert all(torch.equal(search(queries, seed), search(queries)) for seed in range(1, 5))
    assert (from_the_order_given(shuffled) - from_the_order_given(queries)).abs().max() > 0.1


def test_only_named_candidates_count():
    training = networks(4, "training")
    distance, index = nearest_candidate(
        Networks(ARCHITECTURE, training),
        Networks(ARCHITECTURE, training),
        torch.tensor([[1, 0], [-1, 2], [-1, -1], [3, 3]]),
        generator(0, "match"),
    )
    assert index.tolist() == [0, 2, -1, 3]
    assert distance[1] > 1
    assert distance[2] == math.inf
    with pytest.raises(ValueError, match=r"candidates expected \(4, at least 1\), got \(2, 1\)"):
        nearest_candidate(
            Networks(ARCHITECTURE, training),
            Networks(ARCHITECTURE, training),
            torch.tensor([[1], [0]]),
            generator(0, "match"),
        )


def test_a_shortlist_only_makes_distances_larger():
    training, queries = networks(30, "training"), networks(5, "queries")
    short, _ = nearest_distance(
        Networks(ARCHITECTURE, queries), Networks(ARCHITECTURE, training), generator(0, "match"), shortlist=1
    )
    full, _ = nearest_distance(
        Networks(ARCHITECTURE, queries), Networks(ARCHITECTURE, training), generator(0, "match"), shortlist=30
    )
    assert bool((full <= short).all())
    assert bool((full < short).any())


def test_excluded_networks_are_never_found():
    training = networks(4, "training")
    _, index = nearest_distance(Networks(ARCHITECTURE, training), Networks(ARCHITECTURE, training), generator(0, "match"))
    assert index.tolist() == [0, 1, 2, 3]
    excluded = torch.eye(4, dtype=torch.bool)
    excluded[0] = True
    distance, index = nearest_distance(
        Networks(ARCHITECTURE, training), Networks(ARCHITECTURE, training), generator(0, "match"), excluded=excluded
    )
    assert distance[0] == math.inf
    assert index[0] == -1
    assert bool((distance[1:] > 1).all())
    assert bool((index[1:] != torch.arange(1, 4)).all())
    assert bool((index[1:] >= 0).all())


def test_nearest_distance_refuses_mistakes():
    training = networks(4, "training")
    with pytest.raises(ValueError, match="at least one training network"):
        nearest_distance(Networks(ARCHITECTURE, training), Networks(ARCHITECTURE, networks(0)), generator(0, "m"))
    with pytest.raises(ValueError, match="shortlist >= 1"):
        nearest_distance(Networks(ARCHITECTURE, training), Networks(ARCHITECTURE, training), generator(0, "m"), shortlist=0)
    with pytest.raises(ValueError, match="excluded expected \\(4, 4\\)"):
        nearest_distance(
            Networks(ARCHITECTURE, training),
            Networks(ARCHITECTURE, training),
            generator(0, "m"),
            excluded=torch.zeros(4, dtype=torch.bool),
        )


def test_error_overlap_by_hand_and_zero_without_errors():
    a = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    b = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    torch.testing.assert_close(error_overlap(a, b), torch.tensor([[1 / 3, 1, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="expected bool"):
        error_overlap(a.long(), b)
    with pytest.raises(ValueError, match="same examples"):
        error_overlap(a, b[:, :3])


def test_thinning_keeps_the_last_snapshot_and_spreads_the_others():
    trajectory, step = torch.tensor([0, 1, 0, 0, 1, 0, 0]), torch.tensor([50, 20, 10, 30, 10, 20, 40])
    zoo = Zoo(Networks(ARCHITECTURE, networks(7)), trajectory, step, torch.zeros(7, dtype=torch.bool), "aligned")

    def kept_steps(snapshots: int) -> list[tuple[int, int]]:
        kept = zoo[thin_trajectories(zoo, snapshots)]
        return sorted(zip(kept.trajectory.tolist(), kept.step.tolist(), strict=True))

    assert kept_steps(1) == [(0, 50), (1, 20)]
    assert kept_steps(3) == [(0, 10), (0, 30), (0, 50), (1, 10), (1, 20)]
    assert thin_trajectories(zoo, 9).tolist() == list(range(7))
    with pytest.raises(ValueError, match="snapshots must be at least 1"):
        thin_trajectories(zoo, 0)


@pytest.mark.parametrize("excluding", [False, True])
def test_neighbours_among_many_networks_are_found_part_by_part(monkeypatch, excluding):
    training, queries = (Networks(ARCHITECTURE, networks(count, "parts", count)) for count in (23, 5))
    excluded = torch.rand(5, 23, generator=generator(0, "excluded")) < 0.5 if excluding else None
    sets = [torch.ones(23, dtype=torch.bool), torch.arange(23) % 3 == 0]
    whole = (
        shortlists(queries, training, sets, 4, excluded),
        nearest_distance(queries, training, generator(0, "matching"), 4, excluded=excluded),
    )
    monkeypatch.setattr(base, "IN_MEMORY", 1)
    monkeypatch.setattr(base, "CHUNK", 6 * ARCHITECTURE.dimension)
    parts = (
        shortlists(queries, training, sets, 4, excluded),
        nearest_distance(queries, training, generator(0, "matching"), 4, excluded=excluded),
    )
    for one, other in zip([*whole[0], *whole[1]], [*parts[0], *parts[1]], strict=True):
        assert torch.allclose(one, other)
    first = shortlists(queries, training[:6], [sets[0][:6], sets[1][:6]], 4)
    assert not all(torch.equal(one, other) for one, other in zip(whole[0], first, strict=True))
