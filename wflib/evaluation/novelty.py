"""Novelty: how far networks are from the training networks, and whether they make the same mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.symmetry import permute, squared_distance, weight_matching
from wflib.zoo import Zoo

__all__ = ["error_overlap", "nearest_distance", "thin_trajectories"]


@torch.no_grad()
def nearest_distance(
    architecture: Architecture,
    queries: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    generator: torch.Generator,
    shortlist: int = 20,
    restarts: int = 1,
    excluded: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Distance of every query θ to the nearest training network, min over n and permutations π of ‖π(θ) − θ_n‖.

    The ``shortlist`` training networks nearest by plain distance are each matched to the query; both sides should be
    aligned to one reference, so that the plain distance is a fair guess. The result is an upper bound of the minimum, exact
    for one hidden layer when ``shortlist`` covers all training networks. Scalings of neurons are not factored out: give
    canonical networks (and their architecture) for distances modulo both symmetries.

    Args:
        architecture: What a network is.
        queries: Tensors of shape (queries, *shape), aligned.
        training: Tensors of shape (training, *shape), aligned to the same reference, on the same device.
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
    ours, theirs = architecture.flatten(queries), architecture.flatten(training)
    if len(theirs) == 0 or shortlist < 1 or chunk < 1:
        raise ValueError(
            "nearest_distance: expected at least one training network, shortlist >= 1 and chunk >= 1, "
            f"got {len(theirs)}, {shortlist} and {chunk}."
        )
    plain = torch.cdist(ours, theirs)
    if excluded is not None:
        if excluded.shape != plain.shape:
            raise ValueError(f"Shape mismatch: excluded expected {tuple(plain.shape)}, got {tuple(excluded.shape)}.")
        plain = plain.masked_fill(excluded.to(plain.device), math.inf)
    count = min(shortlist, len(theirs))
    near = plain.topk(count, largest=False)
    distance, index = ours.new_full((len(ours),), math.inf), torch.full((len(ours),), -1, device=ours.device)
    for rows in torch.arange(len(ours), device=ours.device).split(chunk):
        candidates = near.indices[rows]
        target = {name: tensor[candidates.flatten()] for name, tensor in training.items()}
        moving = {name: tensor[rows].repeat_interleave(count, 0) for name, tensor in queries.items()}
        moved = permute(architecture, moving, weight_matching(architecture, target, moving, generator, restarts))
        # Distances anew, not from cdist: its matrix-product form loses small distances to cancellation.
        matched = squared_distance(architecture, target, moved).sqrt().view(-1, count)
        matched = matched.masked_fill(near.values[rows].isinf(), math.inf)
        distance[rows], best = matched.min(1)
        index[rows] = candidates.gather(1, best[:, None]).squeeze(1)
    return distance, index.masked_fill(distance.isinf(), -1)


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
