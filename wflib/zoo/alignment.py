"""Aligning a whole zoo: which network the others are brought to, by which method.

The last snapshot of every trajectory is matched, and the trajectory's other snapshots follow it: training does not exchange
neurons, so they share one order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.config import AlignConfig
from wflib.rng import generator
from wflib.storage import load_artifact, save_artifact
from wflib.symmetry import (
    Objective,
    Permutations,
    activation_matching,
    identity,
    permute,
    sinkhorn_matching,
    squared_distance,
    weight_matching,
)
from wflib.tasks import Dataset, Split
from wflib.zoo.training import network_losses
from wflib.zoo.zoo import Zoo

__all__ = ["Aligner", "align_zoo"]

CHUNK = 500
EXAMPLES = 512
MINIBATCH = 128
NODES = (0.1, 0.3, 0.5, 0.7, 0.9)
NO_BARRIER = 1e-3
MEDOID_CANDIDATES = 64
MEAN_ROUNDS = 100

Progress = Callable[[str, int, int], None]
"""(what, parts done, parts) → None."""


@dataclass(frozen=True)
class Aligner:
    """One method of alignment, as the section ``align`` describes it; only training examples are read.

    Attributes:
        architecture: What a network is.
        config: Method, objective and seed.
        train: The task's training part, of which activation matching and the judging of permutations use 512 examples.
    """

    architecture: Architecture
    config: AlignConfig
    train: Split

    def match(self, reference: Weights, weights: Weights, name: str) -> Permutations:
        """Permutations that bring networks (networks, *shape) near a reference (1, *shape).

        Args:
            reference: Where to.
            weights: What.
            name: Part of the random stream's name: equal names give equal answers.
        """
        config, architecture, random = self.config, self.architecture, generator(self.config.seed, "align", name)
        networks = len(next(iter(weights.values())))
        if config.method == "none":
            return identity(architecture, networks)
        if config.method == "activation-matching":
            return activation_matching(architecture, reference, weights, self.train.inputs[:EXAMPLES])
        start = weight_matching(architecture, reference, weights, random, config.restarts)
        if config.method == "weight-matching":
            return start
        if config.objective == "l2":
            objective = judge = partial(squared_distance, architecture, reference)
        else:
            objective, judge = self.loss_between(reference, random), self.barrier_between(reference, weights)
        return sinkhorn_matching(architecture, weights, objective, judge, start, config.iterations)

    def loss_between(self, reference: Weights, random: torch.Generator) -> Objective:
        """L((1 − λ) θ_reference + λ π(θ)) on fresh training examples, λ = 1/2 for ``midpoint``, else uniform in [0, 1]."""

        def value(permuted: Weights) -> Tensor:
            chosen = torch.randint(len(self.train.inputs), (MINIBATCH,), generator=random)
            split = Split(self.train.inputs[chosen], self.train.targets[chosen])
            networks = len(next(iter(permuted.values())))
            where = torch.full((networks,), 0.5)
            if self.config.objective == "random-point":
                where = torch.rand(networks, generator=random)
            return network_losses(self.architecture, between(reference, permuted, where), split)

        return value

    def barrier_between(self, reference: Weights, weights: Weights) -> Objective:
        """How far the loss between the networks lies above the line between their own losses, on fixed examples.

        At the midpoint, or the mean over five points for ``random-point``; never below ``NO_BARRIER``, so that where no
        barrier is left weight matching's answer, the nearest, is kept.
        """
        split = Split(self.train.inputs[:EXAMPLES], self.train.targets[:EXAMPLES])
        nodes = (0.5,) if self.config.objective == "midpoint" else NODES
        with torch.no_grad():
            start, end = (network_losses(self.architecture, side, split) for side in (reference, weights))

        def value(permuted: Weights) -> Tensor:
            excess = torch.zeros_like(end)
            for node in nodes:
                point = between(reference, permuted, torch.full((len(end),), node))
                excess += network_losses(self.architecture, point, split) - torch.lerp(start, end, node)
            return (excess / len(nodes)).clamp_min(NO_BARRIER)

        return value


def between(start: Weights, end: Weights, where: Tensor) -> Weights:
    """Points (1 − λ) start + λ end of segments, λ of shape (networks,); a single start serves all."""
    return {
        name: torch.lerp(start[name].expand_as(tensor), tensor, where.to(tensor).view(-1, *[1] * (tensor.ndim - 1)))
        for name, tensor in end.items()
    }


def reference_network(zoo: Zoo, config: AlignConfig, validation: Split) -> Weights:
    """The network that others are brought to, tensors of shape (1, *shape).

    - ``first``: the first trajectory's last snapshot
    - ``best``: the last snapshot with the lowest validation loss
    - ``medoid``: the one of 64 last snapshots with the smallest sum of distances to the others, matched to it by weights
    - ``mean``: the mean of all, each matched to it by weights: matching and averaging in turn until no permutation
      changes. Both steps lower Σ_n ‖μ − π_n(θ_n)‖², so it ends.

    Args:
        zoo: Last snapshots of training trajectories.
        config: Kind of reference, seed and restarts.
        validation: Ranks networks for ``best``.
    """
    architecture, random, index = zoo.architecture, generator(config.seed, "align", "reference"), 0
    if config.reference == "mean":
        return mean_network(zoo, config.restarts, random)
    if config.reference == "best":
        with torch.no_grad():
            index = int(network_losses(architecture, zoo.weights, validation).argmin())
    elif config.reference == "medoid":
        candidates = zoo[:MEDOID_CANDIDATES]
        count = len(candidates)
        one, other = torch.cartesian_prod(torch.arange(count), torch.arange(count)).unbind(1)
        aims, moved = candidates[one].weights, candidates[other].weights
        found = weight_matching(architecture, aims, moved, random)
        distances = squared_distance(architecture, aims, permute(architecture, moved, found)).sqrt()
        index = int(distances.view(count, count).sum(1).argmin())
    return zoo[index : index + 1].weights


def mean_network(zoo: Zoo, restarts: int, random: torch.Generator) -> Weights:
    """The mean of networks matched to it, from the first network on; see :func:`reference_network`."""
    mean, moved = zoo[:1].weights, zoo.weights
    for _ in range(MEAN_ROUNDS):
        # Later rounds start from the permutations found so far; other starts would hardly beat them.
        found = weight_matching(zoo.architecture, mean, moved, random, restarts)
        if all(torch.equal(found[group], same) for group, same in identity(zoo.architecture, len(zoo)).items()):
            break
        moved, restarts = permute(zoo.architecture, moved, found), 1
        mean = {name: tensor.mean(0, keepdim=True) for name, tensor in moved.items()}
    return mean


def align_zoo(
    zoo: Zoo, config: AlignConfig, dataset: Dataset, progress: Progress | None = None, checkpoints: Path | None = None
) -> Zoo:
    """Permute the hidden neurons of every network.

    Args:
        zoo: As trained.
        config: Section ``align``.
        dataset: Training examples serve activation matching and Sinkhorn objectives, validation ones ``reference: best``.
        progress: Called after each chunk of networks.
        checkpoints: Folder that keeps what is done, for a run that is killed; None for none.

    Returns:
        The aligned zoo, with permutations and with the reference.

    Raises:
        ValueError: Every trajectory is held out, so that there is none to take the reference from.
    """
    if bool(zoo.held_out.all()):
        raise ValueError(
            f"align: expected trajectories that are not held out, to take the reference from; all of {len(zoo)} networks "
            "are: set zoo.held_out below 1, or choose held_out in wflib.zoo.zoo_from_networks."
        )
    last = zoo.last_snapshots
    reference = reference_network(last[~last.held_out], config, dataset.validation)
    aligner = Aligner(zoo.architecture, config, dataset.train)
    parts, starts = [], range(0, len(last), CHUNK)
    for start in starts:
        path = None if checkpoints is None else checkpoints / f"{start}.safetensors"
        if path is not None and path.is_file():
            parts.append(load_artifact(path, "permutations", stage="align")[0])
        else:
            parts.append(aligner.match(reference, last[start : start + CHUNK].weights, str(start)))
            if path is not None:
                save_artifact(path, "permutations", parts[-1], {})
        if progress is not None:
            progress(config.method, len(parts), len(starts))
    place = torch.searchsorted(last.trajectory, zoo.trajectory)
    permutations = {group: torch.cat([part[group] for part in parts])[place] for group in parts[0]}
    return replace(
        zoo,
        weights=permute(zoo.architecture, zoo.weights, permutations),
        permutations=permutations,
        aligned_to=reference,
        form="aligned",
        metadata={**zoo.metadata, "align": config.model_dump()},
    )
