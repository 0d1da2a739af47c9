"""Running operations one after the other, for all networks at once."""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import lru_cache

from torch import Tensor

from wflib.architecture.operations import Operation

__all__ = ["check_operations", "run_operations"]


def check_operations(operations: tuple[Operation, ...], tensors: Container[str]) -> None:
    """Check that operations use what exists before them.

    Raises:
        ValueError: There is none, one uses a tensor or value that does not exist, or two values have one name.
    """
    values = {"input"}
    if not operations:
        raise ValueError("Architecture: expected at least one operation.")
    for operation in operations:
        for name in operation.tensors:
            if name not in tensors:
                raise ValueError(f"Architecture: {operation.output} uses the tensor {name!r}, which does not exist.")
        for name in operation.inputs:
            if name not in values:
                raise ValueError(f"Architecture: {operation.output} uses {name!r}, which no operation before it computes.")
        if operation.output in values:
            raise ValueError(f"Architecture: names of values must be unique, {operation.output!r} is there twice.")
        values.add(operation.output)


def run_operations(
    operations: tuple[Operation, ...], weights: Mapping[str, Tensor], inputs: Tensor, kept: Container[str]
) -> dict[str, Tensor]:
    """The values of names to keep; others are forgotten after their last use.

    Args:
        operations: In the order in which they run.
        weights: Tensors of shape (networks, *shape).
        inputs: (networks, examples, ...).
        kept: Names of values; the last operation's is kept, too.

    Returns:
        Value name to (networks, examples, ...).
    """
    values, examples = {"input": inputs}, inputs.shape[1]
    for operation, done in zip(operations, last_uses(operations), strict=True):
        values[operation.output] = operation.run(weights, [values[name] for name in operation.inputs], examples)
        for name in done:
            if name not in kept:
                del values[name]
    return values


@lru_cache(maxsize=256)
def last_uses(operations: tuple[Operation, ...]) -> tuple[tuple[str, ...], ...]:
    """For every operation, the values that nothing behind it uses."""
    last = {name: place for place, operation in enumerate(operations) for name in operation.inputs}
    return tuple(tuple(name for name, at in last.items() if at == place) for place in range(len(operations)))
