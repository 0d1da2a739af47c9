"""Embeddings of time and modulation by it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["TimeEmbedding"]


class TimeEmbedding(nn.Module):
    """Times (batch,) in [0, 1] → features (batch, dimension): Fourier features and a small network."""

    def __init__(self, dimension: int, frequencies: int = 16, highest: float = 1000.0) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.exp(torch.arange(frequencies) * (math.log(highest) / frequencies)), persistent=False
        )
        self.network = nn.Sequential(
            nn.Linear(2 * frequencies, dimension), nn.SiLU(), nn.Linear(dimension, dimension), nn.SiLU()
        )

    def forward(self, t: Tensor) -> Tensor:
        """Embed times."""
        phase = t[:, None] * self.frequencies
        return self.network(torch.cat([phase.sin(), phase.cos()], 1))
