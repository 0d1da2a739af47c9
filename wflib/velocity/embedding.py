"""What velocity networks see: time, other scalars that a prediction may be conditioned on, and fields over the weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["ScalarEmbedding", "TimeEmbedding", "all_fields", "join"]


def all_fields(x: Tensor, fields: Tensor | None, count: int) -> tuple[Tensor, ...]:
    """Coordinates (batch, D) and ``count`` further fields over the same weights (batch, fields, D), each (batch, D)."""
    found = () if fields is None else fields.unbind(1)
    if len(found) != count:
        raise ValueError(f"This velocity network sees {count} fields over the weights besides x, got {len(found)}.")
    return (x, *found)


def join(features: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Features side by side on the last axis; those of one field are not copied."""
    return torch.cat(features, -1) if len(features) > 1 else features[0]


class ScalarEmbedding(nn.Module):
    """Standardized scalars (batch, scalars) → features (batch, dimension); NaN means that a scalar is not given.

    Fourier features and a small network for each scalar; for one that is not given a learned vector. Both start at zero, so
    that a network with conditions starts as one without.

    Args:
        scalars: How many.
        dimension: Features of the embedding.
        frequencies: Number of frequencies between 1/4 and ``highest`` radians per unit.
        highest: The highest of them.
    """

    frequencies: Tensor

    def __init__(self, scalars: int, dimension: int, frequencies: int = 8, highest: float = 8.0) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.logspace(math.log10(0.25), math.log10(highest), frequencies), persistent=False
        )
        networks = [
            nn.Sequential(nn.Linear(2 * frequencies, dimension), nn.SiLU(), nn.Linear(dimension, dimension))
            for _ in range(scalars)
        ]
        self.networks = nn.ModuleList(networks)
        self.absent = nn.Parameter(torch.zeros(scalars, dimension))
        for network in networks:
            for parameter in network[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, scalars: Tensor) -> Tensor:
        """Embed scalars and add up their features."""
        total = torch.zeros_like(self.absent[0])
        for scalar, network, absent in zip(scalars.unbind(1), self.networks, self.absent, strict=True):
            missing = scalar.isnan()[:, None]
            phase = torch.nan_to_num(scalar)[:, None] * self.frequencies
            total = total + torch.where(missing, absent, network(torch.cat([phase.sin(), phase.cos()], 1)))
        return total


class TimeEmbedding(nn.Module):
    """Times (batch,) in [0, 1] → features (batch, dimension): Fourier features and a small network.

    Args:
        dimension: Features of the embedding.
        scalars: Number of further scalars, added by a :class:`ScalarEmbedding`.
        frequencies: Number of frequencies between one and ``highest`` radians per unit.
        highest: Bound of the frequencies.
    """

    frequencies: Tensor

    def __init__(self, dimension: int, scalars: int = 0, frequencies: int = 16, highest: float = 1000.0) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.exp(torch.arange(frequencies) * (math.log(highest) / frequencies)), persistent=False
        )
        self.network = nn.Sequential(
            nn.Linear(2 * frequencies, dimension), nn.SiLU(), nn.Linear(dimension, dimension), nn.SiLU()
        )
        self.scalars = ScalarEmbedding(scalars, dimension) if scalars else None

    def forward(self, t: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Embed times (batch,) and, where the network has them, scalars (batch, scalars)."""
        phase = t[:, None] * self.frequencies
        embedded: Tensor = self.network(torch.cat([phase.sin(), phase.cos()], 1))
        return embedded if self.scalars is None else embedded + self.scalars(scalars)
