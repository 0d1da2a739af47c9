"""Loss barriers: what happens on the straight line between two networks."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from wflib.networks import Networks, network_losses
from wflib.tasks import Split

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
def loss_barriers(networks: Networks, split: Split, points: int = 9, chunk: int = 128) -> Barriers:
    """Barriers of all pairs of networks on their straight segments.

    Everything is interpolated, running statistics too: between networks with batch norm the statistics of a point are not
    those that its weights have on the data, and part of a barrier may come from that.

    Args:
        networks: As they are: align them first to see barriers modulo permutation. Losses are those of
            :func:`~wflib.networks.network_losses`.
        split: Held-out examples, shared by all networks; moved to their device.
        points: Points between the ends, evenly spaced; an odd number, so that the midpoint is one of them.
        chunk: Pairs that run at once; bounds memory.

    Returns:
        The matrices, on the networks' device.

    Raises:
        ValueError: Some network is not finite, ``points`` is even, or ``chunk`` below one.
    """
    if chunk < 1 or points < 1 or points % 2 == 0:
        raise ValueError(f"loss_barriers: expected chunk of at least 1 and an odd number of points, got {chunk}, {points}.")
    networks.require_finite("loss_barriers")
    own = network_losses(networks, split)
    first, second = torch.triu_indices(len(own), len(own), 1, device=own.device)
    midpoint, maximal = torch.diag(own), torch.zeros_like(own).diag()
    for a, b in zip(first.split(chunk), second.split(chunk), strict=True):
        start, end, largest = networks[a], networks[b], own.new_zeros(len(a))
        for place in range(1, points + 1):
            share = place / (points + 1)
            losses = network_losses(start.lerp(end, share), split)
            largest = torch.maximum(largest, losses - torch.lerp(own[a], own[b], share))
            if 2 * place == points + 1:
                midpoint[a, b] = midpoint[b, a] = losses
        maximal[a, b] = maximal[b, a] = largest
    return Barriers(midpoint, midpoint - (own[:, None] + own[None, :]) / 2, maximal)


def barrier_table(stage: str, networks: Networks, split: Split, points: int = 9) -> pd.DataFrame:
    """:func:`loss_barriers` as rows with the columns of ``BARRIER_SCHEMA``.

    Args:
        stage: What was done to the networks, for example ``"unaligned"``.
        networks: As they are.
        split: Held-out examples.
        points: Points between the ends of each segment.

    Returns:
        One row per ordered pair, the diagonal included.
    """
    barriers = loss_barriers(networks, split, points)
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
