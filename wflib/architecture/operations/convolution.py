"""Convolutions of one to three dimensions, plain, grouped and depthwise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import NOBODY, Wires, mix
from wflib.architecture.operations.base import Operation, is_shared
from wflib.architecture.operations.patches import patch_convolution, positions

__all__ = ["Convolution"]

FUNCTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


ENTRIES, NUMBERS = 40, 2**20
"""Up to how many entries a patch, and numbers all patches of one network may have: larger ones leave a core's cache, and
grouped convolutions are as fast, unless all networks see the same images."""


def in_patches(source: Tensor, weight: Tensor, places: tuple[int, ...]) -> bool:
    """Whether products with patches are faster than grouped convolutions, as measured on CPUs."""
    if len(source) == 1 or source.device.type != "cpu":
        return False
    entries = weight[0, 0].numel()
    return entries <= ENTRIES and (is_shared(source) or entries * source.shape[1] * math.prod(places) <= NUMBERS)


@dataclass(frozen=True)
class Convolution(Operation):
    """A convolution over axis 1: weight (outputs, inputs / groups, *kernel); kernel axes are positions.

    Networks run together as products with patches where these are small, else as groups of one convolution.
    """

    weight: str = ""
    bias: str | None = None
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    kind: ClassVar[str] = "convolution"
    tensor_fields: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """(networks, examples, channels, …) → the same with other channels and positions."""
        source, weight = inputs[0], weights[self.weight]
        places = positions(source.shape[3:], weight.shape[3:], self.stride, self.padding, self.dilation)
        if self.groups == 1 and source.ndim == 5 and in_patches(source, weight, places):
            bias = None if self.bias is None else weights[self.bias]
            return patch_convolution(source, weight, bias, self.stride, self.padding, self.dilation)
        bias = None if self.bias is None else weights[self.bias].reshape(-1)
        networks, batch = source.shape[:2]
        folded = source.transpose(0, 1).reshape(batch, networks * source.shape[2], *source.shape[3:])
        function = FUNCTIONS[source.ndim - 3]
        found = function(
            folded, weight.flatten(0, 1), bias, self.stride, self.padding, self.dilation, networks * self.groups
        )
        return found.view(batch, networks, -1, *found.shape[2:]).transpose(0, 1)

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Depthwise, outputs are the inputs' neurons; grouped, inputs and outputs of a group have it as their parent."""
        (x,) = inputs
        neurons, roles, scales = ledger.read(x, 1)
        outputs, members, *kernel = ledger.shapes[self.weight]
        places = positions(x.neuron.shape[2:], kernel, self.stride, self.padding, self.dilation)
        label, depthwise = ledger.positions(places), self.groups > 1 and members == 1 and outputs == self.groups
        if self.groups == 1:
            new = ledger.new_neurons(outputs)
            ledger.owns(self.weight, (1,), neurons, roles)
            ledger.follows(self.weight, (1,), scales, -1)
        elif depthwise:
            new, label = neurons, mix(label, roles.view(1, -1, *(1 for _ in places)))
            ledger.follows(self.weight, (0,), scales, -1)
            own = neurons == NOBODY  # the network's own inputs
            if own.any():
                new = torch.where(own, ledger.new_neurons(outputs), neurons)
                ledger.fix(new[own])
        else:
            new, parents = ledger.new_neurons(outputs), ledger.new_neurons(self.groups)
            table = neurons.view(self.groups, 1, members).expand(-1, outputs // self.groups, -1).reshape(outputs, members)
            ledger.child(neurons, parents.repeat_interleave(members), roles)
            ledger.child(new, parents.repeat_interleave(outputs // self.groups))
            ledger.owns(self.weight, (0, 1), table, same_table(roles, table, self.groups), within=True)
            ledger.follows(self.weight, (0, 1), same_table(scales, table, self.groups), -1)
        written = ledger.new_scales(outputs)
        for tensor in self.tensors:
            ledger.owns(tensor, (0,), new, roles if depthwise else 0)
            ledger.follows(tensor, (0,), written, 1)
        shape = (1, outputs, *places)
        new, written = (side.view(1, -1, *(1 for _ in places)).expand(shape) for side in (new, written))
        return Wires(new, label.expand(shape), written)


def same_table(values: Tensor, table: Tensor, groups: int) -> Tensor:
    """Values of the input channels for every pair of output and member: (outputs, members)."""
    outputs, members = table.shape
    return values.view(groups, 1, members).expand(-1, outputs // groups, -1).reshape(outputs, members)
