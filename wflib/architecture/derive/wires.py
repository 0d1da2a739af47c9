"""What runs through a network while its symmetries are looked for: integers in place of numbers.

Every entry of an activation carries a *neuron* (entries of one neuron move together when neurons are exchanged), a *label*
(which of the neuron's entries this is, the same for the neurons that may take each other's places) and a *scale* (by which
variable the entry is multiplied when neurons are rescaled). Operations that only move data (reshape, permute, concatenate,
split, shuffle channels, roll) move these integers as they move the numbers, and need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NOBODY", "ONE", "ZERO", "Wires", "mix", "sequence_hash"]

NOBODY = 0
"""The neuron of entries that belong to none: inputs, constants."""

ONE = 0
"""The scale of entries that nothing may rescale."""

ZERO = 1
"""The scale of entries that are zero, which any factor leaves as they are."""


@dataclass(frozen=True)
class Wires:
    """Neurons, labels and scales of a value of one example, int64 tensors of one shape (1, *shape).

    ``parameter`` names the tensor that the value is, with nothing done to its entries but that they were moved.
    """

    neuron: Tensor
    label: Tensor
    scale: Tensor
    parameter: str | None = None

    def move(self, function: Callable[[Tensor], Tensor]) -> Wires:
        """The same movement of data on all three."""
        return Wires(function(self.neuron), function(self.label), function(self.scale))

    def relabel(self, *keys: int | Tensor) -> Wires:
        """Entries that an operation has changed one by one: other labels, the same neurons."""
        return Wires(self.neuron, mix(self.label, *keys), self.scale)


def mix(first: int | Tensor, *others: int | Tensor) -> Tensor:
    """A hash of integers, elementwise with broadcasting; order matters (splitmix64's finalizer after each)."""
    state = scramble(torch.as_tensor(first, dtype=torch.int64))
    for other in others:
        state = scramble(state * 3 + torch.as_tensor(other, dtype=torch.int64))
    return state


def scramble(x: Tensor) -> Tensor:
    x = (x + -7046029254386353131) * -4658895280553007687
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def sequence_hash(labels: Tensor, axis: int) -> Tensor:
    """One hash for the sequence along an axis, which the axis' order is part of."""
    length = labels.shape[axis]
    places = torch.arange(length).view([-1 if a == axis % labels.ndim else 1 for a in range(labels.ndim)])
    return mix(labels, places).sum(axis)
