"""Affine maps of the last axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import Wires
from wflib.architecture.operations.base import Operation, is_shared

__all__ = ["Linear"]

WIDE = 128
"""Inputs from which one product of all networks' rows is faster than one for each, five times at a thousand of them."""


@dataclass(frozen=True)
class Linear(Operation):
    """y = W x + b over the last axis: rows of W count the output's neurons, columns the input's.

    ``rows`` takes some rows only, where one tensor holds several maps (queries, keys, values).
    """

    weight: str = ""
    bias: str | None = None
    rows: tuple[int, int] | None = None

    kind: ClassVar[str] = "linear"
    tensor_fields: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """One batched matrix product, or a single one where all networks see the same wide inputs."""
        source, weight = inputs[0], weights[self.weight]
        bias = None if self.bias is None else weights[self.bias]
        if self.rows is not None:
            weight = weight[:, slice(*self.rows)]
            bias = None if bias is None else bias[:, slice(*self.rows)]
        shape = source.shape
        if is_shared(source) and source.ndim == 3 and shape[-1] >= WIDE:
            rows = weight.flatten(0, 1)
            found = rows @ source[0].T if bias is None else torch.addmm(bias.reshape(-1, 1), rows, source[0].T)
            return found.view(*weight.shape[:2], -1).transpose(1, 2)
        weight = weight.transpose(-1, -2)
        if source.ndim != 3:
            source = source.reshape(shape[0], -1, shape[-1])
        found = torch.bmm(source, weight) if bias is None else torch.baddbmm(bias.unsqueeze(1), source, weight)
        return found if len(shape) == 3 else found.view(*shape[:-1], -1)

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """New neurons from those of the columns; positions are fixed."""
        (x,) = inputs
        neurons, roles, scales = ledger.read(x, -1)
        ledger.owns(self.weight, (1,), neurons, roles)
        ledger.follows(self.weight, (1,), scales, -1)
        start, stop = self.rows or (0, ledger.shapes[self.weight][0])
        new, written = ledger.new_neurons(stop - start), ledger.new_scales(stop - start)
        for tensor in self.tensors:
            ledger.owns(tensor, (0,), new, offset=start)
            ledger.follows(tensor, (0,), written, 1, offset=start)
        shape = (*x.neuron.shape[:-1], stop - start)
        label = ledger.positions(x.neuron.shape[:-1]).unsqueeze(-1).expand(shape)
        return Wires(new.expand(shape), label, written.expand(shape))
