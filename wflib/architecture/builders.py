"""Architectures by their sizes."""

from __future__ import annotations

from wflib.architecture.operations import Elementwise, Linear, Operation
from wflib.architecture.spec import Architecture

__all__ = ["mlp"]


def mlp(widths: list[int], activation: str = "relu", task_type: str = "classification", bias: bool = True) -> Architecture:
    """A multilayer perceptron.

    Args:
        widths: Neurons per layer, input first: [30, 16, 16, 2].
        activation: Nonlinearity of the hidden layers, a key of ``ACTIVATIONS``.
        task_type: ``"classification"`` or ``"regression"``.
        bias: Whether layers have biases.

    Returns:
        Its description, tensors named ``linear1.weight``, ``linear1.bias``, …

    Raises:
        ValueError: Fewer than two widths, or a width below one.

    Example:
        >>> mlp([30, 16, 16, 2]).dimension
        802
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"mlp: widths need an input and an output of at least one neuron, got {widths}.")
    last, value = len(widths) - 1, "input"
    shapes, operations = [], list[Operation]()
    for index in range(1, last + 1):
        group = f"hidden{index}" if index < last else "output"
        weight, offset = f"linear{index}.weight", f"linear{index}.bias" if bias else None
        shapes.append((weight, (widths[index], widths[index - 1])))
        if offset:
            shapes.append((offset, (widths[index],)))
        operations.append(Linear(group, (value,), weight, offset))
        value = group
        if index < last and activation != "identity":
            value = f"{group}:{activation}"
            operations.append(Elementwise(value, (group,), activation))
    return Architecture((widths[0],), tuple(shapes), tuple(operations), task_type)
