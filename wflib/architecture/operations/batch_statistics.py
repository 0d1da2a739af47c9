"""Batch norms in training: moments of the examples at hand, as values that others may read, and norms by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wflib.architecture.operations.base import Operation
from wflib.architecture.operations.normalization import along

__all__ = ["Moments", "NormByMoments"]


@dataclass(frozen=True)
class Moments(Operation):
    """Mean and biased variance of every channel over examples and positions: (networks, 2, channels).

    ``mean`` and ``variance`` name the running statistics that follow them; nothing is read from these.
    """

    mean: str = ""
    variance: str = ""

    kind: ClassVar[str] = "moments"
    tensor_fields: ClassVar[tuple[str, ...]] = ("mean", "variance")
    statistic_fields: ClassVar[tuple[str, ...]] = ("mean", "variance")

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Of every network by itself."""
        (x,) = inputs
        variance, mean = torch.var_mean(x, (1, *range(3, x.ndim)), correction=0)
        return torch.stack([mean, variance], 1)


@dataclass(frozen=True)
class NormByMoments(Operation):
    """γ (x − mean) / √(var + ε) + β over axis 1, by moments that are the second input."""

    weight: str | None = None
    bias: str | None = None
    epsilon: float = 1e-5

    kind: ClassVar[str] = "norm_by_moments"
    tensor_fields: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """As a module in training mode, by one factor and one offset for each channel."""
        x, moments = inputs
        mean, variance = moments.unbind(1)
        factor = (variance + self.epsilon).rsqrt()
        if self.weight is not None:
            factor = factor * weights[self.weight]
        offset = -mean * factor
        if self.bias is not None:
            offset = offset + weights[self.bias]
        return torch.addcmul(along(offset, 2, x.ndim), x, along(factor, 2, x.ndim))
