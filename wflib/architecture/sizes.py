"""What becomes of the sizes in each operation when groups of neurons change theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from wflib.architecture.extents import Extent, Unclear, broadcast, cut, fixed, joined, names, new, old, reshaped
from wflib.architecture.operations import Multiple, Operation

__all__ = ["RULES", "Sizes"]

Axes = tuple[Extent, ...]
"""What the axes of a value consist of, without that of networks."""
Bounds = tuple[int | None, int | None, int | None]
"""Start, stop and step of a slice."""


@dataclass
class Sizes:
    """What is known while sizes run through a network.

    Attributes:
        tensors: What the axes of every tensor consist of.
        values: The same of every value so far.
        shapes: Shapes of all values before, for one example.
        summed: For products of matrices, the axis that they sum over.
    """

    tensors: Mapping[str, Axes]
    values: dict[str, Axes]
    shapes: Mapping[str, tuple[int, ...]]
    summed: dict[str, Extent] = field(default_factory=dict)

    def constant(self, operation: Operation) -> Axes:
        """The axes of a value that nothing changes."""
        return tuple(fixed(size) for size in self.shapes[operation.output])

    def positions(self, operation: Operation) -> Axes:
        """What stands behind axis 1: positions, as many as before."""
        return self.constant(operation)[2:]

    def scaled(self, operation: Operation) -> Operation:
        """A multiple by 1/√width of what products of matrices sum over, attention's scale, by that of the new width."""
        if not isinstance(operation, Multiple):
            return operation
        (source,), widths = operation.inputs, names(*self.summed.values())
        for extent in (*self.values[source], *([self.summed[source]] if source in self.summed else [])):
            if names(extent) & widths and math.isclose(operation.factor, old(extent) ** -0.5):
                return replace(operation, factor=new(extent) ** -0.5)
        return operation


Rule = Callable[[Sizes, Any, Sequence[Axes]], tuple[Operation, Axes]]
RULES: dict[str, Rule] = {}


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """A rule for these kinds of operations."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return enter


def require_same(one: Extent, other: Extent) -> None:
    """Refuse to read as many neurons as there are not.

    Raises:
        Unclear: The sizes differ.
    """
    if new(one) != new(other):
        raise Unclear(names(one, other), f"would read {new(one)} where it has weights for {new(other)}")


@rule("elementwise", "along_axis", "multiple")
def same(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Entries stay where they are."""
    return operation, inputs[0]


@rule("roll")
def rolled(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Positions only."""
    moved = names(*(inputs[0][axis] for axis in operation.axes))
    if moved:
        raise Unclear(moved, "shifts these neurons by a number of places")
    return operation, inputs[0]


@rule("linear")
def linear(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Rows count outputs, columns the last axis."""
    rows, columns = sizes.tensors[operation.weight]
    require_same(inputs[0][-1], columns)
    if operation.rows is not None:
        start, stop, rows = cut(rows, *operation.rows)
        operation = replace(operation, rows=(start, stop))
    return operation, (*inputs[0][:-1], rows)


@rule("convolution")
def convolution(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Depthwise ones have as many groups as outputs, grouped ones as many as their channels' parents."""
    rows, members = sizes.tensors[operation.weight][:2]
    channels, groups = inputs[0][1], operation.groups
    if groups == old(rows) > 1 == old(members):
        groups = new(rows)
    elif groups > 1:
        groups = parents(rows, groups)
    if new(channels) != groups * new(members) or new(rows) % groups:
        touched = names(rows, members, channels)
        raise Unclear(touched, f"would read {new(channels)} channels in {groups} groups of {new(members)}")
    return replace(operation, groups=groups), (inputs[0][0], rows, *sizes.positions(operation))


def parents(channels: Extent, groups: int) -> int:
    """How many groups of channels there are after."""
    first = channels[0][0]
    return first.new if len(channels) == 1 and len(channels[0]) > 1 and first.old == groups else groups


@rule("batch_norm", "layer_norm", "rms_norm", "group_norm")
def norm(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """One number for each channel or feature."""
    neurons = inputs[0][-1 if operation.kind in ("layer_norm", "rms_norm") else 1]
    for tensor in operation.tensors:
        require_same(neurons, sizes.tensors[tensor][0])
    if operation.kind == "group_norm":
        groups = parents(neurons, operation.groups)
        if new(neurons) % groups:
            raise Unclear(names(neurons), f"cannot take {new(neurons)} channels in {groups} groups")
        operation = replace(operation, groups=groups)
    return operation, inputs[0]


@rule("pool")
def pool(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Channels stay."""
    return operation, (*inputs[0][:2], *sizes.positions(operation))


@rule("reduce")
def reduced(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Without some axes."""
    axes = [axis % len(inputs[0]) for axis in operation.axes]
    kept = [fixed(1) if place in axes else extent for place, extent in enumerate(inputs[0])]
    return operation, tuple(extent for place, extent in enumerate(kept) if operation.keep or place not in axes)


@rule("add", "multiply")
def together(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Axis by axis."""
    return operation, broadcast(*inputs)


@rule("matrix_product")
def matrices(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Summed over the last axis of the one and the last but one of the other."""
    a, b = inputs
    require_same(a[-1], b[-2])
    sizes.summed[operation.output] = a[-1]
    return operation, (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])


@rule("reshape")
def reshape(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """To the shape that the same axes have now."""
    axes = tuple(reshaped(inputs[0], operation.shape))
    return replace(operation, shape=tuple(map(new, axes))), axes


@rule("expand")
def expand(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Axes of size one repeated, others as they are."""
    axes = broadcast(inputs[0], [fixed(size) if size != 1 else fixed(1) for size in expanded_only(operation, inputs[0])])
    return replace(operation, shape=tuple(map(new, axes))), axes


def expanded_only(operation: Any, axes: Axes) -> list[int]:
    """Sizes of a shape where an axis of size one is repeated, one elsewhere."""
    before = [1] * (len(operation.shape) - len(axes)) + [old(extent) for extent in axes]
    return [1 if size == there else size for size, there in zip(operation.shape, before, strict=True)]


@rule("permute")
def permute(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """In another order."""
    return operation, tuple(inputs[0][axis] for axis in operation.order)


@rule("slice")
def sliced(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Parts of axes begin and end between groups."""
    axes, index, left = [], [], list(inputs[0])
    for item in operation.index:
        extent = fixed(1) if item == "new" else left.pop(0)
        if isinstance(item, int):
            if names(extent):
                raise Unclear(names(extent), "takes one of these neurons")
        elif isinstance(item, tuple):
            item, extent = part_of(extent, item)
        index.append(item)
        if not isinstance(item, int):
            axes.append(extent)
    return replace(operation, index=tuple(index)), (*axes, *left)


def part_of(extent: Extent, item: Bounds) -> tuple[Bounds, Extent]:
    """A slice of an axis and what it holds; bounds that count from the end go on doing so."""
    start, stop, step = slice(*item).indices(old(extent))
    if not names(extent):
        return item, fixed(len(range(start, stop, step)))
    if step != 1:
        raise Unclear(names(extent), f"takes every {step}th of these neurons")
    low, high, part = cut(extent, start, stop)
    first, end = (
        None if given is None else moved - new(extent) if given < 0 else moved
        for given, moved in zip(item[:2], (low, high), strict=True)
    )
    return (first, end, item[2]), part


@rule("take")
def take(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Positions only."""
    axes, axis = list(inputs[0]), operation.axis % len(inputs[0])
    if names(axes[axis]):
        raise Unclear(names(axes[axis]), "takes these neurons by their places")
    axes[axis] = fixed(len(operation.places))
    return operation, tuple(axes)


@rule("concatenate")
def concatenate(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """One behind the other."""
    axis = operation.axis % len(inputs[0])
    for axes in inputs[1:]:
        for place, (one, other) in enumerate(zip(inputs[0], axes, strict=True)):
            if place != axis:
                require_same(one, other)
    whole = joined([segment for axes in inputs for segment in axes[axis]])
    return operation, (*inputs[0][:axis], whole, *inputs[0][axis + 1 :])


@rule("pad")
def pad(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """As many entries around as before."""
    axes = list(inputs[0])
    pairs = zip_longest(operation.widths[::2], operation.widths[1::2], fillvalue=0)
    for place, (before, after) in enumerate(pairs, 1):
        extent = axes[-place]
        if not names(extent):
            axes[-place] = fixed(old(extent) + before + after)
        elif min(before, after) < 0:
            raise Unclear(names(extent), "leaves out some of these neurons")
        else:
            axes[-place] = joined([s for part in (fixed(before), extent, fixed(after)) for s in part if old((s,))])
    return operation, tuple(axes)


@rule("parameter")
def parameter(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """The tensor's axes."""
    return operation, sizes.tensors[operation.tensor]


@rule("constant")
def constant(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """Numbers of the architecture stay."""
    return operation, sizes.constant(operation)


@rule("embedding")
def embedding(sizes: Sizes, operation: Any, inputs: Sequence[Axes]) -> tuple[Operation, Axes]:
    """A row for every number."""
    return operation, (*inputs[0], sizes.tensors[operation.weight][1])
