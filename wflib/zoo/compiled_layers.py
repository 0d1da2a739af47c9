"""Networks as compiled kernels are told of them: a tuple of numbers for each layer."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wflib.architecture import Architecture, is_perceptron
from wflib.architecture.chain import chain
from wflib.architecture.operations import (
    Add,
    BatchNorm,
    Convolution,
    Elementwise,
    Linear,
    Operation,
    Pool,
    Reduce,
    Reshape,
)
from wflib.architecture.operations.patches import positions

__all__ = ["convolutional_layers", "perceptron_layers"]

ACTIVATIONS = ("identity", "relu", "leaky_relu", "tanh", "softsign", "gelu", "silu", "smooth_relu")
KINDS = ("convolve", "pool", "activate", "normalize", "add", "average")
"""Both in the order of the kernels' own numbers."""


def perceptron_layers(architecture: Architecture) -> list[tuple[int, ...]] | None:
    """Inputs, outputs, activation and where weight and bias lie in the flat vector (-1: none), layer by layer.

    None where ``perceptrons.cpp`` knows no such network.
    """
    if not is_perceptron(architecture):
        return None
    layers, found = chain(architecture.operations), []
    tensors = [name for layer in layers for name in (layer.weight, layer.bias)]
    if any(layer.activation not in ACTIVATIONS for layer in layers) or not read_once(architecture, tensors):
        return None
    for layer in layers:
        outputs, inputs = architecture.shape(layer.weight)
        where = (-1 if name is None else architecture.slices[name].start for name in (layer.weight, layer.bias))
        found.append((inputs, outputs, ACTIVATIONS.index(layer.activation), *where))
    return found


class Place(NamedTuple):
    """A value of a network of convolutions: its number among the kernels' values, and its shape."""

    number: int
    channels: int
    height: int
    width: int
    flat: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


def convolutional_layers(architecture: Architecture) -> list[tuple[int, ...]] | None:
    """The fields of ``Given`` in ``convolutions.cpp``, operation by operation; None where it knows no such network.

    It knows convolutions, max pooling, activations, batch norms, sums of two values and means over positions, then affine
    maps of what is flattened.
    """
    operations = architecture.operations
    if len(architecture.inputs) != 3 or not read_once(architecture, [name for o in operations for name in o.tensors]):
        return None
    consumers = readers(operations)
    channels, height, width = architecture.inputs
    last = Place(0, channels, height, width)
    values, found = {"input": last}, list[tuple[int, ...]]()
    for operation in operations:
        if any(name not in values for name in operation.inputs):
            return None
        before = [values[name] for name in operation.inputs]
        if is_flattening(operation, before[0]):  # the same numbers
            last = before[0]._replace(flat=True)
        elif told := told_of(architecture, operation, before, consumers):
            found.append(told.numbers())
            last = told.after(len(found))
        else:
            return None
        values[operation.output] = last
    # Where the outputs are channels, kernels take them at one position.
    return found if last.number == len(found) and last.flat and last.size == (1, 1) else None


@dataclass(frozen=True)
class Told:
    """One operation as ``Given`` has it."""

    kind: str
    before: Place
    outputs: int
    tensors: tuple[int, ...] = (-1, -1, -1, -1)
    other: int = 0
    activation: int = 0
    kernel: tuple[int, ...] = (1, 1)
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    epsilon: float = 0.0
    flat: bool = False

    def after(self, number: int) -> Place:
        """The value that it makes."""
        height, width = positions(self.before.size, self.kernel, self.stride, self.padding, (1, 1))
        return Place(number, self.outputs, height, width, self.flat)

    def numbers(self) -> tuple[int, ...]:
        """In the order of the fields; a double by its bits."""
        head = (KINDS.index(self.kind), self.before.number, self.other, self.activation, *self.tensors)
        shape = (self.before.channels, *self.before.size, self.outputs, *self.kernel, *self.stride, *self.padding)
        return (*head, *shape, *struct.unpack("q", struct.pack("d", self.epsilon)))


def told_of(
    architecture: Architecture, operation: Operation, before: list[Place], consumers: Mapping[str, int]
) -> Told | None:
    """An operation for the kernels, which reads values at these places; None where they do not know it."""
    x = before[0]
    alone = not x.flat or x.size == (1, 1)  # whether a channel is one neuron
    match operation:
        case Convolution(groups=1, dilation=(1, 1)) if not x.flat:
            outputs, _, *kernel = architecture.shape(operation.weight)
            where, sides = places(architecture, operation), (tuple(kernel), operation.stride, operation.padding)
            return Told("convolve", x, outputs, where, 0, 0, *sides)
        case Linear(rows=None) if x.flat:
            outputs, _ = architecture.shape(operation.weight)
            return Told("convolve", x, outputs, places(architecture, operation), kernel=x.size, flat=True)
        case Pool() if not x.flat and (window := whole_windows(operation)):
            return Told("pool", x, x.channels, kernel=window, stride=window)
        case Pool(name="adaptive_avg_pool") if not x.flat and two_sides(dict(operation.settings)["output_size"]) == (1, 1):
            return Told("average", x, x.channels, kernel=x.size)
        case Reduce(function="mean", axes=(2, 3), keep=False) if not x.flat:
            return Told("average", x, x.channels, kernel=x.size, flat=True)
        case Elementwise(settings=()) if operation.function in ACTIVATIONS and consumers[operation.inputs[0]] == 1:
            # In place, so that nothing else may read what it changes.
            return Told("activate", x, x.channels, activation=ACTIVATIONS.index(operation.function), flat=x.flat)
        case BatchNorm(holds="variance") if alone:
            where = places(architecture, operation)
            return Told("normalize", x, x.channels, where, epsilon=operation.epsilon, flat=x.flat)
        case Add(alpha=1.0) if x[1:] == before[1][1:]:
            return Told("add", x, x.channels, other=before[1].number, flat=x.flat)
    return None


def readers(operations: Sequence[Operation]) -> Mapping[str, int]:
    """How many operations read each value's numbers, which reshaped ones share."""
    roots: dict[str, str] = {}
    for operation in operations:
        if isinstance(operation, Reshape):
            roots[operation.output] = roots.get(operation.inputs[0], operation.inputs[0])
    others = (operation for operation in operations if not isinstance(operation, Reshape))
    count = Counter(roots.get(name, name) for operation in others for name in operation.inputs)
    return count | {name: count[root] for name, root in roots.items()}


def is_flattening(operation: Operation, x: Place) -> bool:
    """Whether an operation makes features of a value."""
    features = (1, x.channels * x.height * x.width)
    return isinstance(operation, Reshape) and operation.batch_axis == 0 and operation.shape == features


def whole_windows(pool: Pool) -> tuple[int, ...] | None:
    """The sides of windows of max pooling that neither overlap nor leave gaps; None for any other pooling."""
    if pool.name != "max_pool":
        return None
    settings = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False} | dict(pool.settings)
    window = two_sides(settings["kernel_size"])
    stride = two_sides(settings["stride"] or window)  # torch takes None and () for the window's own
    whole = (stride, two_sides(settings["padding"]), two_sides(settings["dilation"])) == (window, (0, 0), (1, 1))
    return window if whole and not settings["ceil_mode"] else None


def two_sides(setting: int | Sequence[int] | None) -> tuple[int, ...]:
    """Height's and width's, which torch takes as one number where they are the same."""
    numbers = (setting,) if isinstance(setting, int) else tuple(setting or ())
    return numbers * 2 if len(numbers) == 1 else numbers


def read_once(architecture: Architecture, tensors: Iterable[str | None]) -> bool:
    """Whether these are all of a network's tensors, none of them twice."""
    return sorted(name for name in tensors if name is not None) == sorted(name for name, _ in architecture.shapes)


def places(architecture: Architecture, operation: Operation) -> tuple[int, ...]:
    """Where weight, bias, mean and variance begin in the flat vector, -1 for none."""
    names = (getattr(operation, field, None) for field in ("weight", "bias", "mean", "variance"))
    return tuple(-1 if name is None else architecture.slices[name].start for name in names)
