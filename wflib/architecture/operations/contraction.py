"""Sums over axes: matrix products of two values, means, softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from wflib.architecture.derive.facts import Contraction
from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import NOBODY, ONE, Wires, mix, sequence_hash
from wflib.architecture.operations.base import Operation
from wflib.architecture.operations.pairs import aligned, product_scale

__all__ = ["AlongAxis", "MatrixProduct", "Reduce"]


def one_neuron(ledger: Ledger, wires: Wires, axis: int) -> bool:
    """Whether an axis holds positions of the same neurons, with nobody's entries among them, rather than neurons."""
    neurons = ledger.neurons.of(wires.neuron)
    return bool(((neurons == neurons.amax(axis, keepdim=True)) | (neurons == NOBODY)).all())


@dataclass(frozen=True)
class MatrixProduct(Operation):
    """a @ b over the last two axes, with broadcasting over those before."""

    kind: ClassVar[str] = "matrix_product"

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Batched."""
        return torch.matmul(*aligned(inputs))

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Summed over positions, neurons meet as in a product; summed over neurons, these are a set: the width of a head."""
        a, b = inputs
        label = mix(sequence_hash(a.label, -1).unsqueeze(-1), sequence_hash(b.label, -2).unsqueeze(-2), ledger.number)
        if one_neuron(ledger, a, -1) and one_neuron(ledger, b, -2):
            scales = ledger.common(a.scale, -1), ledger.common(b.scale, -2)
            sides = a.neuron.amax(-1, keepdim=True), b.neuron.amax(-2, keepdim=True)
            # Which labels they have is part of the product's label already.
            a, b = (ledger.current(Wires(*side)) for side in zip(sides, sides, scales, strict=True))
            return Wires(*ledger.combine(a, b, label), product_scale(ledger, a, b))
        if one_neuron(ledger, a, -1) or one_neuron(ledger, b, -2):
            for side in inputs:
                ledger.fix(side.neuron)
                ledger.end(side.scale)
            return Wires(torch.full_like(label, NOBODY), ledger.positions(label.shape), torch.full_like(label, ONE))
        left, right = a.neuron.max(-2).values, b.neuron.max(-1).values
        free = ledger.unrestricted(a.scale) and ledger.unrestricted(b.scale)
        ledger.tie(a.neuron, left.unsqueeze(-2), torch.arange(a.neuron.shape[-2]).unsqueeze(-1))
        ledger.tie(b.neuron, right.unsqueeze(-1), torch.arange(b.neuron.shape[-1]))
        ledger.tie(left, right)
        for side in inputs:
            ledger.end(side.scale)
        roles = mix(sequence_hash(a.label, -2), sequence_hash(b.label, -1))
        # Inputs and constants meet neurons, which then are no others' equals.
        members = torch.where(left == NOBODY, right, left).expand(roles.shape)
        if free:
            ledger.contractions.append(Contraction(ledger.operation, left, right))
        parents = ledger.sets(Wires(members, roles, members), (members.ndim - 1,))
        return Wires(parents[..., None, None].expand(label.shape), label, torch.full_like(label, ONE))


@dataclass(frozen=True)
class Reduce(Operation):
    """The mean or sum over some axes."""

    function: str = "mean"
    axes: tuple[int, ...] = ()
    keep: bool = False

    kind: ClassVar[str] = "reduce"

    def __post_init__(self) -> None:
        if self.function not in ("mean", "sum"):
            raise ValueError(f"Architecture: unknown reduction {self.function!r}; known: mean and sum.")

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Over the same axes in every network."""
        found: Tensor = getattr(torch, self.function)(inputs[0], [axis + 1 for axis in self.axes], keepdim=self.keep)
        return found

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """A neuron's positions give the neuron, several neurons a new one that does not feel their order."""
        (x,) = inputs
        neuron, label, scale = ledger.sets(x, self.axes), mix(x.label).sum(self.axes), x.scale
        for axis in self.axes:
            scale = ledger.common(scale, axis)
        if self.keep:
            neuron, label = (side.view(scale.shape) for side in (neuron, label))
        return Wires(neuron, mix(label, ledger.number), scale.view(label.shape))


@dataclass(frozen=True)
class AlongAxis(Operation):
    """A function of all entries along an axis that keeps their order: softmax, log_softmax, or normalize (x / ‖x‖)."""

    function: str = "softmax"
    axis: int = -1

    kind: ClassVar[str] = "along_axis"

    def __post_init__(self) -> None:
        if self.function not in ("softmax", "log_softmax", "normalize"):
            raise ValueError(f"Architecture: unknown {self.function!r}; known: softmax, log_softmax and normalize.")

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Along the same axis in every network."""
        found: Tensor = getattr(functional, self.function)(inputs[0], dim=self.axis + 1)
        return found

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Neurons along the axis are a set; none may be rescaled."""
        (x,) = inputs
        ledger.end(x.scale)
        return replace(ledger.together(x, (self.axis % x.neuron.ndim,)), scale=torch.full_like(x.scale, ONE))
