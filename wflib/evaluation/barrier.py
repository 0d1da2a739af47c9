"""Loss barriers: what happens on the straight line between two networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.zoo import Split, network_losses

__all__ = ["BARRIER_SCHEMA", "Barriers", "barrier_table", "loss_barriers", "segment_barriers"]

BARRIER_SCHEMA: dict[str, str] = {
    "stage": "str",
    "i": "int64",
    "j": "int64",
    **dict.fromkeys(["midpoint", "excess", "maximal"], "float64"),
}
"""Column → dtype of the table with one row per ordered pair of networks."""

POINTS = 11


@dataclass(frozen=True)
class Barriers:
    """Barriers of segments between networks θ_A and θ_B, in units of the loss.

    From :func:`loss_barriers` these are symmetric matrices over pairs, with zeros for a network with itself.

    Attributes:
        midpoint: L((θ_A + θ_B)/2); the networks' own losses on the diagonal.
        excess: The midpoint loss above (L(θ_A) + L(θ_B))/2.
        maximal: The largest of L((1 − λ) θ_A + λ θ_B) − (1 − λ) L(θ_A) − λ L(θ_B) over points λ of the segment; the ends
            are among them, so it is never below zero.
    """

    midpoint: Tensor
    excess: Tensor
    maximal: Tensor


@torch.no_grad()
def segment_barriers(
    architecture: Architecture, start: Mapping[str, Tensor], end: Mapping[str, Tensor], split: Split, points: int = POINTS
) -> Barriers:
    """Barriers along the segments between given pairs of networks.

    Args:
        architecture: What a network is; classification (cross-entropy in nats) or regression (half squared error).
        start: θ_A of every pair, tensors of shape (pairs, *shape), or (1, *shape) for all.
        end: θ_B of every pair, (pairs, *shape).
        split: Held-out examples on the weights' device.
        points: Equidistant points λ on a segment, both ends and the midpoint among them: odd, at least 3.

    Returns:
        Barriers of shape (pairs,).

    Raises:
        ValueError: ``points`` is even or below 3.
    """
    if points < 3 or points % 2 == 0:
        raise ValueError(f"segment_barriers: points must be odd and at least 3, got {points}.")
    first, last = (network_losses(architecture, side, split) for side in (start, end))
    first = first.expand_as(last)
    maximal = torch.zeros_like(last)
    for step in range(1, points - 1):
        share = step / (points - 1)
        between = {name: torch.lerp(start[name].expand_as(tensor), tensor, share) for name, tensor in end.items()}
        losses = network_losses(architecture, between, split)
        excess = losses - torch.lerp(first, last, share)
        maximal = torch.maximum(maximal, excess)
        if 2 * step == points - 1:
            halfway = losses, excess
    return Barriers(*halfway, maximal)


def loss_barriers(
    architecture: Architecture, weights: Mapping[str, Tensor], split: Split, points: int = POINTS, chunk: int = 128
) -> Barriers:
    """Barriers of all pairs of networks, as :func:`segment_barriers` measures them.

    Args:
        architecture: What a network is; classification (cross-entropy in nats) or regression (half squared error).
        weights: Tensors of shape (networks, *shape), as they are: align them first to see barriers modulo permutation.
        split: Held-out examples, shared by all networks; moved to the weights' device.
        points: Points on a segment, odd, at least 3.
        chunk: Pairs that run at once; bounds memory.

    Returns:
        Matrices (networks, networks), on the weights' device.

    Raises:
        ValueError: Weights of the wrong shape, ``points`` even or below 3, or ``chunk`` below one.
    """
    architecture.validate(weights)
    if chunk < 1:
        raise ValueError(f"loss_barriers: chunk must be at least 1, got {chunk}.")
    some = weights[architecture.layers[0].weight]
    split, networks = split.to(some.device), some.shape[0]
    matrices = some.new_zeros(3, networks, networks)
    # The diagonal runs through the same code: a network is the midpoint of itself.
    first, second = torch.triu_indices(networks, networks, device=some.device)
    for a, b in zip(first.split(chunk), second.split(chunk), strict=True):
        start, end = ({name: tensor[side] for name, tensor in weights.items()} for side in (a, b))
        found = segment_barriers(architecture, start, end, split, points)
        matrices[:, a, b] = matrices[:, b, a] = torch.stack([found.midpoint, found.excess, found.maximal])
    matrices[1:].diagonal(dim1=1, dim2=2).zero_()  # of a network with itself there is only rounding
    return Barriers(*matrices)


def barrier_table(
    stage: str, architecture: Architecture, weights: Mapping[str, Tensor], split: Split, points: int = POINTS
) -> pd.DataFrame:
    """:func:`loss_barriers` as rows with the columns of ``BARRIER_SCHEMA``.

    Args:
        stage: What was done to the networks: ``"unaligned"``, ``"aligned"``, or a method's name.
        architecture: What a network is.
        weights: Tensors of shape (networks, *shape).
        split: Held-out examples.
        points: Points on a segment, odd, at least 3.

    Returns:
        One row per ordered pair, the diagonal included.
    """
    barriers = loss_barriers(architecture, weights, split, points)
    count = len(barriers.midpoint)
    pair = torch.cartesian_prod(torch.arange(count), torch.arange(count))
    columns = {name: getattr(barriers, name).flatten().double().cpu().numpy() for name in ("midpoint", "excess", "maximal")}
    return pd.DataFrame({"stage": stage, "i": pair[:, 0].numpy(), "j": pair[:, 1].numpy(), **columns}).astype(BARRIER_SCHEMA)
