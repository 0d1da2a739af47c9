"""Matrices in place of permutations: neurons become weighted sums of the neurons of their group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from wflib.architecture import Axis
from wflib.networks import Networks
from wflib.symmetry.permutation import columns_within, take_columns

__all__ = ["mix"]


def mix(networks: Networks, matrices: Mapping[str, Tensor]) -> Networks:
    """Apply a matrix per hidden group: W_l ← P_l W_l P_{l−1}ᵀ, b_l ← P_l b_l. For permutation matrices this permutes.

    Every copy of a neuron (positions that were flattened) is mixed alike, and running statistics like learned weights.
    Members of nested groups are mixed with those of other parents as the parents are, and then among themselves.

    Args:
        networks: Of any kind; their operations say which places of which tensor belong to which neurons.
        matrices: Hidden group → (networks, neurons, neurons); row k says what neuron k is made of. Nested groups →
            (networks, parents, neurons, neurons), what member k of a place for parents is made of.

    Returns:
        The mixed networks; differentiable.

    Raises:
        ValueError: A group is unknown, or its matrices have the wrong shape.
    """
    architecture = networks.architecture
    groups = {group.name: group for group in architecture.hidden_groups}
    for name, matrix in matrices.items():
        if name not in groups:
            raise ValueError(f"mix: {name!r} is no hidden group; hidden groups are {sorted(groups)}.")
        size, parent = groups[name].size, groups[name].parent
        expected = (len(networks), *(() if parent is None else (architecture.size(parent),)), size, size)
        if tuple(matrix.shape) != expected:
            raise ValueError(f"Shape mismatch: {name} expected matrices {expected}, got {tuple(matrix.shape)}.")
    parents = {name: group.parent for name, group in groups.items() if group.parent is not None}
    mixed = {}
    for name, _ in architecture.shapes:
        tensor, axes = networks.weights[name], architecture.axes(name)
        # Rows that are mixed must hold the same members in the same columns.
        tensor = within_columns(tensor, axes, straighten=True)
        for place, axis in enumerate(axes, 1):
            tensor = mix_axis(tensor, place, axis, matrices, parents)
        mixed[name] = within_columns(tensor, axes, straighten=False)
    return networks.with_weights(mixed)


def mix_axis(tensor: Tensor, place: int, axis: Axis, matrices: Mapping[str, Tensor], parents: Mapping[str, str]) -> Tensor:
    """One axis of a tensor (networks, *shape), mixed block by block."""
    if axis.name in matrices:
        return apply(matrices[axis.name], tensor, place)
    for block in axis.blocks:
        inner, outer = matrices.get(block.group), matrices.get(parents.get(block.group, ""))
        if block.rows is not None:
            if inner is not None:
                tensor = mix_within(tensor, place, block.places[0], block.rows, inner)
            continue
        if inner is None and outer is None:
            continue
        places = block.places.to(tensor.device)
        part = tensor.index_select(place, places.flatten()).unflatten(place, places.shape)
        if outer is not None:
            part = apply(outer, part, place)
        if inner is not None:
            part = apply(inner, part, place)
        tensor = tensor.index_copy(place, places.flatten(), part.flatten(place, place + places.ndim - 1))
    return tensor


def apply(matrix: Tensor, tensor: Tensor, place: int) -> Tensor:
    """A matrix (networks, …, n, n) along the axes from ``place`` on of a tensor, whose last it mixes."""
    count = matrix.ndim - 2
    front = tensor.movedim(tuple(range(place, place + count)), tuple(range(1, 1 + count)))
    product = matrix @ front.reshape(*front.shape[: 1 + count], -1)
    return product.view(front.shape).movedim(tuple(range(1, 1 + count)), tuple(range(place, place + count)))


def mix_within(tensor: Tensor, place: int, places: Tensor, owners: Tensor, matrix: Tensor) -> Tensor:
    """Columns that belong to members of each row's own parent, all rows with the columns of the first set."""
    places, rows = places.to(tensor.device), (owners >= 0).nonzero().squeeze(1).to(tensor.device)
    matrix = matrix[:, owners.to(tensor.device)[rows]] if matrix.ndim > 3 else matrix.unsqueeze(1)
    part = tensor.index_select(1, rows).index_select(place, places.flatten()).unflatten(place, places.shape)
    part = part.movedim(place, 2)
    product = (matrix @ part.reshape(*part.shape[:3], -1)).view(part.shape).movedim(2, place)
    columns = tensor.index_select(1, rows).index_copy(place, places.flatten(), product.flatten(place, place + 1))
    return tensor.index_copy(1, rows, columns)


def within_columns(tensor: Tensor, axes: tuple[Axis, ...], straighten: bool) -> Tensor:
    """Columns of each row's own parent moved to where those of the first parent are, or back."""
    for place, axis in enumerate(axes, 1):
        blocks = [block for block in axis.blocks if block.rows is not None]
        if all(bool((block.places == block.places[0]).all()) for block in blocks):
            continue
        # The other way round, every place of a first set takes what stands at that place of the row's own.
        first = [replace(block, places=block.places[:1].expand_as(block.places)) for block in blocks]
        index = columns_within(first, [block.places[None] for block in blocks], tensor.shape[1], axis.size)
        tensor = take_columns(tensor, place, index if straighten else index.argsort(2))
    return tensor
