"""Aligning a whole zoo: which network the others are brought to, by which method.

The last snapshot of every trajectory is matched, and the trajectory's other snapshots follow it: training does not exchange
neurons, so they share one order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wflib.config import AlignConfig
from wflib.distributed import put_together, rank, world_size
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.storage import KeptParts
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
from wflib.zoo.base import AnyZoo
from wflib.zoo.zoo import Zoo

__all__ = ["Aligner", "Alignment", "align_zoo", "find_alignment"]

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
        config: Method, objective and seed.
        train: The task's training part, of which activation matching and the judging of permutations use 512 examples.
    """

    config: AlignConfig
    train: Split

    def match(self, reference: Networks, networks: Networks, name: str) -> Permutations:
        """Permutations that bring networks near a reference.

        Args:
            reference: Where to, one network.
            networks: What.
            name: Part of the random stream's name: equal names give equal answers.
        """
        config, random = self.config, generator(self.config.seed, "align", name)
        if config.method == "none":
            return identity(networks.architecture, len(networks))
        if config.method == "activation-matching":
            return activation_matching(reference, networks, self.train.inputs[:EXAMPLES])
        start = weight_matching(reference, networks, random, config.restarts)
        if config.method == "weight-matching":
            return start
        objective: Objective = partial(squared_distance, reference)
        judge = objective
        if config.objective != "l2":
            objective, judge = self.loss_between(reference, random), self.barrier_between(reference, networks)
        return sinkhorn_matching(networks, objective, judge, start, config.iterations)

    def loss_between(self, reference: Networks, random: torch.Generator) -> Objective:
        """L((1 − λ) θ_reference + λ π(θ)) on fresh training examples, λ = 1/2 for ``midpoint``, else uniform in [0, 1]."""

        def value(permuted: Networks) -> Tensor:
            chosen = torch.randint(len(self.train.inputs), (MINIBATCH,), generator=random, device=random.device).cpu()
            split = self.train[chosen]
            where = torch.full((len(permuted),), 0.5)
            if self.config.objective == "random-point":
                where = torch.rand(len(permuted), generator=random, device=random.device).cpu()
            return network_losses(reference.lerp(permuted, where), split)

        return value

    def barrier_between(self, reference: Networks, networks: Networks) -> Objective:
        """How far the loss between the networks lies above the line between their own losses, on fixed examples.

        At the midpoint, or the mean over five points for ``random-point``; never below ``NO_BARRIER``, so that where no
        barrier is left weight matching's answer, the nearest, is kept.
        """
        split = self.train[:EXAMPLES]
        nodes = (0.5,) if self.config.objective == "midpoint" else NODES
        with torch.no_grad():
            start, end = (network_losses(side, split) for side in (reference, networks))

        def value(permuted: Networks) -> Tensor:
            excess = torch.zeros_like(end)
            for node in nodes:
                point = reference.lerp(permuted, torch.full((len(end),), node))
                excess += network_losses(point, split) - torch.lerp(start, end, node)
            return (excess / len(nodes)).clamp_min(NO_BARRIER)

        return value


def reference_network(zoo: AnyZoo, config: AlignConfig, validation: Split) -> Networks:
    """The one network that others are brought to.

    - ``first``: the first trajectory's last snapshot
    - ``best``: the last snapshot with the lowest validation loss
    - ``medoid``: the one of 64 last snapshots with the smallest sum of distances to the others, matched to it by weights
    - ``mean``: the mean of all, each matched to it by weights: matching and averaging in turn until no permutation
      changes. Both steps lower Σ_n ‖μ − π_n(θ_n)‖², so it ends. Of a zoo larger than memory those of random trajectories.

    Args:
        zoo: Last snapshots of training trajectories.
        config: Kind of reference, seed and restarts.
        validation: Ranks networks for ``best``.
    """
    random, index = generator(config.seed, "align", "reference"), 0
    if config.reference == "mean":
        return mean_network(zoo.some(random).networks, config.restarts, random)
    if config.reference == "best":
        with torch.no_grad():
            index = int(zoo.each(lambda networks: network_losses(networks, validation)).argmin())
    elif config.reference == "medoid":
        candidates = zoo[:MEDOID_CANDIDATES].networks
        count = len(candidates)
        one, other = torch.cartesian_prod(torch.arange(count), torch.arange(count)).unbind(1)
        aims, moved = candidates[one], candidates[other]
        distances = squared_distance(aims, permute(moved, weight_matching(aims, moved, random))).sqrt()
        index = int(distances.view(count, count).sum(1).argmin())
    return zoo[index : index + 1].networks


def mean_network(networks: Networks, restarts: int, random: torch.Generator) -> Networks:
    """The mean of networks matched to it, from the first network on; see :func:`reference_network`."""
    mean, moved = networks[:1], networks
    for _ in range(MEAN_ROUNDS):
        # Later rounds start from the permutations found so far; other starts would hardly beat them.
        found = weight_matching(mean, moved, random, restarts)
        if all(torch.equal(found[group], same) for group, same in identity(networks.architecture, len(networks)).items()):
            break
        moved, restarts = permute(moved, found), 1
        mean = moved.map(lambda tensor: tensor.mean(0, keepdim=True))
    return mean


@dataclass(frozen=True)
class Alignment:
    """How the networks of a zoo are to be permuted.

    Attributes:
        config: Section ``align``.
        reference: What they are brought to.
        runs: Trajectories, (runs,), rising.
        permutations: Of each trajectory's networks.
    """

    config: AlignConfig
    reference: Networks
    runs: Tensor
    permutations: Permutations

    @property
    def metadata(self) -> dict[str, Any]:
        """What an aligned zoo's metadata say of it."""
        return {"align": self.config.model_dump()}

    def __call__(self, zoo: Zoo) -> Zoo:
        """Networks of these trajectories, aligned, with permutations and with the reference."""
        place = torch.searchsorted(self.runs, zoo.trajectory)
        permutations = {group: indices[place] for group, indices in self.permutations.items()}
        return replace(
            zoo,
            networks=permute(zoo.networks, permutations),
            permutations=permutations,
            aligned_to=self.reference,
            form="aligned",
            metadata={**zoo.metadata, **self.metadata},
        )


def find_alignment(
    zoo: AnyZoo, config: AlignConfig, dataset: Dataset, progress: Progress | None = None, parts: KeptParts | None = None
) -> Alignment:
    """The permutations that :func:`align_zoo` applies, found chunk by chunk of trajectories, which processes share."""
    if not len(zoo.training_part):
        raise ValueError(
            f"align: expected trajectories that are not held out, to take the reference from; all of {len(zoo)} networks "
            "are: set zoo.held_out below 1, or choose held_out in wflib.zoo.zoo_from_networks."
        )
    last = zoo.last_snapshots
    reference = reference_network(last.training_part, config, dataset.validation)
    aligner, done = Aligner(config, dataset.train), 0
    permutations = {group: torch.zeros_like(same) for group, same in identity(zoo.architecture, len(last)).items()}
    starts, parts = range(0, len(last), CHUNK), parts or KeptParts()
    for start in starts[rank() :: world_size()]:
        match = partial(aligner.match, reference, last[start : start + CHUNK].networks, str(start))
        for group, indices in parts(f"{start}", match).items():
            permutations[group][start : start + CHUNK] = indices
        done = min(len(starts), done + world_size())
        if progress is not None:
            progress(config.method, done, len(starts))
    return Alignment(config, reference, last.trajectory, {g: put_together(each) for g, each in permutations.items()})


def align_zoo(
    zoo: Zoo, config: AlignConfig, dataset: Dataset, progress: Progress | None = None, parts: KeptParts | None = None
) -> Zoo:
    """Permute the hidden neurons of every network.

    Args:
        zoo: As trained. One on disk is aligned part by part: ``find_alignment(zoo, …)(part)`` for parts in ``zoo.chunks()``.
        config: Section ``align``.
        dataset: Training examples serve activation matching and Sinkhorn objectives, validation ones ``reference: best``.
        progress: Called after each chunk of networks.
        parts: Keeps what is done, for a run that is killed.

    Returns:
        The aligned zoo, with permutations and with the reference.

    Raises:
        ValueError: Every trajectory is held out, so that there is none to take the reference from.
    """
    return find_alignment(zoo, config, dataset, progress, parts)(zoo)
