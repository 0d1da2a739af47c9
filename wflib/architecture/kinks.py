"""Which operations make the derivatives of a network jump as its weights move."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wflib.architecture.spec import Architecture

__all__ = ["kinks"]


def kinks(architecture: Architecture) -> tuple[str, ...]:
    """Operations on values of weights whose derivative jumps: ReLUs, maxima, clamps and their like.

    With any, the gradient of a loss of the network is not continuous in the weights, so that it is not the integral of its
    derivative. What happens to inputs before weights meet them does not count.

    Args:
        architecture: Of any kind.

    Returns:
        Value and function of each, in the order of the network; none where gradients are continuous.

    Example:
        >>> from wflib.architecture import cnn, mlp
        >>> kinks(cnn((1, 4, 4), [3], 2, "tanh"))
        ('pool1 (max_pool)',)
        >>> kinks(mlp([3, 4, 2], "gelu"))
        ()
    """
    found, moving = [], set[str]()
    for operation in architecture.operations:
        on_weights = not moving.isdisjoint(operation.inputs)
        if on_weights and operation.kink is not None:
            found.append(f"{operation.output} ({operation.kink})")
        if on_weights or operation.tensors:
            moving.add(operation.output)
    return tuple(found)
