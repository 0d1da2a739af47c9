"""Networks as compiled kernels are told of them: a tuple of numbers for each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from wflib.architecture import Architecture, is_perceptron
from wflib.architecture.chain import Layer, chain
from wflib.architecture.operations import Convolution, Elementwise, Linear, Pool, Reshape
from wflib.architecture.operations.patches import positions

__all__ = ["convolutional_layers", "perceptron_layers"]

ACTIVATIONS = ("identity", "relu", "leaky_relu", "tanh", "softsign", "gelu", "silu", "smooth_relu")
"""In the order of the kernels' own numbers."""


def perceptron_layers(architecture: Architecture) -> list[tuple[int, ...]] | None:
    """Inputs, outputs, activation and where weight and bias lie in the flat vector (-1: none), layer by layer.

    None where ``perceptrons.cpp`` knows no such network.
    """
    if not is_perceptron(architecture):
        return None
    layers = chain(architecture.operations)
    if any(layer.activation not in ACTIVATIONS for layer in layers) or not read_once(architecture, layers):
        return None
    found = []
    for layer in layers:
        outputs, inputs = architecture.shape(layer.weight)
        found.append((inputs, outputs, ACTIVATIONS.index(layer.activation), *places(architecture, layer)))
    return found


@dataclass
class ConvolutionalLayer:
    """A convolution, or an affine map as one whose kernel covers its input, an activation, and max pooling."""

    channels: int
    outputs: int
    weight: int
    bias: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    activation: str | None = None
    pool: tuple[int, ...] | None = None
    pooled_first: bool = False

    @property
    def left(self) -> tuple[int, ...]:
        """Height and width of its values."""
        places = positions(self.size, self.kernel, self.stride, self.padding, (1, 1))
        return tuple(side // window for side, window in zip(places, self.pool or (1, 1), strict=True))

    def numbers(self) -> tuple[int, ...]:
        """In the kernels' order."""
        activation = ACTIVATIONS.index(self.activation or "identity")
        sides = (self.size, self.kernel, self.stride, self.padding, self.pool or (1, 1))
        head = (self.channels, self.outputs, activation, self.weight, self.bias)
        return (*head, *(number for pair in sides for number in pair), int(self.pooled_first))


def convolutional_layers(architecture: Architecture) -> list[tuple[int, ...]] | None:
    """The fields of ``Layer`` in ``convolutions.cpp``, layer by layer; None where it knows no such network.

    It knows chains of convolutions, then affine maps, with activations, and with max pooling behind convolutions.
    """
    operations, flat = architecture.operations, False
    maps = [operation for operation in operations if isinstance(operation, Convolution | Linear)]
    if len(architecture.inputs) != 3 or not read_once(architecture, maps):
        return None
    if any(after.inputs != (before.output,) for before, after in pairwise(operations)):
        return None
    layers: list[ConvolutionalLayer] = []
    for operation in operations:
        last = layers[-1] if layers else None
        channels, *size = (last.outputs, *last.left) if last else architecture.inputs
        size = tuple(size)
        match operation:
            case Convolution(groups=1, dilation=(1, 1)) if not flat:
                outputs, _, *kernel = architecture.shape(operation.weight)
                where = places(architecture, operation)
                layers.append(
                    ConvolutionalLayer(channels, outputs, *where, size, kernel, operation.stride, operation.padding)
                )
            case Linear(rows=None) if flat:
                outputs, _ = architecture.shape(operation.weight)
                layers.append(ConvolutionalLayer(channels, outputs, *places(architecture, operation), size, size))
            case Pool() if last and not flat and last.pool is None and (window := whole_windows(operation)):
                last.pool, last.pooled_first = window, last.activation is None
            case Elementwise(settings=()) if last and last.activation is None and operation.function in ACTIVATIONS:
                last.activation = operation.function
            case Reshape(batch_axis=0) if last and not flat and operation.shape == (1, channels * math.prod(size)):
                flat = True
            case _:
                return None
    # Where the outputs are channels, kernels take them at one position.
    return [layer.numbers() for layer in layers] if flat and layers[-1].left == (1, 1) else None


def whole_windows(pool: Pool) -> tuple[int, ...] | None:
    """The sides of windows of max pooling that neither overlap nor leave gaps; None for any other pooling."""
    if pool.name != "max_pool":
        return None
    settings = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False} | dict(pool.settings)
    window = two_sides(settings["kernel_size"])
    stride = two_sides(settings["stride"] or window)  # torch takes None and () for the window's own
    whole = (stride, two_sides(settings["padding"]), two_sides(settings["dilation"])) == (window, (0, 0), (1, 1))
    return window if whole and not settings["ceil_mode"] else None


def two_sides(setting: int | Sequence[int]) -> tuple[int, ...]:
    """Height's and width's, which torch takes as one number where they are the same."""
    numbers = (setting,) if isinstance(setting, int) else tuple(setting)
    return numbers * 2 if len(numbers) == 1 else numbers


def read_once(architecture: Architecture, layers: Sequence[Layer | Convolution | Linear]) -> bool:
    """Whether these are all of a network's tensors, none in two of them."""
    read = [name for layer in layers for name in (layer.weight, layer.bias) if name is not None]
    return sorted(read) == sorted(name for name, _ in architecture.shapes)


def places(architecture: Architecture, layer: Layer | Convolution | Linear) -> tuple[int, int]:
    """Where weight and bias begin in the flat vector, -1 for no bias."""
    weight, bias = (-1 if name is None else architecture.slices[name].start for name in (layer.weight, layer.bias))
    return weight, bias
