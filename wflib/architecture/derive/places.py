"""Where in a network's values the neurons of its groups lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wflib.architecture.derive.axes import in_order
from wflib.architecture.derive.derivation import group_values, run_wires
from wflib.architecture.derive.groups import Membership, find_groups
from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import Wires

if TYPE_CHECKING:
    from wflib.architecture.operations.base import Operation

__all__ = ["NeuronPlaces", "neuron_places"]


@dataclass(frozen=True, eq=False)
class NeuronPlaces:
    """Which entries of a value belong to which neurons of a group.

    Attributes:
        value: Name of the value.
        shape: Its shape for one example, the axis of examples included.
        places: (neurons, entries), in a nested group (parents, neurons, entries): places in the flattened value of one
            example. A neuron has an entry for each position, and entries in one column are the same of every neuron.
    """

    value: str
    shape: tuple[int, ...]
    places: Tensor


@lru_cache(maxsize=32)
def neuron_places(
    inputs: tuple[int, ...], shapes: tuple[tuple[str, tuple[int, ...]], ...], operations: tuple[Operation, ...]
) -> dict[str, NeuronPlaces]:
    """For every hidden group the value in which weights first read it, or, where none does, in which it first appears.

    Args:
        inputs: Shape of one example.
        shapes: Name and shape of every parameter tensor.
        operations: In the order in which they run; the last one computes the output.

    Returns:
        Group → where it lies. Groups that no value holds by themselves are missing: those of channels have members only.
    """
    with torch.no_grad(), torch._C._DisableFuncTorch():
        ledger, values = run_wires(inputs, shapes, operations)
        members = find_groups(ledger)
        computed = depending_on_inputs(operations)
        read = group_values(members, ledger, operations[-1].output)
        found = {}
        for index, group in enumerate(members.groups):
            for name in (*([read[group.name]] if group.name in read else ()), *computed):
                places = places_in(members, ledger, values[name], index)
                if places is not None:
                    found[group.name] = NeuronPlaces(name, tuple(values[name].neuron.shape), places)
                    break
        return found


def depending_on_inputs(operations: tuple[Operation, ...]) -> list[str]:
    """Names of values that differ between examples, in the order of the network."""
    found = ["input"]
    for operation in operations:
        if any(name in found for name in operation.inputs):
            found.append(operation.output)
    return found[1:]


def places_in(members: Membership, ledger: Ledger, wires: Wires, index: int) -> Tensor | None:
    """Places of a group's neurons in a value; None unless it holds all of them, with the same entries of each."""
    group, neurons = members.groups[index], ledger.neurons.of(wires.neuron).reshape(-1)
    places = (members.group[neurons] == index).nonzero().squeeze(1)
    if len(places) == 0:
        return None
    owners, labels = neurons[places], wires.label.reshape(-1)[places]
    parent, member = members.parent[owners], members.member[owners]
    sets = 1 if group.parent is None else int(members.parent[members.group == index].max()) + 1
    if len(places) % (sets * group.size):
        return None
    order = in_order(parent, member, labels)
    whose, labels = ((side[order]).view(sets * group.size, -1) for side in (parent * group.size + member, labels))
    if bool((whose != torch.arange(sets * group.size)[:, None]).any() or (labels != labels[:1]).any()):
        return None
    return places[order].view(*(() if group.parent is None else (sets,)), group.size, -1)
