"""Which networks do not come along although they can be read, and which are there twice."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.networks import finite_networks
from wflib.networks.names import listed
from wflib.rng import generator

__all__ = ["BROKEN", "DIVERGED", "NEGATIVE", "OTHER", "copies", "copies_text", "fingerprints", "unusable"]

BROKEN, DIVERGED, NEGATIVE, OTHER = (
    "files that cannot be read",
    "networks that hold NaN or infinity",
    "networks with running variances below zero",
    "networks of another architecture",
)
"""Reasons."""
CHUNK = 256
"""Networks whose numbers are gone through together."""
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def unusable(architecture: Architecture, weights: Weights) -> dict[str, Tensor]:
    """Networks that compute nothing, whatever goes in.

    Args:
        architecture: Of all of them.
        weights: Tensors (networks, *shape).

    Returns:
        Reason → which, (networks,) bool; no network for two reasons.
    """
    diverged = ~finite_networks(weights)
    negative = torch.zeros_like(diverged)
    for name in {getattr(operation, "variance", "") for operation in architecture.operations} & set(weights):
        negative |= (weights[name] < 0).flatten(1).any(1)
    return {DIVERGED: diverged, NEGATIVE: negative & ~diverged}


def fingerprints(weights: Weights) -> Tensor:
    """A number of each network that others have only where all their bits are the same, but for one in 2⁶³.

    Σ_i a_i b_i modulo 2⁶⁴ of the bits b of its numbers and fixed odd a, whose order of summation does not matter.

    Args:
        weights: Tensors (networks, *shape).

    Returns:
        (networks,) int64.
    """
    found = torch.zeros(len(next(iter(weights.values()))), dtype=torch.int64)
    for name, tensor in weights.items():
        width = tensor[0].numel() if len(tensor) else 0
        factors = torch.randint(2**62, (width,), generator=generator(0, "fingerprint", name)) * 2 + 1
        for start in range(0, len(tensor), CHUNK):
            part = tensor[start : start + CHUNK].reshape(-1, width).contiguous()
            found[start : start + CHUNK] += (part.view(BITS[part.itemsize]).long() * factors).sum(1)
    return found


def copies(rows: pd.DataFrame, prints: Tensor) -> list[str]:
    """Networks that are the same as one of another run before them, but for what runs began with, which is often common.

    Args:
        rows: Labels of networks.
        prints: Their fingerprints.

    Returns:
        Runs with steps.
    """
    table = rows.assign(print=prints.tolist())
    table = table[~table["initial"].astype(bool)]
    first = table.groupby("print")["run"].transform("first")
    again = table[table["run"] != first]
    return [f"{run} {step}" for run, step in zip(again["run"], again["step"], strict=True)]


def copies_text(found: Sequence[str]) -> str:
    """What to say of networks that are there twice."""
    return (
        f"{len(found)} networks are the same as one of another run: {listed(found, 5)}; held-out networks may then be ones "
        "that were learned from. Remove the copies."
    )
