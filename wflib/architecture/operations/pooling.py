"""Maxima and means over windows of positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import Wires, mix
from wflib.architecture.operations.base import Operation

__all__ = ["Pool"]

NAMES = ("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool")


@dataclass(frozen=True)
class Pool(Operation):
    """``torch.nn.functional``'s pooling ``name`` over the axes behind axis 1, with its arguments by name."""

    name: str = "max_pool"
    settings: tuple[tuple[str, int | bool | tuple[int, ...] | None], ...] = ()

    kind: ClassVar[str] = "pool"

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"Architecture: unknown pooling {self.name!r}; known: {sorted(NAMES)}.")

    @property
    def kink(self) -> str | None:
        """A maximum's derivative jumps where another entry becomes the largest."""
        return self.name if "max" in self.name else None

    def pooled(self, folded: Tensor) -> Tensor:
        """(examples, channels, …) → the same with other positions."""
        found: Tensor = getattr(functional, f"{self.name}{folded.ndim - 2}d")(folded, **dict(self.settings))
        return found

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """All networks as examples of one; with examples innermost in memory these are the channels of one image each."""
        (x,) = inputs
        if x.ndim == 5 and x.stride(1) == 1 < x.shape[1]:
            found: Tensor = self.pooled(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[2]))
            return found.transpose(1, 2)
        if x.stride(1) > x.stride(0):
            found = self.pooled(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (x.shape[1], x.shape[0]))
            return found.transpose(0, 1)
        found = self.pooled(x.flatten(0, 1))
        return found.view(*x.shape[:2], *found.shape[1:])

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Channels pass; a maximum keeps positive scales only."""
        (x,) = inputs
        neurons, roles, scales = ledger.read(x, 1)
        if "max" in self.name:
            ledger.restrict(scales, "positive")
        shape = (1, len(neurons), *self.pooled(torch.zeros(1, 1, *x.neuron.shape[2:])).shape[2:])
        neuron, role, scale = (side.view(1, -1, *(1 for _ in shape[2:])).expand(shape) for side in (neurons, roles, scales))
        return Wires(neuron, mix(role, ledger.positions(shape[2:])), scale)
