"""Loss barriers: what happens halfway on the straight line between two networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.zoo import Split, network_losses

__all__ = ["BARRIER_SCHEMA", "Barriers", "barrier_table", "loss_barriers"]

BARRIER_SCHEMA: dict[str, str] = {"stage": "str", "i": "int64", "j": "int64", "midpoint": "float64", "excess": "float64"}
"""Column → dtype of the table with one row per ordered pair of networks."""


@dataclass(frozen=True)
class Barriers:
    """Symmetric matrices over pairs of networks, in units of the loss.

    Attributes:
        midpoint: L((θ_A + θ_B)/2), (networks, networks); the networks' own losses on the diagonal.
        excess: The midpoint loss above (L(θ_A) + L(θ_B))/2, (networks, networks); zero on the diagonal.
    """

    midpoint: Tensor
    excess: Tensor


@torch.no_grad()
def loss_barriers(architecture: Architecture, weights: Mapping[str, Tensor], split: Split, chunk: int = 128) -> Barriers:
    """Barriers of all pairs of networks: L((θ_A + θ_B)/2) and its excess over (L(θ_A) + L(θ_B))/2.

    Args:
        architecture: What a network is; classification (cross-entropy in nats) or regression (half squared error).
        weights: Tensors of shape (networks, *shape), as they are: align them first to see barriers modulo permutation.
        split: Held-out examples, shared by all networks; moved to the weights' device.
        chunk: Pairs that run at once; bounds memory.

    Returns:
        Both matrices, on the weights' device.

    Raises:
        ValueError: Weights of the wrong shape, or ``chunk`` below one.
    """
    architecture.validate(weights)
    if chunk < 1:
        raise ValueError(f"loss_barriers: chunk must be at least 1, got {chunk}.")
    some = weights[architecture.layers[0].weight]
    split, networks = split.to(some.device), some.shape[0]
    # The diagonal runs through the same code: a network is the midpoint of itself.
    first, second = torch.triu_indices(networks, networks, device=some.device)
    midpoint = some.new_zeros(networks, networks)
    for a, b in zip(first.split(chunk), second.split(chunk), strict=True):
        losses = network_losses(architecture, {name: (w[a] + w[b]) / 2 for name, w in weights.items()}, split)
        midpoint[a, b] = losses
        midpoint[b, a] = losses
    own = midpoint.diagonal()
    return Barriers(midpoint, midpoint - (own[:, None] + own[None, :]) / 2)


def barrier_table(stage: str, architecture: Architecture, weights: Mapping[str, Tensor], split: Split) -> pd.DataFrame:
    """:func:`loss_barriers` as rows with the columns of ``BARRIER_SCHEMA``.

    Args:
        stage: What was done to the networks: ``"unaligned"`` or ``"aligned"``.
        architecture: What a network is.
        weights: Tensors of shape (networks, *shape).
        split: Held-out examples.

    Returns:
        One row per ordered pair, the diagonal included.
    """
    barriers = loss_barriers(architecture, weights, split)
    count = len(barriers.midpoint)
    pair = torch.cartesian_prod(torch.arange(count), torch.arange(count))
    return pd.DataFrame(
        {
            "stage": stage,
            "i": pair[:, 0].numpy(),
            "j": pair[:, 1].numpy(),
            "midpoint": barriers.midpoint.flatten().double().cpu().numpy(),
            "excess": barriers.excess.flatten().double().cpu().numpy(),
        }
    ).astype(BARRIER_SCHEMA)
