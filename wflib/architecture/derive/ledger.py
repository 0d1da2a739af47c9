"""Where operations enter what they tie: the facts that groups and scalings are derived from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from wflib.architecture.derive.facts import Contraction, Entry, Site
from wflib.architecture.derive.union import Partition, distinct_pairs, distinct_rows
from wflib.architecture.derive.wires import NOBODY, ONE, ZERO, Wires, mix, sequence_hash

__all__ = ["Ledger"]


class Ledger:
    """What the operations of one network say, in their order; integers name neurons and scales.

    Attributes:
        shapes: Of every parameter tensor.
        operation: Name of the value that is being computed.
        number: Its place among the operations, part of every label it makes.
        parts: A hash for every name that a neuron will be born with, where that is known: which part it plays in the neuron
            that it becomes.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], parts: Tensor | None = None) -> None:
        self.shapes, self.parts = shapes, parts
        self.operation, self.number = "input", 0
        self.neurons, self.scales = Partition(1), Partition(2)
        self.read_first: list[tuple[str, Tensor]] = []
        self.soft = torch.zeros(1, dtype=torch.bool)
        self.born: list[Tensor] = []
        self.ties: list[tuple[Tensor, Tensor]] = []
        self.names: list[tuple[str, int, int]] = [("input", 0, 0)]
        self.children: list[tuple[Tensor, Tensor]] = []
        self.fixed: list[Tensor] = []
        self.sites: list[Site] = []
        self.entries: list[Entry] = []
        self.positive: list[Tensor] = []
        self.signs: list[Tensor] = []
        self.contractions: list[Contraction] = []
        self.factors: dict[str, Entry] = {}

    def begin(self, operation: str) -> None:
        """What follows is said by the next operation."""
        self.operation, self.number = operation, self.number + 1
        self.names.append((operation, len(self.neurons.names), len(self.scales.names)))

    def current(self, wires: Wires) -> Wires:
        """The same wires under the names that scales have by now; neurons keep the names they were born with."""
        return replace(wires, scale=self.scales.of(wires.scale))

    def new_neurons(self, count: int, soft: bool = False) -> Tensor:
        """Neurons that the operation at hand makes, alike until something tells them apart: (count,).

        Soft ones, entries of parameters that are used as values, become part of whatever neuron they meet.
        """
        found = self.neurons.grow(count)
        self.soft = torch.cat([self.soft, torch.full((count,), soft)])
        if not soft:
            self.born.append(found)
        return found

    def new_scales(self, count: int) -> Tensor:
        """Scales that nothing has restricted yet: (count,)."""
        return self.scales.grow(count)

    def tie(self, a: Tensor, b: Tensor, places: Tensor | int = 0) -> None:
        """The same neurons, entry by entry, at places that tell apart what becomes one."""
        sides = torch.broadcast_tensors(a, b, torch.as_tensor(places))
        a, b, where = (side.reshape(-1) for side in sides)
        both = (a != b) & (a != NOBODY) & (b != NOBODY)
        if both.any():
            pairs, which = distinct_pairs(a[both], b[both])
            self.ties.append((pairs, torch.zeros_like(pairs[0]).index_add_(0, which, mix(where[both]))))
            lost = self.neurons.unite(*pairs)
            hard = ~self.soft[lost]
            self.soft[self.neurons.of(lost[hard])] = False

    def join(self, a: Tensor, b: Tensor) -> None:
        """The same scales, entry by entry; zeros follow any."""
        a, b = (side.reshape(-1) for side in torch.broadcast_tensors(a, b))
        both = (a != b) & (a != ZERO) & (b != ZERO)
        if both.any():
            self.scales.unite(a[both], b[both])

    def common(self, scales: Tensor, axis: int) -> Tensor:
        """The one scale of all entries along an axis, kept with size one, that are not zero; these follow any."""
        found = torch.where(scales == ZERO, -1, scales).amax(axis, keepdim=True)
        found = torch.where(found < 0, ZERO, found)
        self.join(scales, found)
        return self.scales.of(found)

    def end(self, scales: Tensor) -> None:
        """Nothing may rescale these entries."""
        self.join(scales, torch.tensor(ONE))

    def restrict(self, scales: Tensor, kind: str) -> None:
        """Factors of these scales must be ``positive``, or ``sign``: one or minus one."""
        (self.positive if kind == "positive" else self.signs).append(scales.unique())

    def unrestricted(self, scales: Tensor) -> bool:
        """Whether every factor is still possible for all of these entries."""
        scales = self.scales.of(scales).unique()
        taken = self.scales.of(torch.cat([torch.tensor([ONE, ZERO]), *self.positive, *self.signs]))
        return not torch.isin(scales, taken).any()

    def child(self, neurons: Tensor, parents: Tensor, roles: Tensor | int = 0) -> None:
        """Neurons that move along with a parent, and among themselves within it."""
        sides = torch.broadcast_tensors(neurons, parents, torch.as_tensor(roles))
        members, sets, places = (side.reshape(-1) for side in sides)
        known = (members != NOBODY) & (sets != NOBODY)
        self.children.append((members[known], sets[known]))
        self.sites.append(Site(self.operation, (), members, mix(places, self.number)))
        # Members that are nobody's, inputs and constants, do not move: they are part of what their parent is.
        others = (members == NOBODY) & (sets != NOBODY)
        self.sites.append(Site(self.operation, (), sets[others], mix(places[others], self.number, 1)))

    def fix(self, neurons: Tensor) -> None:
        """Neurons that cannot be exchanged."""
        self.fixed.append(neurons.unique())

    def owns(
        self,
        tensor: str | None,
        axes: tuple[int, ...],
        neurons: Tensor,
        roles: Tensor | int = 0,
        offset: int = 0,
        within: bool = False,
    ) -> None:
        """Axes of a tensor count these neurons, from ``offset`` on."""
        if tensor is not None:
            roles = torch.as_tensor(roles).expand(neurons.shape)
            neurons, roles = (self.padded(tensor, axes, side, offset, NOBODY) for side in (neurons, roles))
            self.sites.append(Site(tensor, axes, neurons, roles, within))

    def follows(
        self,
        tensor: str | None,
        axes: tuple[int, ...],
        scales: Tensor,
        power: int,
        shift: float = 0.0,
        offset: int = 0,
    ) -> None:
        """A tensor follows these scales, from ``offset`` on."""
        if tensor is not None:
            scales = self.padded(tensor, axes, scales, offset, ZERO)
            self.entries.append(Entry(self.number, tensor, axes, scales, power, shift))

    def factor(self, tensor: str, scales: Tensor) -> None:
        """A parameter that is used as a value, and may be a factor of other values."""
        axes = tuple(range(scales.ndim))
        self.follows(tensor, axes, scales, 1)
        self.factors[tensor] = self.entries[-1]

    def absorbs(self, factor: Wires, others: Tensor) -> bool:
        """Whether a product's scales can be those of a parameter, which is divided by the other value's scales, too.

        So it is where the product is all that the parameter is used for, as it is, and the other value's scales are others.
        """
        entry = self.factors.get(factor.parameter or "")
        if entry is None or (others == ZERO).any():
            return False
        first, count = int(entry.scales.min()), entry.scales.numel()
        places = (factor.scale - first).reshape(-1)
        inside = (places >= 0) & (places < count)
        alone = torch.bincount(self.scales.names)[first : first + count] == 1
        if not inside.all() or not alone.all():
            return False
        table = torch.full((count,), ZERO).scatter_reduce_(0, places, others.reshape(-1), "amax", include_self=False)
        self.join(others.reshape(-1), table[places])
        self.entries.append(Entry(entry.operation, entry.tensor, entry.axes, table.view(entry.scales.shape), -1))
        return True

    def of_parameters(self, scales: Tensor) -> Tensor:
        """Which scales are those of parameters that are used as values, and of nothing before them."""
        starts = [int(entry.scales.min()) for entry in self.factors.values()]
        ends = [int(entry.scales.max()) for entry in self.factors.values()]
        found = torch.zeros_like(scales, dtype=torch.bool)
        for first, last in zip(starts, ends, strict=True):
            found |= (scales >= first) & (scales <= last)
        return found

    def padded(self, tensor: str, axes: tuple[int, ...], part: Tensor, offset: int, value: int) -> Tensor:
        """A part of an axis, with a value before and after it."""
        missing = self.shapes[tensor][axes[0]] - len(part) if len(axes) == 1 else 0
        if not missing:
            return part
        return torch.nn.functional.pad(part, (offset, missing - offset), value=value)

    def read(self, wires: Wires, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """What stands along an axis when all other axes are positions: neurons, roles, scales, each (length,).

        A neuron's entries at all positions are tied; its role is how its labels lie over them.
        """
        neuron, label, scale = (
            side.movedim(axis, -1).reshape(-1, side.shape[axis]) for side in (wires.neuron, wires.label, wires.scale)
        )
        owner = neuron.max(0).values
        others = (neuron != owner).any(1).nonzero()
        self.tie(neuron[others[:, 0]], owner, others)
        return owner, sequence_hash(label, 0), self.common(scale, 0).squeeze(0)

    def positions(self, shape: tuple[int, ...]) -> Tensor:
        """Fresh labels, one a position."""
        return mix(torch.arange(math.prod(shape)), self.number).view(shape)

    def sets(self, wires: Wires, axes: tuple[int, ...]) -> Tensor:
        """Neurons of what is computed from all entries along some axes together, in the shape without these axes.

        Entries of one neuron at several positions give the neuron itself, inputs and constants among them or not. Several
        neurons make a set, with a new neuron as parent of its members, which may be exchanged within it.
        """
        kept = [axis for axis in range(wires.neuron.ndim) if axis not in axes]
        shape = [wires.neuron.shape[axis] for axis in kept]
        rows, labels = (side.permute(*kept, *axes).reshape(math.prod(shape), -1) for side in (wires.neuron, wires.label))
        parents, rows = rows.max(1).values, self.neurons.of(rows)
        several = ((rows != rows.max(1, keepdim=True).values) & (rows != NOBODY)).any(1)
        if several.any():
            members, which = distinct_rows(rows[several])
            new = self.new_neurons(len(members))
            parents[several] = new[which]
            # A member's role: how its labels lie over the positions at which its set is seen, and what it meets there.
            labels = mix(labels[several])
            roles = torch.zeros_like(members).index_add_(0, which, mix(labels, labels.sum(1, keepdim=True)))
            self.child(members, new[:, None], roles)
        return parents.view(shape)

    def together(self, wires: Wires, axes: tuple[int, ...]) -> Wires:
        """Entries that are each computed from all along some axes, as labels then say; nobody's are the others' there."""
        neuron, label = self.sets(wires, axes), mix(wires.label).sum(axes)
        for axis in sorted(axes):
            neuron, label = neuron.unsqueeze(axis), label.unsqueeze(axis)
        neuron = torch.where(wires.neuron == NOBODY, neuron, wires.neuron)
        return replace(wires, neuron=neuron, label=mix(wires.label, label, self.number))

    def combine(self, a: Wires, b: Wires, label: Tensor) -> tuple[Tensor, Tensor]:
        """Neurons and labels of entries computed from two entries each. Neurons that meet each other only become one.

        A neuron that meets many, each of which meets it alone, becomes their parent: logits of a head and its values. Where
        both meet many, neither can be exchanged, and the one that the entry is not counted to is part of its label.
        """
        born = [side.reshape(-1) for side in torch.broadcast_tensors(a.neuron, b.neuron)]
        first, second = (self.neurons.of(side) for side in born)
        shape = torch.broadcast_shapes(a.neuron.shape, b.neuron.shape)
        result = torch.where(first == NOBODY, born[1], born[0])
        meeting = (first != second) & (first != NOBODY) & (second != NOBODY)
        if not meeting.any():
            return result.view(shape), label
        (one, other), which = distinct_pairs(first[meeting], second[meeting])
        size = len(self.neurons.names)
        single = torch.bincount(one, minlength=size)[one] == 1, torch.bincount(other, minlength=size)[other] == 1
        soft = self.soft[one], self.soft[other]
        same = (single[0] & single[1]) | (single[0] & soft[0]) | (single[1] & soft[1])
        below, above = single[0] & ~same, single[1] & ~same & ~single[0]
        self.child(one[below], other[below])
        self.child(other[above], one[above])
        neither = ~(same | below | above)
        self.fix(torch.cat([one[neither], other[neither]]))
        kept = [side[meeting] for side in born]
        result[meeting] = torch.where((above | (same & soft[0]))[which], kept[1], kept[0])
        label = label.reshape(-1).clone()
        self.tie(kept[0][same[which]], kept[1][same[which]], label[meeting][same[which]])
        label[meeting] = torch.where(neither[which], mix(label[meeting], kept[1]), label[meeting])
        return result.view(shape), label.view(shape)
