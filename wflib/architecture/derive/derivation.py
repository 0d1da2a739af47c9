"""From a network's operations to its symmetries: run integers through them, then sort out what they tied."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from wflib.architecture.derive.axes import Axis, find_axes
from wflib.architecture.derive.groups import Membership, NeuronGroup, composite_parts, find_groups
from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.scalings import Scaling, find_scalings
from wflib.architecture.derive.wires import NOBODY, ONE, Wires, mix

if TYPE_CHECKING:
    from wflib.architecture.operations.base import Operation

__all__ = ["Derivation", "derive", "group_values", "run_wires"]

READERS = ("linear", "convolution")


@dataclass(frozen=True, eq=False)
class Derivation:
    """What follows from the operations of a network.

    Attributes:
        groups: All groups: the input's, then those of neurons that may be exchanged, then the output's.
        axes: For every tensor its axes, by the names of groups where an axis counts one group and nothing else.
        scalings: Neurons that may be rescaled.
        values: For every group, the value in which weights first read it.
        matrices: Groups of a head's neurons that every invertible matrix may mix: (group, dimensions of all matrices).
    """

    groups: tuple[NeuronGroup, ...]
    axes: dict[str, tuple[Axis, ...]]
    scalings: tuple[Scaling, ...]
    values: dict[str, str]
    matrices: tuple[tuple[str, int], ...]


@lru_cache(maxsize=256)
def derive(
    inputs: tuple[int, ...], shapes: tuple[tuple[str, tuple[int, ...]], ...], operations: tuple[Operation, ...]
) -> Derivation:
    """Groups, axes and scalings of a network, looked for once.

    Args:
        inputs: Shape of one example.
        shapes: Name and shape of every parameter tensor.
        operations: In the order in which they run; the last one computes the output.
    """
    with (
        torch.no_grad(),
        torch._C._DisableFuncTorch(),
    ):  # within transforms of torch.func, tensors do not tell what they hold
        return found_in(inputs, shapes, operations)


def found_in(
    inputs: tuple[int, ...], shapes: tuple[tuple[str, tuple[int, ...]], ...], operations: tuple[Operation, ...]
) -> Derivation:
    """What follows from the operations; arguments as in :func:`derive`."""
    ledger, values = run_wires(inputs, shapes, operations)
    output = ledger.current(values[operations[-1].output])
    scalings = find_scalings(ledger)
    members = find_groups(ledger)
    axes = named_axes(find_axes(members, dict(shapes)), ledger, inputs, output)
    channels = inputs[0] if inputs else 1
    ends = NeuronGroup("input", channels, False), NeuronGroup("output", output.neuron.shape[-1], False)
    return Derivation(
        (ends[0], *members.groups, ends[1]),
        axes,
        scalings,
        group_values(members, ledger, operations[-1].output),
        mixed_groups(members, ledger),
    )


def run_wires(
    inputs: tuple[int, ...], shapes: tuple[tuple[str, tuple[int, ...]], ...], operations: tuple[Operation, ...]
) -> tuple[Ledger, dict[str, Wires]]:
    """Every value of one example as neurons, labels and scales, with what operations say of them.

    Where several that one operation made become one neuron, entries of these have labels that tell which it is. That is
    known at the end, so that all is done once more. Arguments as in :func:`derive`.
    """
    ledger = Ledger(dict(shapes))
    values = enter(ledger, inputs, operations)
    parts = composite_parts(ledger)
    if parts is None:
        return ledger, values
    ledger = Ledger(dict(shapes), parts)
    return ledger, enter(ledger, inputs, operations)


def enter(ledger: Ledger, inputs: tuple[int, ...], operations: tuple[Operation, ...]) -> dict[str, Wires]:
    """Run the operations, and enter what they say into a ledger."""
    # Inputs are nobody's, and every entry has a label of its own: nothing of theirs may be exchanged.
    start = torch.zeros(1, *inputs, dtype=torch.int64)
    label = mix(torch.arange(start.numel()), 0).view(start.shape)
    values = {"input": Wires(start + NOBODY, label, start + ONE)}
    uses = Counter(name for operation in operations for name in operation.inputs)
    for operation in operations:
        ledger.begin(operation.output)
        found = [ledger.current(values[name]) for name in operation.inputs]
        if operation.kind in READERS:
            ledger.read_first.append((operation.inputs[0], found[0].neuron.unique()))
        first = len(ledger.neurons.names)
        wires = operation.wire(ledger, found)
        if ledger.parts is not None:
            part = mix(wires.label, ledger.parts[wires.neuron])
            wires = replace(wires, label=torch.where(wires.neuron >= first, part, wires.label))
        # A parameter that several operations use is more than a factor of one of them.
        values[operation.output] = wires if uses[operation.output] == 1 else replace(wires, parameter=None)
    output = ledger.current(values[operations[-1].output])
    ledger.fix(output.neuron)
    ledger.end(output.scale)
    return values


def named_axes(
    axes: dict[str, tuple[Axis, ...]], ledger: Ledger, inputs: tuple[int, ...], output: Wires
) -> dict[str, tuple[Axis, ...]]:
    """The same axes, named after the group that they count, the input or the output, where that is all they do."""
    ends: dict[tuple[str, int], str] = {}
    last = ledger.neurons.of(output.neuron).reshape(-1, output.neuron.shape[-1])[0]
    for site in ledger.sites:
        if len(site.axes) == 1 and NOBODY not in last and torch.equal(ledger.neurons.of(site.neurons), last):
            ends[site.tensor, site.axes[0]] = "output"
    for tensor, place in first_columns(ledger):
        if inputs and ledger.shapes[tensor][place] == inputs[0]:
            ends[tensor, place] = "input"

    def named(tensor: str, place: int, axis: Axis) -> Axis:
        if axis.is_group:
            return Axis(axis.blocks[0].group, axis.size, axis.blocks)
        return Axis(ends.get((tensor, place), axis.name), axis.size, axis.blocks)

    return {tensor: tuple(named(tensor, place, axis) for place, axis in enumerate(found)) for tensor, found in axes.items()}


def first_columns(ledger: Ledger) -> list[tuple[str, int]]:
    """Tensors whose columns read nobody's values: the network's inputs."""
    return [
        (site.tensor, site.axes[0])
        for site in ledger.sites
        if len(site.axes) == 1 and len(ledger.shapes.get(site.tensor, ())) > 1 and bool((site.neurons == NOBODY).all())
    ]


def group_values(members: Membership, ledger: Ledger, output: str) -> dict[str, str]:
    """For every group the value that holds it when a weight first reads it."""
    found = {"input": "input"}
    for index, group in enumerate(members.groups):
        for value, neurons in ledger.read_first:
            if bool((members.group[ledger.neurons.of(neurons)] == index).any()):
                found[group.name] = value
                break
    return found | {"output": output}


def mixed_groups(members: Membership, ledger: Ledger) -> tuple[tuple[str, int], ...]:
    """Groups that occur in no operation but linear maps and one contraction: W_Qᵀ W_K stays for every invertible matrix."""
    found = []
    for contraction in ledger.contractions:
        left = ledger.neurons.of(contraction.left).reshape(-1, contraction.left.shape[-1]).unique(dim=0)
        indices = members.group[left].unique().tolist()
        inside = {site.tensor for site in members.sites if torch.isin(ledger.neurons.of(site.neurons), left).any()}
        plain = all(tensor in ledger.shapes or tensor == contraction.operation for tensor in inside)
        if plain and len(indices) == 1 and indices[0] >= 0:
            found.append((members.groups[indices[0]].name, left.shape[0] * left.shape[1] ** 2))
    return tuple(found)
