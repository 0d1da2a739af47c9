"""Perceptrons as chains of layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from wflib.architecture.operations import Elementwise, Linear, Operation

if TYPE_CHECKING:
    from wflib.architecture.spec import Architecture

__all__ = ["Layer", "chain", "is_perceptron"]


@dataclass(frozen=True)
class Layer:
    """One affine map and its activation: target = activation(weight @ source + bias)."""

    source: str
    target: str
    weight: str
    bias: str | None
    activation: str


@lru_cache(maxsize=256)
def chain(operations: tuple[Operation, ...]) -> tuple[Layer, ...]:
    """The layers of a perceptron, named after the groups that they compute.

    Raises:
        ValueError: The operations are no chain of linear maps, each with an activation but for the last.
    """
    layers: list[Layer] = []
    value = group = "input"
    for operation in operations:
        if operation.inputs != (value,):
            raise ValueError(refusal(f"`{operation.output}` uses {', '.join(operation.inputs)}"))
        if isinstance(operation, Linear) and operation.rows is None:
            last = operation is operations[-1]
            target = "output" if last else operation.output
            layers.append(Layer(group, target, operation.weight, operation.bias, "identity"))
            group = target
        elif (
            isinstance(operation, Elementwise) and layers and layers[-1].activation == "identity" and not operation.settings
        ):
            before = layers.pop()
            layers.append(Layer(before.source, before.target, before.weight, before.bias, operation.function))
        else:
            raise ValueError(refusal(f"a {operation.kind.replace('_', ' ')} `{operation.output}`"))
        value = operation.output
    if len({layer.weight for layer in layers}) < len(layers):
        raise ValueError(refusal("a weight that several layers share"))
    return tuple(layers)


def is_perceptron(architecture: Architecture) -> bool:
    """Whether a network is a chain of layers, so that each axis counts one group and no group is nested."""
    try:
        chain(architecture.operations)
    except ValueError:
        return False
    return len(architecture.inputs) == 1


def refusal(found: str) -> str:
    """Why a network is no perceptron."""
    return f"expected a perceptron, a chain of linear maps and activations; this network has {found}."
