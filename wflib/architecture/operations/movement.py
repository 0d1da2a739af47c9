"""Operations that move entries and leave them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import ONE, ZERO, Wires
from wflib.architecture.operations.base import Rearrangement
from wflib.architecture.operations.pairs import aligned

__all__ = ["Concatenate", "Expand", "Pad", "Permute", "Reshape", "Roll", "Slice", "Take"]


def sized(shape: tuple[int, ...], axis: int | None, examples: int) -> list[int]:
    """A shape in which one axis counts examples, times what it holds of each."""
    return [size * examples if place == axis else size for place, size in enumerate(shape)]


@dataclass(frozen=True)
class Reshape(Rearrangement):
    """Another shape; ``batch_axis`` counts examples, times ``shape[batch_axis]``."""

    shape: tuple[int, ...] = ()
    batch_axis: int | None = 0

    kind: ClassVar[str] = "reshape"

    def move(self, tensors: Sequence[Tensor], examples: int) -> Tensor:
        """Row-major, as in torch."""
        return tensors[0].reshape(len(tensors[0]), *sized(self.shape, self.batch_axis, examples))


@dataclass(frozen=True)
class Expand(Rearrangement):
    """Axes of size one repeated, axes put in front; ``batch_axis`` as in :class:`Reshape`."""

    shape: tuple[int, ...] = ()
    batch_axis: int | None = None

    kind: ClassVar[str] = "expand"

    def move(self, tensors: Sequence[Tensor], examples: int) -> Tensor:
        """Without copies."""
        (x,) = tensors
        x = x.view(len(x), *(1 for _ in range(len(self.shape) + 1 - x.ndim)), *x.shape[1:])
        return x.expand(len(x), *sized(self.shape, self.batch_axis, examples))


@dataclass(frozen=True)
class Permute(Rearrangement):
    """Axes in another order."""

    order: tuple[int, ...] = ()

    kind: ClassVar[str] = "permute"

    def move(self, tensors: Sequence[Tensor], examples: int) -> Tensor:
        """A view."""
        return tensors[0].permute(0, *(axis + 1 for axis in self.order))


@dataclass(frozen=True)
class Slice(Rearrangement):
    """``x[index]``: for each axis a number, ``"new"`` for an axis of size one, or (start, stop, step)."""

    index: tuple[int | Literal["new"] | tuple[int | None, int | None, int | None], ...] = ()

    kind: ClassVar[str] = "slice"

    def move(self, tensors: Sequence[Tensor], examples: int) -> Tensor:
        """A view."""
        items = (None if item == "new" else slice(*item) if isinstance(item, tuple) else item for item in self.index)
        return tensors[0][(slice(None), *items)]


@dataclass(frozen=True)
class Take(Rearrangement):
    """Entries of one axis by their places, which need not be distinct."""

    axis: int = 0
    places: tuple[int, ...] = ()

    kind: ClassVar[str] = "take"

    def move(self, tensors: Sequence[Tensor], examples: int) -> Tensor:
        """A copy."""
        return tensors[0].index_select(self.axis + 1, torch.tensor(self.places, device=tensors[0].device))


@dataclass(frozen=True)
class Concatenate(Rearrangement):
    """Values one after the other along an axis."""

    axis: int = 1

    kind: ClassVar[str] = "concatenate"

    def move(self, tensors: Sequence[Tensor], examples: int) -> Tensor:
        """A copy."""
        return torch.cat(aligned(tensors), self.axis + 1)


@dataclass(frozen=True)
class Roll(Rearrangement):
    """Entries shifted along axes, around their ends."""

    shifts: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()

    kind: ClassVar[str] = "roll"

    def move(self, tensors: Sequence[Tensor], examples: int) -> Tensor:
        """A copy."""
        return torch.roll(tensors[0], self.shifts, [axis + 1 for axis in self.axes])


@dataclass(frozen=True)
class Pad(Rearrangement):
    """A constant around the last axes, ``widths`` as in ``torch.nn.functional.pad``."""

    widths: tuple[int, ...] = ()
    value: float = 0.0

    kind: ClassVar[str] = "pad"

    def move(self, tensors: Sequence[Tensor], examples: int) -> Tensor:
        """A copy."""
        return functional.pad(tensors[0], self.widths, value=self.value)

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Nobody's entries, which zeros leave to be scaled."""
        (x,) = inputs
        moved = x.move(lambda side: functional.pad(side, self.widths))
        scale = functional.pad(x.scale, self.widths, value=ZERO if self.value == 0 else ONE)
        return Wires(moved.neuron, moved.label, scale)
