"""How long axes are before and after groups of neurons have changed their sizes.

An axis is a sequence of *segments*, one behind the other as in a concatenation. A segment is a product of *factors* in
row-major order: channels × positions where images were flattened, heads × widths. A factor has an old size and a new one;
only those of groups that change differ. Sizes that are written into operations (shapes, rows, offsets) follow from these.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Extent", "Factor", "Segment", "Unclear", "broadcast", "cut", "fixed", "flattened", "joined", "names", "reshaped"]


@dataclass(frozen=True)
class Factor:
    """A size before and after; ``group`` is the one that changes it, None where nothing does."""

    old: int
    new: int
    group: str | None = field(default=None, compare=False)

    @property
    def constant(self) -> bool:
        """Whether no group changes it."""
        return self.group is None


Segment = tuple[Factor, ...]
Extent = tuple[Segment, ...]
"""What an axis consists of: segments, each a product of factors."""


class Unclear(ValueError):
    """Sizes that do not follow: carries the groups whose change leaves them open, and why."""

    def __init__(self, groups: Collection[str], reason: str) -> None:
        super().__init__(reason)
        self.groups = frozenset(groups)


def fixed(size: int) -> Extent:
    """An axis that nothing changes."""
    return ((Factor(size, size),),)


def old(extent: Extent) -> int:
    """Its size before."""
    return sum(math.prod(factor.old for factor in segment) for segment in extent)


def new(extent: Extent) -> int:
    """Its size after."""
    return sum(math.prod(factor.new for factor in segment) for segment in extent)


def names(*extents: Extent) -> frozenset[str]:
    """Groups that change some axis."""
    factors = (factor for extent in extents for segment in extent for factor in segment)
    return frozenset(factor.group for factor in factors if factor.group is not None)


def joined(segments: Sequence[Segment]) -> Extent:
    """Segments one behind the other, neighbours that nothing changes as one."""
    found: list[Segment] = []
    for segment in segments:
        if all(factor.constant for factor in segment):
            size = math.prod(factor.old for factor in segment)
            if found and all(factor.constant for factor in found[-1]):
                size += math.prod(factor.old for factor in found.pop())
            segment = (Factor(size, size),)
        found.append(tuple(factor for factor in segment if not factor.constant or factor.old != 1 or len(segment) == 1))
    return tuple(found)


def flattened(outer: Extent, inner: Extent) -> Extent:
    """Two axes as one, row-major.

    Raises:
        Unclear: Both are concatenations, or neurons of the outer one each have a concatenation.
    """
    if len(inner) == 1:
        return joined([(*segment, *inner[0]) for segment in outer])
    if not names(outer):
        return joined(list(inner) * old(outer))
    raise Unclear(names(outer, inner), "flattens a concatenation into the axis of neurons")


def taken(extent: Extent, size: int) -> tuple[Extent, Extent]:
    """An axis as two, the outer one of this size before.

    Raises:
        Unclear: The size is no product of leading factors, nor a number of equal parts.
    """
    if size == old(extent):
        return extent, fixed(1)
    if len(extent) > 1:
        length, left = divmod(len(extent), size)
        parts = [extent[place : place + length] for place in range(0, len(extent), max(length, 1))]
        if size == 1 or (not left and all(part == parts[0] for part in parts)):
            return fixed(size), parts[0] if size > 1 else extent
        raise Unclear(names(extent), f"takes {old(extent)} neurons apart into {size} parts, which would differ")
    head, rest, found = list[Factor](), list(extent[0]), 1
    while found < size or (not head and rest and rest[0].old == size == 1 and not rest[0].constant):
        factor = rest.pop(0)
        missing = size // found
        if missing % factor.old == 0:
            head.append(factor)
            found *= factor.old
        elif factor.constant and factor.old % missing == 0:
            head.append(Factor(missing, missing))
            rest.insert(0, Factor(factor.old // missing, factor.old // missing))
            found *= missing
        else:
            raise Unclear(names(extent), f"takes {old(extent)} neurons apart into {size} parts")
    return joined([tuple(head)]) if head else fixed(size), joined([tuple(rest)]) if rest else fixed(1)


def reshaped(extents: Sequence[Extent], shape: Sequence[int]) -> list[Extent]:
    """Axes after a reshape to what was this shape before.

    Raises:
        Unclear: Axes that change are taken apart otherwise than they are made up.
    """
    found: list[Extent] = []
    for axes, sizes in aligned([old(extent) for extent in extents], shape):
        parts = [extents[axis] for axis in axes]
        if [old(part) for part in parts] == list(sizes):
            found += parts
            continue
        rest = fixed(1)
        for part in parts:
            rest = flattened(rest, part)
        for size in sizes[:-1]:
            part, rest = taken(rest, size)
            found.append(part)
        if sizes:
            found.append(rest)
    return found


def aligned(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Shortest runs of axes, before and after, that hold equally many entries: (axes before, sizes after)."""
    i = j = 0
    while i < len(before) or j < len(after):
        axes, sizes = [i][: len(before) - i], [*after[j : j + 1]]
        i, j = i + 1, j + 1
        while (there := math.prod(before[axis] for axis in axes)) != (here := math.prod(sizes)):
            if there < here:
                axes.append(i)
                i += 1
            else:
                sizes.append(after[j])
                j += 1
        if i >= len(before) or j >= len(after):  # What is left over on one side has size one.
            axes += range(i, len(before))
            sizes += after[j:]
            i, j = len(before), len(after)
        yield axes, sizes


def cut(extent: Extent, start: int, stop: int) -> tuple[int, int, Extent]:
    """A part of an axis: where it begins and ends after, and what it consists of.

    Raises:
        Unclear: It begins or ends between neurons of a group that changes.
    """
    parts: list[Segment] = []
    place, bounds, moved = 0, [0, 0], 0
    for segment in extent:
        length, first = math.prod(factor.old for factor in segment), segment[0]
        low, high = (min(max(bound - place, 0), length) for bound in (start, stop))
        inner, inner_new = length // first.old, math.prod(factor.new for factor in segment[1:])
        step = inner if first.constant else length
        if (low % step or high % step) and names((segment,)):
            raise Unclear(names((segment,)), "cuts through these neurons")
        if not names((segment,)):  # one factor, as segments that nothing changes are joined
            inner = inner_new = 1
        ends = [first.new if bound == length else bound // inner for bound in (low, high)]
        for side, bound in enumerate((start, stop)):
            if place <= bound <= place + length:
                bounds[side] = moved + ends[side] * inner_new
        if high > low:
            parts.append((Factor(ends[1] - ends[0], ends[1] - ends[0]) if first.constant else first, *segment[1:]))
        place, moved = place + length, moved + first.new * inner_new
    return bounds[0], bounds[1], joined(parts) if parts else fixed(0)


def broadcast(a: Sequence[Extent], b: Sequence[Extent]) -> tuple[Extent, ...]:
    """Axes of a value that two are broadcast to.

    Raises:
        Unclear: They have other sizes after.
    """
    count = max(len(a), len(b))
    sides = [[fixed(1)] * (count - len(side)) + list(side) for side in (a, b)]
    found = []
    for one, other in zip(*sides, strict=True):
        one_more, other_more = (old(extent) != 1 or names(extent) for extent in (one, other))
        if one_more and other_more and new(one) != new(other):
            raise Unclear(names(one, other), f"joins {new(one)} of these with {new(other)} of others")
        found.append(one if one_more and (names(one) or not names(other)) else other if other_more else one)
    return tuple(found)
