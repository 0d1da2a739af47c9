"""Architectures by their sizes."""

from __future__ import annotations

from wflib.architecture.chain import Layer
from wflib.architecture.operations import Elementwise, Linear, Operation
from wflib.architecture.spec import Architecture

__all__ = ["mlp", "perceptron"]


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
    last = len(widths) - 1
    names = ["input", *(f"hidden{index}" for index in range(1, last)), "output"]
    shapes, layers = [], []
    for index in range(1, last + 1):
        weight, offset = f"linear{index}.weight", f"linear{index}.bias" if bias else None
        shapes.append((weight, (widths[index], widths[index - 1])))
        if offset:
            shapes.append((offset, (widths[index],)))
        layers.append(Layer(names[index - 1], names[index], weight, offset, activation if index < last else "identity"))
    return perceptron(tuple(shapes), tuple(layers), task_type)


def perceptron(
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    layers: tuple[Layer, ...],
    task_type: str = "classification",
    log_scale: str | None = None,
) -> Architecture:
    """A network of layers, each of which uses the one before.

    Args:
        shapes: Name and shape of every weight tensor, in flat-vector order.
        layers: From input to output; the value of a group has the group's name until an activation makes it
            ``group:activation``.
        task_type: ``"classification"`` or ``"regression"``.
        log_scale: Name of the scalar tensor that scales outputs, if any.

    Raises:
        ValueError: A layer uses a tensor that does not exist.
    """
    values, operations = {layers[0].source: "input"}, list[Operation]()
    for layer in layers:
        if layer.source not in values or layer.weight not in dict(shapes):
            raise ValueError(f"Architecture: {layer} names a tensor or group that does not exist.")
        operations.append(Linear(layer.target, (values[layer.source],), layer.weight, layer.bias))
        values[layer.target] = layer.target
        if layer.activation != "identity":
            values[layer.target] = f"{layer.target}:{layer.activation}"
            operations.append(Elementwise(values[layer.target], (layer.target,), layer.activation))
    inputs = (dict(shapes)[layers[0].weight][1],)
    return Architecture(inputs, shapes, tuple(operations), task_type, log_scale)
