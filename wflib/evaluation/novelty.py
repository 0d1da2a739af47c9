"""Novelty: how far networks are from the training networks, and whether they make the same mistakes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wflib.evaluation.bound import squared_distance_bound
from wflib.networks import Networks
from wflib.symmetry import order_free_matching, permute, squared_distance, weight_matching
from wflib.zoo import AnyZoo, StoredNetworks, in_parts

__all__ = [
    "NEIGHBOURS",
    "error_overlap",
    "nearest_candidate",
    "nearest_distance",
    "shortlists",
    "thin_trajectories",
]


NEIGHBOURS = 100
ELEMENTS = 2**24


@torch.no_grad()
def nearest_distance(
    queries: Networks,
    training: Networks | StoredNetworks,
    generator: torch.Generator,
    shortlist: int = NEIGHBOURS,
    restarts: int = 1,
    excluded: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Distance of every query θ to the nearest training network, min over n and permutations π of ‖π(θ) − θ_n‖.

    The ``shortlist`` training networks of the smallest :func:`squared_distance_bound` are each matched to the query. The
    result is an upper bound of the minimum, exact for one hidden layer when ``shortlist`` covers all training networks; a
    copy is found whatever the order of its neurons, where its matching is. Neither the bound nor where the matching starts
    depends on the order of neurons, nor does one start depend on chance, so that distances of different sources compare.
    Scalings of neurons are not factored out: give canonical networks for distances modulo both symmetries. Running
    statistics are no part of distances.

    Args:
        queries: In any neuron order.
        training: In any neuron order, on the same device; those on disk are read part by part.
        generator: For weight matching.
        shortlist: Candidates per query that are matched, at least one.
        restarts: Starts of each matching; those after the first are random.
        excluded: (queries, training) bool, pairs that do not count (a network and its own trajectory); None for none.

    Returns:
        Distance (queries,), infinite where every training network is excluded, and index of the training network
        (queries,) int64, −1 there.

    Raises:
        ValueError: No training network, ``shortlist`` below one, or ``excluded`` of the wrong shape.
    """
    count, available = len(queries), len(training)
    if available == 0 or shortlist < 1:
        raise ValueError(
            f"nearest_distance: expected at least one training network and shortlist >= 1, got {available} and {shortlist}."
        )
    if excluded is not None and excluded.shape != (count, available):
        raise ValueError(f"Shape mismatch: excluded expected {(count, available)}, got {tuple(excluded.shape)}.")
    (candidates,) = shortlists(queries, training, [torch.ones(available, dtype=torch.bool)], shortlist, excluded)
    return nearest_candidate(queries, training, candidates, generator, restarts)


@torch.no_grad()
def shortlists(
    queries: Networks,
    training: Networks | StoredNetworks,
    sets: list[Tensor],
    shortlist: int,
    excluded: Tensor | None = None,
) -> list[Tensor]:
    """The networks of each of several sets that have the smallest :func:`squared_distance_bound` to each query.

    Part by part of the training networks, however many; the bound, which is costly, is computed once for all sets.

    Args:
        queries: In any neuron order.
        training: In any neuron order, on the same device or on disk.
        sets: Which training networks each set has, (training,) bool each.
        shortlist: Most networks of a set for each query.
        excluded: Pairs that do not count, (queries, training) bool; None for none.

    Returns:
        For each set indices of training networks, the most promising first, −1 for none, (queries, ≤ shortlist).
    """
    device, start = queries.device, 0
    values = [torch.empty(len(queries), 0, dtype=queries.dtype, device=device) for _ in sets]
    indices = [torch.empty(len(queries), 0, dtype=torch.int64, device=device) for _ in sets]
    for part in in_parts(training):
        bound, here = squared_distance_bound(queries, part), slice(start, start + len(part))
        if excluded is not None:
            bound.masked_fill_(excluded[:, here].to(device), math.inf)
        for number, members in enumerate(sets):
            places = members[here].to(device).nonzero().flatten()
            all_values = torch.cat([values[number], bound[:, places]], 1)
            all_indices = torch.cat([indices[number], (places + start).expand(len(queries), -1)], 1)
            near = all_values.topk(min(shortlist, all_values.shape[1]), largest=False)
            values[number], indices[number] = near.values, all_indices.gather(1, near.indices)
        start += len(part)
    return [found.masked_fill(low.isinf(), -1) for low, found in zip(values, indices, strict=True)]


@torch.no_grad()
def nearest_candidate(
    queries: Networks,
    training: Networks | StoredNetworks,
    candidates: Tensor,
    generator: torch.Generator,
    restarts: int = 1,
) -> tuple[Tensor, Tensor]:
    """As :func:`nearest_distance`, among training networks that are named for each query.

    Args:
        queries: In any neuron order.
        training: In any neuron order, on the same device.
        candidates: Indices of training networks, −1 for none, (queries, candidates).
        generator: For weight matching.
        restarts: Starts of each matching.

    Returns:
        Distance (queries,) and index (queries,), infinite and −1 for queries without candidates.

    Raises:
        ValueError: Not a row of candidates for every query.
    """
    count, device = len(queries), queries.device
    if candidates.ndim != 2 or len(candidates) != count or candidates.shape[1] == 0:
        raise ValueError(f"Shape mismatch: candidates expected ({count}, at least 1), got {tuple(candidates.shape)}.")
    width, candidates = candidates.shape[1], candidates.to(device)
    distance = torch.full((count,), math.inf, dtype=queries.dtype, device=device)
    index = torch.full((count,), -1, device=device)
    # As many queries at once as bound the memory of their copies, one per candidate.
    for rows in torch.arange(count, device=device).split(max(1, ELEMENTS // (width * queries.architecture.dimension))):
        named = candidates[rows]
        target, moving = training[named.clamp_min(0).flatten()], queries[rows.repeat_interleave(width)]
        first = order_free_matching(target, moving)
        moved = permute(moving, weight_matching(target, moving, generator, restarts, first=first))
        found = squared_distance(target, moved).sqrt().view(-1, width).masked_fill(named < 0, math.inf)
        best = found.min(1)
        distance[rows] = best.values
        index[rows] = named.gather(1, best.indices[:, None]).squeeze(1)
    return distance, index


def error_overlap(wrong_a: Tensor, wrong_b: Tensor) -> Tensor:
    """Intersection over union of the inputs that two networks predict wrongly, for all pairs.

    A pair without any error has overlap 0: two perfect networks share no mistake, so they give no evidence of copying.

    Args:
        wrong_a: (n, examples) bool.
        wrong_b: (m, examples) bool.

    Returns:
        (n, m) float32, between 0 and 1.

    Raises:
        ValueError: Not bool, or not over the same examples.
    """
    if wrong_a.dtype != torch.bool or wrong_b.dtype != torch.bool or wrong_a.ndim != 2 or wrong_b.ndim != 2:
        raise ValueError(
            f"error_overlap: expected bool (networks, examples), got {wrong_a.dtype} {tuple(wrong_a.shape)} "
            f"and {wrong_b.dtype} {tuple(wrong_b.shape)}."
        )
    if wrong_a.shape[1] != wrong_b.shape[1]:
        raise ValueError(
            f"Shape mismatch: error_overlap expected the same examples, got {wrong_a.shape[1]} and {wrong_b.shape[1]}."
        )
    both = wrong_a.float() @ wrong_b.float().T
    either = wrong_a.sum(1)[:, None] + wrong_b.sum(1)[None, :] - both
    return both / either.clamp_min(1)


def thin_trajectories(zoo: AnyZoo, snapshots: int) -> Tensor:
    """Indices of at most a few networks per trajectory: the last one and others evenly spaced before it.

    Snapshots of one trajectory are near-duplicates; without thinning a single trajectory fills a whole shortlist.

    Args:
        zoo: Networks of several trajectories.
        snapshots: Most networks to keep per trajectory, at least one.

    Returns:
        (kept,) int64, increasing.

    Raises:
        ValueError: ``snapshots`` is below one.
    """
    if snapshots < 1:
        raise ValueError(f"thin_trajectories: snapshots must be at least 1, got {snapshots}.")
    order = torch.argsort(zoo.step, stable=True)
    order = order[torch.argsort(zoo.trajectory[order], stable=True)]
    counts = torch.unique_consecutive(zoo.trajectory[order], return_counts=True)[1].tolist()
    kept = []
    for run in order.split(counts):
        # From the end backwards, so that one snapshot is the last one.
        kept.append(run.flip(0)[torch.linspace(0, len(run) - 1, min(snapshots, len(run))).round().long()])
    return torch.cat(kept).sort().values if kept else order
