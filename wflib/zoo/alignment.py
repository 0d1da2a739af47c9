"""Aligning a whole zoo: which network the others are brought to, by which method.

The last snapshot of every trajectory is matched, and the trajectory's other snapshots follow it: training does not exchange
neurons, so they share one order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.config import AlignConfig
from wflib.rng import generator
from wflib.storage import load_artifact, save_artifact
from wflib.symmetry import (
    Permutations,
    activation_matching,
    identity,
    permute,
    sinkhorn_matching,
    squared_distance,
    weight_matching,
)
from wflib.zoo.tasks import Dataset, Split
from wflib.zoo.training import network_losses
from wflib.zoo.zoo import Zoo

__all__ = ["Aligner", "align_zoo"]

CHUNK = 500
EXAMPLES = 512
MINIBATCH = 128
MEDOID_CANDIDATES = 64
MEAN_ROUNDS = 10
MEAN_TOLERANCE = 1e-4

Progress = Callable[[str, int, int], None]
"""(what, chunks done, chunks) → None."""


@dataclass(frozen=True)
class Aligner:
    """One method of alignment, as the section ``align`` describes it; only training examples are read.

    Attributes:
        architecture: What a network is.
        config: Method, objective and seed.
        train: The task's training part.
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
        objective, judge = (self.objective(reference, networks, size, random) for size in (MINIBATCH, None))
        return sinkhorn_matching(architecture, weights, objective, judge, start, config.iterations)

    def objective(self, reference: Weights, networks: int, batch: int | None, random: torch.Generator):
        """What Sinkhorn matching makes small: on fresh examples at every call, or on all of them where ``batch`` is None.

        - ``l2``: ‖θ_reference − π(θ)‖²
        - ``midpoint``: the loss at (θ_reference + π(θ)) / 2
        - ``random-point``: the loss at (1 − λ) θ_reference + λ π(θ), λ uniform; judged at the midpoint
        """
        kind = self.config.objective

        def value(weights: Weights) -> Tensor:
            if kind == "l2":
                return squared_distance(self.architecture, reference, weights)
            split = self.train
            if batch is not None:
                chosen = torch.randint(len(split.inputs), (batch,), generator=random)
                split = Split(split.inputs[chosen], split.targets[chosen])
            where = torch.full((networks,), 0.5)
            if kind == "random-point" and batch is not None:
                where = torch.rand(networks, generator=random)

            def between(start: Tensor, end: Tensor) -> Tensor:
                share = where.to(end).view(-1, *[1] * (end.ndim - 1))
                return torch.lerp(start.expand_as(end), end, share)

            return network_losses(self.architecture, {k: between(reference[k], v) for k, v in weights.items()}, split)

        return value


def reference_network(zoo: Zoo, aligner: Aligner, validation: Split) -> Weights:
    """The network that alignment starts from, tensors of shape (1, *shape).

    - ``first``, ``mean``: the first trajectory's last snapshot
    - ``best``: the last snapshot with the lowest validation loss
    - ``medoid``: the one of 64 last snapshots with the smallest sum of distances to the others, matched to it by weights

    Args:
        zoo: Last snapshots of training trajectories.
        aligner: Gives architecture, kind of reference and seed.
        validation: Ranks networks for ``best``.
    """
    kind, architecture = aligner.config.reference, aligner.architecture
    index = 0
    if kind == "best":
        with torch.no_grad():
            index = int(network_losses(architecture, zoo.weights, validation).argmin())
    elif kind == "medoid":
        candidates = zoo[:MEDOID_CANDIDATES]
        count = len(candidates)
        one, other = torch.cartesian_prod(torch.arange(count), torch.arange(count)).unbind(1)
        aims = {name: tensor[one] for name, tensor in candidates.weights.items()}
        moved = {name: tensor[other] for name, tensor in candidates.weights.items()}
        found = weight_matching(architecture, aims, moved, generator(aligner.config.seed, "align", "medoid"))
        distances = squared_distance(architecture, aims, permute(architecture, moved, found)).sqrt()
        index = int(distances.view(count, count).sum(1).argmin())
    return {name: tensor[index : index + 1] for name, tensor in zoo.weights.items()}


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
    """
    aligner, last = Aligner(zoo.architecture, config, dataset.train), zoo.last_snapshots
    learned = ~last.held_out
    reference = reference_network(last[learned], aligner, dataset.validation)

    def match(round_name: str) -> Permutations:
        parts, chunks = [], range(0, len(last), CHUNK)
        for done, start in enumerate(chunks, 1):
            name = f"{round_name}-{start}"
            path = None if checkpoints is None else checkpoints / f"{name}.safetensors"
            if path is not None and path.is_file():
                parts.append(load_artifact(path, "permutations", stage="align")[0])
            else:
                parts.append(aligner.match(reference, last[start : start + CHUNK].weights, name))
                if path is not None:
                    save_artifact(path, "permutations", parts[-1], {})
            if progress is not None:
                progress(round_name, done, len(chunks))
        return {group: torch.cat([part[group] for part in parts]) for group in parts[0]}

    found = match("first round")
    if config.reference == "mean" and config.method != "none":
        previous = float("inf")
        for round_number in range(2, MEAN_ROUNDS + 2):
            aligned = permute(zoo.architecture, last.weights, found)
            reference = {name: tensor[learned].mean(0, keepdim=True) for name, tensor in aligned.items()}
            spread = float(squared_distance(zoo.architecture, reference, aligned)[learned].mean())
            if spread > previous * (1 - MEAN_TOLERANCE):
                break
            previous, found = spread, match(f"round {round_number}")
    place = torch.searchsorted(last.trajectory, zoo.trajectory)
    permutations = {group: indices[place] for group, indices in found.items()}
    return replace(
        zoo,
        weights=permute(zoo.architecture, zoo.weights, permutations),
        permutations=permutations,
        aligned_to=reference,
        form="aligned",
        metadata={**zoo.metadata, "align": config.model_dump()},
    )
