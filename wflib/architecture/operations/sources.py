"""Values that come from no input: parameters, constants, rows of tables."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import NOBODY, ONE, ZERO, Wires, mix
from wflib.architecture.operations.base import Operation

__all__ = ["Constant", "Embedding", "Parameter"]


@dataclass(frozen=True)
class Parameter(Operation):
    """A tensor as a value: class tokens, positions, layer scales, tables of relative positions."""

    tensor: str = ""

    kind: ClassVar[str] = "parameter"
    tensor_fields: ClassVar[tuple[str, ...]] = ("tensor",)

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """The tensor itself, without an axis of examples of its own."""
        return weights[self.tensor]

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Every entry becomes part of the neuron that it meets."""
        shape = ledger.shapes[self.tensor]
        axes, count = tuple(range(len(shape))), math.prod(shape)
        neuron, scale = ledger.new_neurons(count, soft=True).view(shape), ledger.new_scales(count).view(shape)
        ledger.owns(self.tensor, axes, neuron)
        ledger.factor(self.tensor, scale)
        return Wires(neuron, mix(torch.zeros_like(neuron), ledger.number), scale, self.tensor)


@dataclass(frozen=True)
class Constant(Operation):
    """Numbers that are part of the architecture: masks, tables of positions. ``data`` is base64 of float64 numbers."""

    shape: tuple[int, ...] = ()
    data: str = ""

    kind: ClassVar[str] = "constant"

    @staticmethod
    def encode(values: Tensor) -> str:
        """What ``data`` holds for a tensor."""
        return base64.b64encode(values.detach().to("cpu", torch.float64).numpy().astype("<f8").tobytes()).decode()

    @property
    def values(self) -> Tensor:
        """The numbers, float64."""
        numbers = np.frombuffer(base64.b64decode(self.data), dtype="<f8").astype(np.float64)
        return torch.from_numpy(numbers).view(self.shape)

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """The same for all networks."""
        some = next(iter(weights.values()))
        return self.values.to(some).expand(len(some), *self.shape)

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Nobody's; equal numbers have equal labels, so that a constant tells neurons apart only where it differs."""
        label = mix(self.values.view(torch.int64), 0)
        return Wires(torch.full_like(label, NOBODY), label, torch.where(self.values == 0, ZERO, ONE))


@dataclass(frozen=True)
class Embedding(Operation):
    """Rows of a table by whole numbers; columns count neurons, rows are a vocabulary."""

    weight: str = ""

    kind: ClassVar[str] = "embedding"
    tensor_fields: ClassVar[tuple[str, ...]] = ("weight",)

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """One lookup for all networks."""
        table, tokens = weights[self.weight], inputs[0].long()
        networks = torch.arange(len(table), device=tokens.device).view(-1, *(1 for _ in tokens.shape[1:]))
        return table[networks, tokens]

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """New neurons."""
        size = ledger.shapes[self.weight][1]
        neurons, scales = ledger.new_neurons(size), ledger.new_scales(size)
        ledger.owns(self.weight, (1,), neurons)
        ledger.follows(self.weight, (1,), scales, 1)
        shape = (*inputs[0].neuron.shape, size)
        return Wires(neurons.expand(shape), ledger.positions(shape[:-1]).unsqueeze(-1).expand(shape), scales.expand(shape))
