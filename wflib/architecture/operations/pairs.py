"""Sums and products of two values: residual connections and gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


def product_scale(ledger: Ledger, a: Wires, b: Wires) -> Tensor:
    """Scales of a product: the one factor's where the other has none.

    Where both have, a parameter's (layer scale) makes up for the other's, if that is all it is there for; else one factor's
    are given up: a parameter's where the other's are a neuron's, the second's where they are alike.
    """
    first: Tensor
    second: Tensor
    first, second = torch.broadcast_tensors(a.scale, b.scale)
    both = (first > ZERO) & (second > ZERO)
    if both.any():
        for factor, own, other in ((a, first, second), (b, second, first)):
            if ledger.absorbs(replace(factor, scale=own), other):
                return own
    given = both & ledger.of_parameters(first) & ~ledger.of_parameters(second)
    ledger.end(torch.where(given, first, second)[both])
    kept = torch.where(given | (first == ONE), second, first)
    return torch.where((first == ZERO) | (second == ZERO), ZERO, kept)


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
        neuron, label = ledger.combine(a, b, mix(a.label, b.label, ledger.number))
        ledger.join(a.scale, b.scale)
        return Wires(neuron, label, torch.where(a.scale == ZERO, b.scale, a.scale))


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
        neuron, label = ledger.combine(a, b, mix(a.label, b.label, ledger.number))
        return Wires(neuron, label, product_scale(ledger, a, b))
