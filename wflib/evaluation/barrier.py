"""Loss barriers: what happens on the straight line between two networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks import LEAVE_OUT, require_finite
from wflib.tasks import Split
from wflib.zoo import network_losses

__all__ = ["BARRIER_SCHEMA", "Barriers", "barrier_table", "loss_barriers"]

BARRIER_SCHEMA: dict[str, str] = {
    "stage": "str",
    **dict.fromkeys(["i", "j"], "int64"),
    **dict.fromkeys(["midpoint", "excess", "maximal"], "float64"),
}
"""Column → dtype of the table with one row per ordered pair of networks."""


@dataclass(frozen=True)
class Barriers:
    """Symmetric matrices over pairs of networks, in units of the loss.

    Attributes:
        midpoint: L((θ_A + θ_B)/2), (networks, networks); the networks' own losses on the diagonal.
        excess: The midpoint loss above (L(θ_A) + L(θ_B))/2, (networks, networks); zero on the diagonal.
        maximal: The largest excess max_λ L((1 − λ) θ_A + λ θ_B) − (1 − λ) L(θ_A) − λ L(θ_B) over the segment's points, its
            ends included, so never below zero; (networks, networks).
    """

    midpoint: Tensor
    excess: Tensor
    maximal: Tensor


@torch.no_grad()
def loss_barriers(
    architecture: Architecture, weights: Mapping[str, Tensor], split: Split, points: int = 9, chunk: int = 128
) -> Barriers:
    """Barriers of all pairs of networks on their straight segments.

    Everything is interpolated, running statistics too: between networks with batch norm the statistics of a point are not
    those that its weights have on the data, and part of a barrier may come from that.

    Args:
        architecture: What a network is; classification (cross-entropy in nats) or regression (half squared error).
        weights: Tensors of shape (networks, *shape), as they are: align them first to see barriers modulo permutation.
        split: Held-out examples, shared by all networks; moved to the weights' device.
        points: Points between the ends, evenly spaced; an odd number, so that the midpoint is one of them.
        chunk: Pairs that run at once; bounds memory.

    Returns:
        The matrices, on the weights' device.

    Raises:
        ValueError: Weights of the wrong shape, some network is not finite, ``points`` is even, or ``chunk`` below one.
    """
    architecture.validate(weights)
    if chunk < 1 or points < 1 or points % 2 == 0:
        raise ValueError(f"loss_barriers: expected chunk of at least 1 and an odd number of points, got {chunk}, {points}.")
    require_finite(weights, "loss_barriers", LEAVE_OUT)
    some = next(iter(weights.values()))
    split, networks = split.to(some.device), some.shape[0]
    own = network_losses(architecture, dict(weights), split)
    first, second = torch.triu_indices(networks, networks, 1, device=some.device)
    midpoint, maximal = torch.diag(own), some.new_zeros(networks, networks)
    for a, b in zip(first.split(chunk), second.split(chunk), strict=True):
        largest = own.new_zeros(len(a))
        for share in torch.linspace(0, 1, points + 2)[1:-1].tolist():
            between = {name: torch.lerp(w[a], w[b], share) for name, w in weights.items()}
            losses = network_losses(architecture, between, split)
            largest = torch.maximum(largest, losses - torch.lerp(own[a], own[b], share))
            if share == 0.5:
                midpoint[a, b] = midpoint[b, a] = losses
        maximal[a, b] = maximal[b, a] = largest
    return Barriers(midpoint, midpoint - (own[:, None] + own[None, :]) / 2, maximal)


def barrier_table(
    stage: str, architecture: Architecture, weights: Mapping[str, Tensor], split: Split, points: int = 9
) -> pd.DataFrame:
    """:func:`loss_barriers` as rows with the columns of ``BARRIER_SCHEMA``.

    Args:
        stage: What was done to the networks, for example ``"unaligned"``.
        architecture: What a network is.
        weights: Tensors of shape (networks, *shape).
        split: Held-out examples.
        points: Points between the ends of each segment.

    Returns:
        One row per ordered pair, the diagonal included.
    """
    barriers = loss_barriers(architecture, weights, split, points)
    count = len(barriers.midpoint)
    pair = torch.cartesian_prod(torch.arange(count), torch.arange(count))
    return pd.DataFrame(
        {
            "stage": stage,
            "i": pair[:, 0].numpy(),
            "j": pair[:, 1].numpy(),
            "midpoint": barriers.midpoint.flatten().double().cpu().numpy(),
            "excess": barriers.excess.flatten().double().cpu().numpy(),
            "maximal": barriers.maximal.flatten().double().cpu().numpy(),
        }
    ).astype(BARRIER_SCHEMA)
