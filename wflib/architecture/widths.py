"""Networks of other widths: the same operations on tensors of other sizes.

What a group counts is known of every axis of every tensor. From tensors sizes run through the network: every value's axes
say what they consist of, and operations that have sizes written into them (shapes, rows, offsets, numbers of groups,
1/√width of attention) get those that follow. What comes out must have the same groups with the new sizes, or is
refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wflib.architecture.derive import Axis, Derivation
from wflib.architecture.extents import Extent, Factor, Segment, Unclear, fixed, joined, names, new
from wflib.architecture.operations import Operation
from wflib.architecture.running import run_operations
from wflib.architecture.sizes import RULES, Sizes

if TYPE_CHECKING:
    from wflib.architecture.spec import Architecture

__all__ = ["resized", "with_widths"]


def with_widths(architecture: Architecture, widths: Mapping[str, int]) -> Architecture:
    """The same network with other sizes of hidden groups: n_g neurons of group g where it had others.

    Channels of convolutions with all that follows them, hidden layers, features of a residual stream, attention heads and
    their widths (of one head). Operations get the sizes that follow, and attention its 1/√width.

    Args:
        architecture: Of any kind.
        widths: Hidden group → size, of a nested one for each of its parents; others keep theirs.

    Returns:
        The architecture, equal to the given one where no size is another.

    Raises:
        ValueError: A name is no hidden group, a size is below one, or an operation leaves open what becomes of a group: one
            that takes neurons by their places, or has numbers for each of them. Names both.
    """
    hidden = {group.name for group in architecture.hidden_groups}
    if not set(widths) <= hidden:
        raise ValueError(f"with_widths: expected some of the hidden groups {sorted(hidden)}, got {sorted(widths)}.")
    return resized(architecture, widths)


def resized(architecture: Architecture, sizes: Mapping[str, int]) -> Architecture:
    """The same network with other sizes of groups.

    Args:
        architecture: Of any kind.
        sizes: Group → size, of a nested one for each of its parents; ``"input"`` for the inputs' first axis.

    Returns:
        The architecture, equal to the given one where no size is another.

    Raises:
        ValueError: A size is below one, or operations leave open what becomes of a group; names both.
    """
    changed = {group.name: (group.size, sizes[group.name]) for group in architecture.groups if group.name in sizes}
    changed = {name: pair for name, pair in changed.items() if pair[0] != pair[1]}
    if min(sizes.values(), default=1) < 1:
        raise ValueError(f"with_widths: expected at least one neuron, got {dict(sizes)}.")
    if not changed:
        return architecture
    if any(not inside(architecture, name) for name in changed):
        missing = next(name for name in changed if not inside(architecture, name))
        raise ValueError(f"with_widths: {missing} cannot change its size: no axis of a tensor counts it.")
    tensors = {name: tensor_extents(architecture, name, changed) for name, _ in architecture.shapes}
    operations = moved_operations(architecture, changed, tensors)
    inputs = architecture.inputs
    if "input" in changed:
        inputs = (changed["input"][1], *inputs[1:])
    shapes = tuple((name, tuple(new(extent) for extent in tensors[name])) for name, _ in architecture.shapes)
    found = replace(architecture, inputs=inputs, shapes=shapes, operations=operations)
    require_same_neurons(architecture, found, changed)
    return found


def inside(architecture: Architecture, group: str) -> bool:
    """Whether a group is counted by some axis, itself or through its members."""
    axes = (axis for name, _ in architecture.shapes for axis in architecture.axes(name))
    parents = {other.name: other.parent for other in architecture.groups}
    return any(axis.name == group or any(group in (name, parents.get(name)) for name in axis.groups) for axis in axes)


def tensor_extents(architecture: Architecture, tensor: str, changed: Mapping[str, tuple[int, int]]) -> tuple[Extent, ...]:
    """What the axes of a tensor consist of."""
    parents = {group.name: group.parent for group in architecture.groups}
    found = []
    for place, axis in enumerate(architecture.axes(tensor)):
        try:
            found.append(axis_extent(axis, changed, parents))
        except Unclear as error:
            user = next(operation for operation in architecture.operations if tensor in operation.tensors)
            where = f"axis {place} of {tensor}, which {described(user)} uses, {error}"
            raise ValueError(sentence(error.groups, where)) from error
    return tuple(found)


def axis_extent(axis: Axis, changed: Mapping[str, tuple[int, int]], parents: Mapping[str, str | None]) -> Extent:
    """What one axis consists of.

    Raises:
        Unclear: Neurons of a group that changes do not stand in order.
    """
    if axis.name == "input" and "input" in changed:
        return ((Factor(*changed["input"], "input"),),)
    blocks = [block for block in axis.blocks if block.group in changed or parents[block.group] in changed]
    if not blocks:
        return fixed(axis.size)
    labels = torch.full((axis.size, 3), -1)
    counts = []
    for number, block in enumerate(blocks):
        places = block.places if block.rows is None else block.places[0]
        if block.rows is not None and bool((block.places != places).any()):
            raise Unclear([block.group], "has these neurons at other places in other rows")
        places = places if places.ndim == 3 else places.unsqueeze(0)
        sets, members = places.shape[:2]
        labels[places, 0] = number
        labels[places, 1] = torch.arange(sets).view(-1, 1, 1).expand(places.shape)
        labels[places, 2] = torch.arange(members).view(1, -1, 1).expand(places.shape)
        parent = parents[block.group] if block.rows is None else None
        counts.append((factor(sets, parent, changed), factor(members, block.group, changed)))
    return joined(list(segments(labels, counts)))


def factor(size: int, group: str | None, changed: Mapping[str, tuple[int, int]]) -> Factor:
    """So many neurons of a group, or of none."""
    return Factor(*changed[group], group) if group is not None and group in changed else Factor(size, size)


def segments(labels: Tensor, counts: list[tuple[Factor, Factor]]) -> Iterator[Segment]:
    """The segments of an axis whose places have labels (block, parent, member), -1 where nothing changes: (size, 3)."""
    place = 0
    while place < len(labels):
        number, parent, _ = labels[place].tolist()
        same = (labels[place:] != labels[place]).any(1).nonzero()
        copies = int(same[0]) if len(same) else len(labels) - place
        if number < 0:
            yield (Factor(copies, copies),)
            place += copies
            continue
        above, members = counts[number]
        if above.old * members.old == 1:  # one neuron's places: its parts one by one, as none tells how they were ordered
            copies = 1
        # All parents with all their members, else the members of one parent.
        for sets in (above.old, 1) if above.constant else (above.old,):
            whose = torch.arange(parent, parent + sets).repeat_interleave(members.old * copies)
            member = torch.arange(members.old).repeat_interleave(copies).repeat(sets)
            expected = torch.stack([torch.full_like(member, number), whose, member], 1)
            if torch.equal(labels[place : place + len(expected)], expected):
                yield (above if sets == above.old else Factor(sets, sets), members, Factor(copies, copies))
                place += len(expected)
                break
        else:
            raise Unclear([f.group for f in (above, members) if f.group], "has these neurons in an order of its own")


def moved_operations(
    architecture: Architecture, changed: Mapping[str, tuple[int, int]], tensors: Mapping[str, tuple[Extent, ...]]
) -> tuple[Operation, ...]:
    """The operations with the sizes that follow."""
    with torch.no_grad():  # one network on one example, for the shapes of its values
        weights = {name: torch.zeros(1, *shape) for name, shape in architecture.shapes}
        every = {operation.output for operation in architecture.operations}
        values = run_operations(architecture.operations, weights, torch.zeros(1, 1, *architecture.inputs), every)
    shapes = {name: tuple(value.shape[1:]) for name, value in values.items()}
    start = [fixed(size) for size in (1, *architecture.inputs)]
    if "input" in changed:
        start[1] = ((Factor(*changed["input"], "input"),),)
    sizes = Sizes(tensors, {"input": tuple(start)}, shapes)
    found = []
    for operation in architecture.operations:
        inputs = [sizes.values[name] for name in operation.inputs]
        try:
            rule = RULES.get(operation.kind)
            touched = names(*(e for axes in inputs for e in axes), *(e for t in operation.tensors for e in tensors[t]))
            if rule is None and touched:
                raise Unclear(touched, "has no rule for other widths")
            moved, axes = rule(sizes, operation, inputs) if rule else (operation, sizes.constant(operation))
        except Unclear as error:
            raise ValueError(sentence(error.groups, f"{described(operation)} {error}")) from error
        sizes.values[operation.output] = axes
        found.append(moved)
    return tuple(map(sizes.scaled, found))


def require_same_neurons(before: Architecture, after: Architecture, changed: Mapping[str, tuple[int, int]]) -> None:
    """Check by what follows from the new operations that they have the same groups with the new sizes.

    Raises:
        ValueError: The operations do not run, or the neurons that may be exchanged or rescaled are others.
    """
    try:
        one, other = before.derivation, after.derivation
    except RuntimeError as error:
        raise ValueError(sentence(changed, f"the network of these sizes does not run: {error}")) from error
    expected = [(g.name, changed.get(g.name, (0, g.size))[1], g.permutable, g.parent) for g in one.groups]
    found = [(g.name, g.size, g.permutable, g.parent) for g in other.groups]
    for wanted, got in zip(expected, found, strict=False):
        if wanted != got:
            raise ValueError(sentence(changed, f"{wanted[0]} would be {got[0]} with {got[1]} neurons, not {wanted[1]}"))
    if len(expected) != len(found) or structure(one) != structure(other):
        raise ValueError(sentence(changed, "other neurons than now could be exchanged or rescaled"))


def structure(derivation: Derivation) -> list[object]:
    """What must not depend on sizes: whose places each axis holds, and which tensors follow which scalings."""
    axes = [[axis.groups for axis in axes] for axes in derivation.axes.values()]
    scalings = [
        (scaling.name, scaling.kind, [(factor.tensor, factor.axes, factor.power) for factor in scaling.factors])
        for scaling in derivation.scalings
    ]
    return [axes, scalings]


def described(operation: Operation) -> str:
    """Its name and kind."""
    return f"`{operation.output}` ({operation.kind.replace('_', ' ')})"


def sentence(groups: Collection[str], reason: str) -> str:
    """Why groups keep their sizes."""
    return f"with_widths: {', '.join(sorted(groups))} cannot have another size: {reason}."
