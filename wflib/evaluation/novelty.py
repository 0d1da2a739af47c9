"""Novelty: how far networks are from the training networks, and whether they make the same mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.symmetry import permute, squared_distance, weight_matching
from wflib.zoo import Zoo

__all__ = ["NEIGHBOURS", "distance_guess", "error_overlap", "nearest_candidate", "nearest_distance", "thin_trajectories"]


NEIGHBOURS = 100
ELEMENTS = 2**24


@torch.no_grad()
def nearest_distance(
    architecture: Architecture,
    queries: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    generator: torch.Generator,
    shortlist: int = NEIGHBOURS,
    restarts: int = 1,
    excluded: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Distance of every query θ to the nearest training network, min over n and permutations π of ‖π(θ) − θ_n‖.

    The ``shortlist`` training networks nearest by :func:`distance_guess`, which ignores the order of neurons, are each
    matched to the query. The result is an upper bound of the minimum, exact for one hidden layer when ``shortlist`` covers
    all training networks. Scalings of neurons are not factored out: give canonical networks (and their architecture) for
    distances modulo both symmetries.

    Args:
        architecture: What a network is.
        queries: Tensors of shape (queries, *shape); matching starts from the order given, so align deep networks first.
        training: Tensors of shape (training, *shape), on the same device.
        generator: For the starts of weight matching.
        shortlist: Candidates per query that are matched, at least one.
        restarts: Starts of each matching; the first is the order given.
        excluded: (queries, training) bool, pairs that do not count (a network and its own trajectory); None for none.
        chunk: Queries that are matched at once; bounds memory.

    Returns:
        Distance (queries,), infinite where every training network is excluded, and index of the training network
        (queries,) int64, −1 there.

    Raises:
        ValueError: No training network, ``shortlist`` or ``chunk`` below one, or ``excluded`` of the wrong shape.
    """
    count, available = (len(next(iter(side.values()))) for side in (queries, training))
    if available == 0 or shortlist < 1 or chunk < 1:
        raise ValueError(
            "nearest_distance: expected at least one training network, shortlist >= 1 and chunk >= 1, "
            f"got {available}, {shortlist} and {chunk}."
        )
    if excluded is not None and excluded.shape != (count, available):
        raise ValueError(f"Shape mismatch: excluded expected {(count, available)}, got {tuple(excluded.shape)}.")
    guess = distance_guess(architecture, queries, training)
    if excluded is not None:
        guess = guess.masked_fill(excluded.to(guess.device), math.inf)
    near = guess.topk(min(shortlist, available), largest=False)
    candidates = near.indices.masked_fill(near.values.isinf(), -1)
    return nearest_candidate(architecture, queries, training, candidates, generator, restarts, chunk)


@torch.no_grad()
def nearest_candidate(
    architecture: Architecture,
    queries: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    candidates: Tensor,
    generator: torch.Generator,
    restarts: int = 1,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """As :func:`nearest_distance`, among training networks that are named for each query.

    Args:
        architecture: What a network is.
        queries: Tensors of shape (queries, *shape).
        training: Tensors of shape (training, *shape), on the same device.
        candidates: Indices of training networks, −1 for none, (queries, candidates).
        generator: For the starts of weight matching.
        restarts: Starts of each matching.
        chunk: Queries that are matched at once.

    Returns:
        Distance (queries,) and index (queries,), infinite and −1 for queries without candidates.
    """
    count, width = candidates.shape
    device = next(iter(queries.values())).device
    candidates = candidates.to(device)
    distance, index = torch.full((count,), math.inf, device=device), torch.full((count,), -1, device=device)
    for rows in torch.arange(count, device=device).split(chunk):
        named = candidates[rows]
        target = {name: tensor[named.clamp_min(0).flatten()] for name, tensor in training.items()}
        moving = {name: tensor[rows].repeat_interleave(width, 0) for name, tensor in queries.items()}
        moved = permute(architecture, moving, weight_matching(architecture, target, moving, generator, restarts))
        matched = squared_distance(architecture, target, moved).sqrt().view(-1, width).masked_fill(named < 0, math.inf)
        best = matched.min(1)
        distance[rows] = best.values.to(distance.dtype)
        index[rows] = named.gather(1, best.indices[:, None]).squeeze(1)
    return distance, index


@torch.no_grad()
def distance_guess(architecture: Architecture, queries: Mapping[str, Tensor], training: Mapping[str, Tensor]) -> Tensor:
    """Squared distances modulo permutation without matching, from what the order of neurons cannot change.

    ‖θ‖² + ‖θ_n‖² − 2 Σ of inner products: those of tensors without neurons, and per hidden layer the largest that each
    neuron finds among the other network's, min(Σ_k max_j g_kj, Σ_j max_k g_kj). Weights between two hidden layers, whose
    products depend on two orders, are left out. With one hidden layer it is a lower bound of the squared distance.

    Args:
        architecture: What a network is.
        queries: Tensors of shape (queries, *shape), in any neuron order.
        training: Tensors of shape (training, *shape), in any neuron order, on the same device.

    Returns:
        (queries, training), the same for every order of neurons on either side.
    """
    ours, theirs = architecture.flatten(queries), architecture.flatten(training)
    products = ours.new_zeros(len(ours), len(theirs))
    hidden = {group.name for group in architecture.hidden_groups}
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {group: [] for group in hidden}
    for spec in architecture.tensors:
        groups = [axis for axis in spec.axes if axis in hidden]
        sides = (queries[spec.name], training[spec.name])
        if not groups:
            a, b = (side.reshape(len(side), -1) for side in sides)
            products += a @ b.T
        elif len(groups) == 1:
            axis = spec.axes.index(groups[0]) + 1
            a, b = (side.movedim(axis, 1).reshape(len(side), side.shape[axis], -1) for side in sides)
            parts[groups[0]].append((a, b))
    for group in hidden:
        a, b = (torch.cat(side, -1) for side in zip(*parts[group], strict=True))
        neurons = a.shape[1]
        for rows in torch.arange(len(a), device=a.device).split(max(1, ELEMENTS // max(1, len(b) * neurons**2))):
            gains = (a[rows].flatten(0, 1) @ b.flatten(0, 1).T).view(len(rows), neurons, len(b), neurons)
            products[rows] += torch.minimum(gains.amax(3).sum(1), gains.amax(1).sum(-1))
    return ours.square().sum(1)[:, None] + theirs.square().sum(1)[None] - 2 * products


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


def thin_trajectories(zoo: Zoo, snapshots: int) -> Tensor:
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
