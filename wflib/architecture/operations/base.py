"""What every operation is: data that runs, ties, and is written as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import Wires

__all__ = ["KINDS", "Operation", "Rearrangement"]

KINDS: dict[str, type[Operation]] = {}
"""Every operation by the name that files use."""


def is_shared(x: Tensor) -> bool:
    """Whether a value is the same memory for several networks, as inputs are that all of them see.

    Not where its gradient is wanted, which every network has of its own: all of it would go to the first.
    """
    return len(x) > 1 and x.stride(0) == 0 and not has_gradient(x)


def has_gradient(x: Tensor) -> bool:
    """Whether its gradient may be wanted, by autograd or any transform of ``torch.func``; ``vmap`` does not tell."""
    wrapped = torch._C._functorch
    if x.requires_grad or wrapped.is_batchedtensor(x):
        return True
    return wrapped.is_gradtrackingtensor(x) and has_gradient(wrapped.get_unwrapped(x))


@dataclass(frozen=True)
class Operation:
    """One step of a network: a named output computed from named inputs and parameter tensors.

    Values have shape (networks, examples, …) for all networks at once, axes as in the module that the operation comes
    from, behind one axis of networks. Settings count axes without the networks' one.

    Attributes:
        output: Name of the value that it computes.
        inputs: Names of the values that it uses.
    """

    output: str
    inputs: tuple[str, ...]

    kind: ClassVar[str] = ""
    tensor_fields: ClassVar[tuple[str, ...]] = ()
    statistic_fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if cls.kind:
            KINDS[cls.kind] = cls

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the parameter tensors that it uses, statistics among them."""
        named = (getattr(self, field) for field in self.tensor_fields)
        return tuple(name for name in named if name is not None)

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of the tensors that are measured, not learned."""
        return tuple(getattr(self, field) for field in self.statistic_fields)

    @property
    def kink(self) -> str | None:
        """Name of the function that it computes where the derivative jumps within the domain, as a maximum's; else None."""
        return None

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """The output for all networks at once.

        Args:
            weights: Tensors (networks, *shape).
            inputs: Values (networks, examples, …), or (networks, …) where they come from parameters.
            examples: Number of examples, which sizes that depend on it need.
        """
        raise NotImplementedError

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Enter into the ledger what this operation ties, and say what its output consists of."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain data, from which ``KINDS[kind]`` builds the operation again."""
        return {"kind": self.kind} | {field.name: getattr(self, field.name) for field in fields(self)}


class Rearrangement(Operation):
    """An operation that moves data, and does nothing else."""

    def move(self, tensors: Sequence[Tensor], examples: int) -> Tensor:
        """The movement on tensors (networks, …)."""
        raise NotImplementedError

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """The same movement in every network."""
        return self.move(inputs, examples)

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Integers move as numbers do."""

        def moved(sides: list[Tensor]) -> Tensor:
            return self.move([side.unsqueeze(0) for side in sides], 1).squeeze(0)

        return Wires(
            moved([wires.neuron for wires in inputs]),
            moved([wires.label for wires in inputs]),
            moved([wires.scale for wires in inputs]),
            inputs[0].parameter if len(inputs) == 1 else None,
        )
