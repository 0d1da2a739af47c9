"""Networks as compiled kernels are told of them: a tuple of numbers for each layer."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wflib.architecture import Architecture, is_perceptron
from wflib.architecture.chain import chain
from wflib.architecture.operations import (
    Add,
    AlongAxis,
    BatchNorm,
    Convolution,
    Elementwise,
    LayerNorm,
    Linear,
    MatrixProduct,
    Multiple,
    Operation,
    Parameter,
    Permute,
    Pool,
    Reduce,
    Reshape,
)
from wflib.architecture.operations.patches import positions

__all__ = ["image_layers", "perceptron_layers"]

ACTIVATIONS = ("identity", "relu", "leaky_relu", "tanh", "softsign", "gelu", "silu", "smooth_relu")
KINDS = (
    *("convolve", "pool", "activate", "normalize", "add", "average"),
    *("normalize_features", "place", "logits", "softmax", "mix"),
)
"""Both in the order of the kernels' own numbers."""
Moving = Reshape | Permute | Multiple
"""What leaves numbers where they are; a factor waits for who reads them, see :func:`moved_place`."""


def perceptron_layers(architecture: Architecture) -> list[tuple[int, ...]] | None:
    """Inputs, outputs, activation and where weight and bias lie in the flat vector (-1: none), layer by layer.

    None where ``perceptrons.cpp`` knows no such network.
    """
    if not is_perceptron(architecture):
        return None
    layers, found = chain(architecture.operations), []
    if any(layer.activation not in ACTIVATIONS for layer in layers) or not read_whole(architecture, architecture.operations):
        return None
    for layer in layers:
        outputs, inputs = architecture.shape(layer.weight)
        where = (-1 if name is None else architecture.slices[name].start for name in (layer.weight, layer.bias))
        found.append((inputs, outputs, ACTIVATIONS.index(layer.activation), *where))
    return found


class Place(NamedTuple):
    """A value of a network of images: its number among the kernels' values, sizes there, and its axes in the network.

    An axis is a letter, ``b`` that of examples: ``bcyx`` are images, ``bf`` features, ``btf`` and ``tbf`` tokens, which are
    the kernels' positions, ``bthw`` in any order their heads, ``bhts`` attention's weights, keys being kernels' channels.
    """

    number: int
    channels: int
    height: int
    width: int
    axes: str = "bcyx"
    heads: int = 1
    factor: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def shape(self, axes: str) -> tuple[int, ...]:
        """Its sizes if it had these axes, one for the examples."""
        tokens = self.height * self.width
        features = self.channels if "t" in axes else self.channels * tokens
        sizes = {"b": 1, "f": features, "t": tokens, "h": self.heads, "w": self.channels // self.heads}
        return tuple(sizes[axis] for axis in axes)


def image_layers(architecture: Architecture) -> list[tuple[int, ...]] | None:
    """The fields of ``Given`` in ``operation.h``, operation by operation; None where ``images.cpp`` knows no such network.

    It knows convolutions, max pooling, activations, batch norms, sums of two values and means over positions, affine maps of
    what is flattened; and of positions as tokens: affine maps, layer norms, learned positions, attention.
    """
    operations = wanted_operations(architecture)
    if len(architecture.inputs) != 3 or not read_whole(architecture, operations):
        return None
    consumers = readers(operations)
    channels, height, width = architecture.inputs
    last = Place(0, channels, height, width)
    values, learned, found = {"input": last}, dict[str, str](), list[tuple[int, ...]]()
    for operation in operations:
        if isinstance(operation, Parameter):
            learned[operation.output] = operation.tensor
            continue
        if any(name not in values and name not in learned for name in operation.inputs):
            return None
        before = [values[name] for name in operation.inputs if name in values]
        added = [learned[name] for name in operation.inputs if name in learned]
        if before and not added and (moved := moved_place(operation, before[0])):
            last = moved
        elif before and (told := told_of(architecture, operation, before, added, consumers)):
            found.append(told.numbers())
            last = told.after(len(found))
        else:
            return None
        values[operation.output] = last
    # Where the outputs are channels, kernels take them at one position.
    return found if last.number == len(found) and last.axes == "bf" and last.size == (1, 1) else None


@dataclass(frozen=True)
class Told:
    """One operation as ``Given`` has it, and the axes of what it makes."""

    kind: str
    before: Place
    outputs: int
    axes: str
    tensors: tuple[int, ...] = (-1, -1, -1, -1)
    other: int = 0
    activation: int = 0
    kernel: tuple[int, ...] = (1, 1)
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    heads: int = 1
    number: float = 0.0

    def after(self, number: int) -> Place:
        """The value that it makes."""
        height, width = positions(self.before.size, self.kernel, self.stride, self.padding, (1, 1))
        return Place(number, self.outputs, height, width, self.axes, self.heads)

    def numbers(self) -> tuple[int, ...]:
        """In the order of the fields; a double by its bits."""
        head = (KINDS.index(self.kind), self.before.number, self.other, self.activation, *self.tensors)
        shape = (self.before.channels, *self.before.size, self.outputs, *self.kernel, *self.stride, *self.padding)
        return (*head, *shape, self.heads, *struct.unpack("q", struct.pack("d", self.number)))


def told_of(
    architecture: Architecture, operation: Operation, before: list[Place], learned: list[str], consumers: Mapping[str, int]
) -> Told | None:
    """An operation for the kernels, of values at these places and learned tensors; None where they do not know it."""
    if isinstance(operation, MatrixProduct) and len(before) == 2:
        return told_of_product(*before)
    x = before[0]
    if isinstance(operation, AlongAxis) and operation.function == "softmax" and operation.axis == 3 and x.axes[2:] == "ts":
        return Told("softmax", x, x.channels, x.axes, heads=x.heads, number=x.factor)
    if any(place.factor != 1 for place in before):
        return None
    if learned:
        known = isinstance(operation, Add) and operation.alpha == 1 and x.axes == "btf" and len(learned) == 1
        known = known and architecture.shape(learned[0]) in (x.shape("tf"), x.shape("btf"))
        where: tuple[int, ...] = (architecture.slices[learned[0]].start, -1, -1, -1)
        return Told("place", x, x.channels, x.axes, where) if known else None
    tokens, single = x.axes in ("btf", "tbf"), x.size == (1, 1)
    means = {"bcyx": (2, 3), "btf": (1,), "tbf": (0,)}
    match operation:
        case Convolution(groups=1, dilation=(1, 1)) if x.axes == "bcyx":
            outputs, _, *kernel = architecture.shape(operation.weight)
            where, sides = places(architecture, operation), (tuple(kernel), operation.stride, operation.padding)
            return Told("convolve", x, outputs, x.axes, where, 0, 0, *sides)
        case Linear() if tokens or x.axes == "bf":
            outputs, inputs = architecture.shape(operation.weight)
            where, (first, end) = places(architecture, operation), operation.rows or (0, outputs)
            where = tuple(
                place + first * size if place >= 0 else -1 for place, size in zip(where, (inputs, 1, 0, 0), strict=True)
            )
            return Told("convolve", x, end - first, x.axes, where, kernel=(1, 1) if tokens else x.size)
        case Pool() if x.axes == "bcyx" and (window := whole_windows(operation)):
            return Told("pool", x, x.channels, x.axes, kernel=window, stride=window)
        case Pool() if x.axes == "bcyx" and is_mean(operation):
            return Told("average", x, x.channels, x.axes, kernel=x.size)
        case Reduce(function="mean", keep=False) if operation.axes == means.get(x.axes):
            return Told("average", x, x.channels, "bf", kernel=x.size)
        case Elementwise(settings=()) if operation.function in ACTIVATIONS and consumers[operation.inputs[0]] == 1:
            # In place, so that nothing else may read what it changes.
            return Told("activate", x, x.channels, x.axes, activation=ACTIVATIONS.index(operation.function), heads=x.heads)
        case BatchNorm(holds="variance") if x.axes == "bcyx" or (x.axes == "bf" and single):
            where = places(architecture, operation)
            return Told("normalize", x, x.channels, x.axes, where, number=operation.epsilon)
        case LayerNorm() if tokens or (x.axes == "bf" and single):
            where = places(architecture, operation)
            return Told("normalize_features", x, x.channels, x.axes, where, number=operation.epsilon)
        case Add(alpha=1.0) if x[1:] == before[1][1:]:
            return Told("add", x, x.channels, x.axes, other=before[1].number, heads=x.heads)
    return None


def told_of_product(first: Place, second: Place) -> Told | None:
    """A product of attention: of queries and keys, or of weights and values; each token meets all."""
    alike = first.axes[:2] == second.axes[:2] and first.heads == second.heads and first.width == second.width
    match first.axes[2:], second.axes[2:]:
        case "tw", "wt" if alike and first.channels == second.channels:
            factor, outputs = first.factor * second.factor, first.heads * first.width
            axes, heads = f"{first.axes[:2]}ts", first.heads
            return Told("logits", first, outputs, axes, other=second.number, heads=heads, number=factor)
        case "ts", "tw" if alike and first.factor == second.factor == 1:
            return Told("mix", second, second.channels, second.axes, other=first.number, heads=first.heads)
    return None


def moved_place(operation: Operation, x: Place) -> Place | None:
    """A value whose numbers are another's in other axes, or all times a factor; None where it is none that kernels know."""
    match operation:
        case Multiple(offset=0.0) if "h" in x.axes:
            return x._replace(factor=x.factor * operation.factor)
        case Permute():
            return x._replace(axes="".join(x.axes[axis] for axis in operation.order))
        case Reshape() if x.axes in ("bcyx", "bf") and operation.batch_axis == 0:
            if operation.shape == x.shape("bf"):
                return x._replace(axes="bf")
            if operation.shape == x.shape("bft"):
                return x._replace(axes="bft", height=1, width=x.height * x.width)
        case Reshape() if x.axes in ("bthw", "tbhw", "btf", "tbf") and operation.batch_axis == x.axes.index("b"):
            first = x.axes[:2]
            if operation.shape == x.shape(f"{first}f"):
                return x._replace(axes=f"{first}f", heads=1)
            if len(operation.shape) == 4 and x.channels % operation.shape[2] == 0:
                split = x._replace(axes=f"{first}hw", heads=operation.shape[2])
                return split if operation.shape == split.shape(split.axes) else None
    return None


def readers(operations: Sequence[Operation]) -> Mapping[str, int]:
    """How many operations read each value's numbers, which moved ones share; softmax reads its own for its gradient."""
    roots: dict[str, str] = {}
    for operation in operations:
        if isinstance(operation, Moving):
            roots[operation.output] = roots.get(operation.inputs[0], operation.inputs[0])
    others = [operation for operation in operations if not isinstance(operation, Moving)]
    count = Counter(roots.get(name, name) for operation in others for name in operation.inputs)
    count.update(operation.output for operation in others if isinstance(operation, AlongAxis))
    return count | {name: count[root] for name, root in roots.items()}


def whole_windows(pool: Pool) -> tuple[int, ...] | None:
    """The sides of windows of max pooling that neither overlap nor leave gaps; None for any other pooling."""
    if pool.name != "max_pool":
        return None
    settings = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False} | dict(pool.settings)
    window = two_sides(settings["kernel_size"])
    stride = two_sides(settings["stride"] or window)  # torch takes None and () for the window's own
    whole = (stride, two_sides(settings["padding"]), two_sides(settings["dilation"])) == (window, (0, 0), (1, 1))
    return window if whole and not settings["ceil_mode"] else None


def is_mean(pool: Pool) -> bool:
    """Whether pooling leaves one mean of all positions."""
    return pool.name == "adaptive_avg_pool" and two_sides(dict(pool.settings)["output_size"]) == (1, 1)


def two_sides(setting: int | Sequence[int] | None) -> tuple[int, ...]:
    """Height's and width's, which torch takes as one number where they are the same."""
    numbers = (setting,) if isinstance(setting, int) else tuple(setting or ())
    return numbers * 2 if len(numbers) == 1 else numbers


def wanted_operations(architecture: Architecture) -> list[Operation]:
    """Those that the output needs: not means of attention's weights that nobody asks for."""
    wanted, found = {architecture.operations[-1].output}, list[Operation]()
    for operation in reversed(architecture.operations):
        if operation.output in wanted:
            found.insert(0, operation)
            wanted.update(operation.inputs)
    return found


def read_whole(architecture: Architecture, operations: Sequence[Operation]) -> bool:
    """Whether operations read all of a network's tensors, every row once: one may hold several maps, as attention's."""
    heights = {name: (*shape, 1)[0] for name, shape in architecture.shapes}
    rows = {name: list[int]() for name in heights}
    for operation in operations:
        for name in operation.tensors:
            rows[name] += range(*(getattr(operation, "rows", None) or (0, heights[name])))
    return all(sorted(found) == [*range(heights[name])] for name, found in rows.items())


def places(architecture: Architecture, operation: Operation) -> tuple[int, ...]:
    """Where weight, bias, mean and variance begin in the flat vector, -1 for none."""
    names = (getattr(operation, field, None) for field in ("weight", "bias", "mean", "variance"))
    return tuple(-1 if name is None else architecture.slices[name].start for name in names)
