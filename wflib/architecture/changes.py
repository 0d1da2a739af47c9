"""Architectures that differ from another one in a few respects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from wflib.architecture.operations import BatchNorm, Elementwise, Moments, NormByMoments, Operation
from wflib.architecture.widths import resized

if TYPE_CHECKING:
    from wflib.architecture.spec import Architecture

__all__ = ["with_activations", "with_batch_statistics", "with_inputs", "with_variances_held"]


def with_inputs(architecture: Architecture, features: int) -> Architecture:
    """The same network for another number of input features, or channels of images: the first axis of inputs.

    Raises:
        ValueError: Operations leave open what becomes of them.
    """
    return resized(architecture, {"input": features})


def with_activations(architecture: Architecture, names: Mapping[str, str]) -> Architecture:
    """The same network with other elementwise functions: old name → new name."""
    operations = (
        replace(operation, function=names[operation.function], settings=())
        if isinstance(operation, Elementwise) and operation.function in names
        else operation
        for operation in architecture.operations
    )
    return replace(architecture, operations=tuple(operations))


def with_variances_held(operations: tuple[Operation, ...], holds: str) -> tuple[Operation, ...]:
    """The same operations, where batch norms find something else in their variances' tensors; see ``BatchNorm.holds``."""
    return tuple(replace(o, holds=holds) if isinstance(o, BatchNorm) else o for o in operations)


def with_batch_statistics(architecture: Architecture) -> Architecture:
    """The same network in training: batch norms by moments of the examples at hand, rather than by running statistics.

    Every batch norm becomes two operations, :class:`~wflib.architecture.operations.Moments`, whose value others may read to
    update the running statistics, and a norm by them. Tensors stay the same. For training only: groups and scalings are
    those of the network itself.
    """
    operations: list[Operation] = []
    for operation in architecture.operations:
        if isinstance(operation, BatchNorm):
            moments = Moments(f"{operation.output}:moments", operation.inputs, operation.mean, operation.variance)
            inputs = (*operation.inputs, moments.output)
            norm = NormByMoments(operation.output, inputs, operation.weight, operation.bias, operation.epsilon)
            operations += [moments, norm]
        else:
            operations.append(operation)
    return replace(architecture, operations=tuple(operations))
