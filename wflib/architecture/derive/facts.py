"""What operations say of tensors and neurons: the facts that a ledger holds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Contraction", "Entry", "Site"]


@dataclass(frozen=True)
class Site:
    """Places of a tensor that belong to neurons: ``neurons`` and ``roles`` have the shape of the axes they span.

    Without axes, places in an operation, whose neurons are alike only if it treats them alike. ``within`` says that which
    neuron a place of the last axis belongs to depends on the first axis: columns of grouped convolutions.
    """

    tensor: str
    axes: tuple[int, ...]
    neurons: Tensor
    roles: Tensor
    within: bool = False


@dataclass(frozen=True)
class Entry:
    """How a tensor follows scales s, by what one operation says: multiplied by s^power along some axes.

    ``power`` is 1 for what writes values, -1 for what reads them, 0 for the sign of s alone, and 2 for a variance v, where
    v + shift is multiplied by s².
    """

    operation: int
    tensor: str
    axes: tuple[int, ...]
    scales: Tensor
    power: int
    shift: float = 0.0


@dataclass(frozen=True)
class Contraction:
    """Products summed over neurons of two values, which admit every invertible matrix: (sets, members) each."""

    operation: str
    left: Tensor
    right: Tensor
