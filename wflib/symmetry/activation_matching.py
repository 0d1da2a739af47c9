"""Activation matching: permute hidden neurons so that they fire as the reference's do.

Ainsworth, Hayase and Srinivasa, "Git Re-Basin" (2023), section 3.1, for a whole zoo at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wflib.architecture import Architecture, NeuronPlaces, neuron_places
from wflib.networks import Networks, require_tensor
from wflib.symmetry.assignment import solve_families
from wflib.symmetry.permutation import Permutations

__all__ = ["activation_matching"]

ELEMENTS = 2**27
"""Activations that are held at once."""


@torch.no_grad()
def activation_matching(reference: Networks, networks: Networks, inputs: Tensor, chunk: int = 1024) -> Permutations:
    """Permutations that minimize Σ over hidden groups of ‖Z_reference − P Z‖², Z the activations over given inputs.

    Each group is one linear assignment with gains[k, j] = Σ over examples and positions of z_reference,k z_j, so the answer
    is exact and needs no start. Members of nested groups are assigned for each pair of parents, and parents by the sum of
    what they and their members gain. What counts is what weights first read of a neuron; where they read none of it (queries
    and keys of attention), the value in which it first appears.

    Args:
        reference: One network.
        networks: Those to align.
        inputs: Training inputs, (examples, *inputs); moved to the networks' device and dtype, of half precision to float32,
            as sums over examples overflow float16.
        chunk: Most networks that run at once, fewer where values are large; bounds memory.

    Returns:
        Indices per hidden group, to be applied with :func:`~wflib.symmetry.permutation.permute`.

    Raises:
        ValueError: A network holds NaN or infinity, inputs of another shape or none, or no value holds the neurons of a
            group.
    """
    expected = networks.architecture.inputs
    require_tensor("activation_matching: inputs", inputs)
    if inputs.shape[1:] != expected or not len(inputs):
        raise ValueError(
            f"Shape mismatch: activation_matching expected inputs (examples, {', '.join(map(str, expected))}) of one "
            f"example at least, got {tuple(inputs.shape)}."
        )
    precision = torch.promote_types(networks.dtype, torch.float32)
    reference, inputs = reference.to(precision), inputs.to(networks.device, precision)
    for side, name in ((networks, "weights"), (reference, "the reference")):
        side.require_finite(f"activation_matching: {name}")
    architecture = networks.architecture
    known = places_of_all(architecture)
    aims = firing(reference, inputs, known)
    held = sum(aim.numel() for aim in aims.values())
    found: dict[str, list[Tensor]] = {group.name: [] for group in architecture.hidden_groups}
    for part in networks.split(max(1, min(chunk, ELEMENTS // max(1, held)))) if found else []:
        fires = firing(part.to(precision), inputs, known)
        for name, indices in families(architecture, aims, fires, len(part)).items():
            found[name].append(indices)
    return {name: torch.cat(indices) for name, indices in found.items()}


def places_of_all(architecture: Architecture) -> dict[str, NeuronPlaces]:
    """Where the neurons of every hidden group lie; of parents only where values hold them.

    Raises:
        ValueError: No value holds the neurons of a group.
    """
    known = neuron_places(architecture.inputs, architecture.shapes, architecture.operations)
    parents = {group.parent for group in architecture.hidden_groups}
    for group in architecture.hidden_groups:
        if group.name not in known and group.name not in parents:
            raise ValueError(
                f"activation_matching: no value of the network holds the neurons of {group.name}, each in as many entries; "
                "use weight matching."
            )
    return known


def firing(networks: Networks, inputs: Tensor, known: Mapping[str, NeuronPlaces]) -> dict[str, Tensor]:
    """Activations of every group, (networks, examples, neurons, entries), nested (networks, examples, parents, …)."""
    output = networks.architecture.operations[-1].output  # always kept, as canonical networks scale it
    kept = {output, *(one.value for one in known.values())}
    values, first = networks.architecture.run(networks.weights, inputs, kept), networks[:1]
    alone: list[dict[str, Tensor]] = []
    if len(inputs) > 1 and any(windows(values[one.value], one) for one in known.values()):
        alone = [first.architecture.run(first.weights, inputs[at : at + 1 or None], kept) for at in (0, -1)]
    return {
        group: by_example(values[one.value], one, [value[one.value] for value in alone])[:, :, one.places.to(inputs.device)]
        for group, one in known.items()
    }


def example_axes(value: Tensor, known: NeuronPlaces) -> list[int]:
    """Axes of a value (networks, …) that are longer for these examples than for one."""
    return [axis for axis, (found, one) in enumerate(zip(value.shape[1:], known.shape, strict=False), 1) if found != one]


def windows(value: Tensor, known: NeuronPlaces) -> bool:
    """Whether the axis of examples counts several entries of each, as that of windows or patches does."""
    return any(known.shape[axis - 1] > 1 for axis in example_axes(value, known))


def by_example(value: Tensor, known: NeuronPlaces, alone: Sequence[Tensor] = ()) -> Tensor:
    """A value with each example's entries in a row: (networks, examples, entries).

    Args:
        value: Of all examples, (networks, …).
        known: What it is for one.
        alone: The first network's for the first example alone, and for the last. Where the axis of examples counts entries
            of each, too, they show which of both comes first.

    Raises:
        ValueError: It is not clear which axis counts examples, or how.
    """
    axes = example_axes(value, known)
    examples, rest = divmod(value.shape[axes[0]], known.shape[axes[0] - 1]) if axes else (1, 0)
    if value.ndim != len(known.shape) + 1 or len(axes) > 1 or rest:
        raise ValueError(
            f"activation_matching: {known.value} expected {known.shape} for one example with one more axis of examples, got "
            f"{tuple(value.shape[1:])}; use weight matching."
        )
    if not axes:
        return value.flatten(1).unsqueeze(1)
    (axis,) = axes
    entries = value.shape[axis] // examples
    examples_first: Tensor = value.unflatten(axis, (examples, entries)).movedim(axis, 1).flatten(2)
    if entries == 1:
        return examples_first
    entries_first: Tensor = value.unflatten(axis, (entries, examples)).movedim(axis + 1, 1).flatten(2)
    for found in (examples_first, entries_first):
        rows = zip((found[0, 0], found[0, -1]), (one.flatten() for one in alone), strict=False)
        close = [bool(((row - one).abs() <= one.abs().max() * torch.finfo(one.dtype).eps ** 0.5).all()) for row, one in rows]
        if len(close) == 2 and all(close):
            return found
    raise ValueError(
        f"activation_matching: {known.value} has {entries} entries for each example along one axis, in no order that is "
        "known; use weight matching."
    )


def families(
    architecture: Architecture, aims: Mapping[str, Tensor], fires: Mapping[str, Tensor], networks: int
) -> Permutations:
    """The best orders of all groups: each with those nested in it."""
    found: Permutations = {}
    for group in (group for group in architecture.hidden_groups if group.parent is None):
        gains = torch.zeros(networks, group.size, group.size)
        if group.name in aims:
            gains = torch.einsum("bke,nbje->nkj", aims[group.name][0], fires[group.name])
        fits = {
            child.name: torch.einsum("bpke,nbqje->npqkj", aims[child.name][0], fires[child.name])
            for child in architecture.hidden_groups
            if child.parent == group.name
        }
        found[group.name], inner = solve_families(gains, fits)
        found |= inner
    return found
