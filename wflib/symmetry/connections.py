"""Which operations write and read the values of attention, with nothing but movements of entries between."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.architecture.derive import Ledger, Wires
from wflib.architecture.derive.derivation import run_wires
from wflib.architecture.operations import (
    Add,
    AlongAxis,
    Concatenate,
    Linear,
    MatrixProduct,
    Multiple,
    Operation,
    Pad,
    Rearrangement,
    Reshape,
)

__all__ = ["Connections", "refusal"]


class Connections:
    """An architecture's operations by what they read and write, and their neurons."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.makers = {operation.output: operation for operation in architecture.operations}
        self.users: dict[str, list[Operation]] = {}
        for operation in architecture.operations:
            for name in operation.inputs:
                self.users.setdefault(name, []).append(operation)
        self.ledger: Ledger
        self.wires: dict[str, Wires]
        with torch.no_grad(), torch._C._DisableFuncTorch():
            self.ledger, self.wires = run_wires(architecture.inputs, architecture.shapes, architecture.operations)
        self.first = {operation: neurons for operation, neurons, _ in self.ledger.names}

    def writer(self, value: str, multiples: bool) -> Linear:
        """The linear map that a value comes from, moved and, where that may be, multiplied by a number on the way."""
        while value in self.makers:
            operation = self.makers[value]
            if isinstance(operation, Linear):
                return operation
            if not is_movement(operation, multiples):
                raise ValueError(refusal(operation, "stands between a linear map and a product of attention"))
            (value,) = operation.inputs
        raise ValueError("attention: expected linear maps for queries, keys and values, found the network's input.")

    def readers(self, value: str, multiples: bool) -> list[Operation]:
        """The operations that use a value, moved and, where that may be, multiplied by a number on the way."""
        found = []
        for operation in self.users.get(value, ()):
            moves = is_movement(operation, multiples)
            found += self.readers(operation.output, multiples) if moves else [operation]
        return found

    def last(self, value: str) -> int:
        """Length of a value's last axis."""
        return self.wires[value].neuron.shape[-1]

    def over_keys(self, operation: Operation) -> bool:
        """Whether an operation is a softmax along the last axis, that of keys."""
        if not isinstance(operation, AlongAxis) or operation.function != "softmax":
            return False
        return (operation.axis + 1) % self.wires[operation.output].neuron.ndim == 0

    def keeps_rows(self, operation: Operation) -> bool:
        """Whether a number added to all logits of a query is still one behind the operation."""
        keeps = isinstance(operation, Multiple | Reshape | Add)
        return keeps and all(self.last(name) in (1, self.last(operation.output)) for name in operation.inputs)

    def logits(self, softmax: Operation) -> MatrixProduct | None:
        """The product of queries and keys whose rows a softmax is taken of, or None if it is of something else."""
        (value,) = softmax.inputs
        while value in self.makers:
            operation = self.makers[value]
            if isinstance(operation, MatrixProduct):
                return operation
            varying = [name for name in operation.inputs if self.varies(name)]
            if not self.keeps_rows(operation) or len(varying) != 1:  # of two products no pair of queries and keys is all
                return None
            (value,) = varying
        return None

    def felt_by(self, value: str) -> list[Operation]:
        """Operations that feel a number which is added to all logits of a query."""
        found = []
        for operation in self.users.get(value, ()):
            if self.keeps_rows(operation):
                found += self.felt_by(operation.output)
            elif not self.over_keys(operation):
                found.append(operation)
        return found

    def varies(self, value: str) -> bool:
        """Whether a value depends on the network's inputs."""
        return value == "input" or any(self.varies(name) for name in self.makers[value].inputs)

    def places(self, maker: Linear, neurons: Tensor) -> Tensor:
        """Rows of a linear map that made these neurons."""
        return neurons - self.first[maker.output] + (maker.rows[0] if maker.rows else 0)


def is_movement(operation: Operation, multiples: bool) -> bool:
    """Whether an operation moves entries of one value, or, where that may be, multiplies all by one number."""
    moves = isinstance(operation, Rearrangement) and not isinstance(operation, Concatenate | Pad)
    return moves or (multiples and isinstance(operation, Multiple) and operation.offset == 0)


def refusal(operation: Operation, reason: str) -> str:
    """A sentence that names what is in the way."""
    who = f"`{operation.output}` ({operation.kind.replace('_', ' ')})"
    return f"attention: {who} {reason}; gauges of such attention are not known."
