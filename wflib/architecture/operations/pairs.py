"""Sums and products of two values: residual connections and gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import ONE, ZERO, Wires, mix
from wflib.architecture.operations.base import Operation

__all__ = ["Add", "Multiply", "aligned", "product_scale"]


def aligned(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Values (networks, …) with axes of size one behind the networks', so that torch broadcasts them as it does modules'."""
    ndim = max(value.ndim for value in inputs)
    return [value.view(value.shape[0], *(1 for _ in range(ndim - value.ndim)), *value.shape[1:]) for value in inputs]


def product_scale(ledger: Ledger, a: Tensor, b: Tensor) -> Tensor:
    """Scales of a product: the one factor's where the other has none.

    Where both have, a parameter's (layer scale) makes up for the other's; else the second factor's are given up.
    """
    a, b = torch.broadcast_tensors(a, b)
    both = (a > ZERO) & (b > ZERO)
    if both.any():
        for own, other in ((a, b), (b, a)):
            if ledger.absorbs(own, other):
                return own
    ledger.end(b[both])
    return torch.where((a == ZERO) | (b == ZERO), ZERO, torch.where(a == ONE, b, a))


@dataclass(frozen=True)
class Add(Operation):
    """a + alpha · b, with broadcasting."""

    alpha: float = 1.0

    kind: ClassVar[str] = "add"

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Entry by entry."""
        return torch.add(*aligned(inputs), alpha=self.alpha)

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """One neuron and one scale for both."""
        a, b = inputs
        neuron = ledger.combine(a, b)
        ledger.join(a.scale, b.scale)
        scale = torch.where(a.scale == ZERO, b.scale, a.scale)
        return Wires(neuron, mix(a.label, b.label, ledger.number), scale)


@dataclass(frozen=True)
class Multiply(Operation):
    """a · b, with broadcasting."""

    kind: ClassVar[str] = "multiply"

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Entry by entry."""
        return torch.mul(*aligned(inputs))

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """One neuron for both, whose scales multiply."""
        a, b = inputs
        neuron = ledger.combine(a, b)
        return Wires(neuron, mix(a.label, b.label, ledger.number), product_scale(ledger, a.scale, b.scale))
