"""Permutations of hidden neurons: the group that a network's operations leave free, acting on whole zoos.

A permutation is stored as indices: neuron k of the permuted network is neuron ``permutation[k]`` of the original one. A
nested group (widths of attention heads, members of groups of channels) has indices for each neuron of its parent: member k
of parent p is member ``permutation[p, k]`` of the parent that ``parent[p]`` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wflib.architecture import Architecture, Axis, Block, NeuronGroup, TensorSpec
from wflib.networks import Networks

__all__ = ["Permutations", "compose", "identity", "inverse", "permute", "random_permutations"]

Permutations = dict[str, Tensor]
"""Hidden group name → indices of shape (networks, neurons), for a nested group (networks, parents, neurons)."""


def places(architecture: Architecture, group: NeuronGroup) -> tuple[int, ...]:
    """Shape of one network's indices of a group."""
    return (group.size,) if group.parent is None else (architecture.size(group.parent), group.size)


def identity(architecture: Architecture, networks: int) -> Permutations:
    """The permutation that changes nothing."""
    return {
        group.name: torch.arange(group.size).expand(networks, *places(architecture, group)).clone()
        for group in architecture.hidden_groups
    }


def random_permutations(architecture: Architecture, networks: int, generator: torch.Generator) -> Permutations:
    """Uniformly random permutations, independent over networks and groups."""
    there, found = generator.device, {}
    for group in architecture.hidden_groups:
        drawn = torch.rand(networks, *places(architecture, group), generator=generator, device=there)
        found[group.name] = drawn.cpu().argsort(-1)
    return found


def compose(second: Permutations, first: Permutations, architecture: Architecture | None = None) -> Permutations:
    """The permutation that acts like ``first``, then ``second``; nested groups need the architecture.

    Raises:
        ValueError: There are nested groups, but no architecture that names their parents.
    """
    parents = parent_names(first, architecture, "compose")
    composed = {}
    for name, indices in first.items():
        if name in parents:
            indices = of_parents(indices, second.get(parents[name]))
        composed[name] = indices.gather(-1, second[name])
    return composed


def inverse(permutations: Permutations, architecture: Architecture | None = None) -> Permutations:
    """The permutation that undoes another one; nested groups need the architecture.

    Raises:
        ValueError: There are nested groups, but no architecture that names their parents.
    """
    parents = parent_names(permutations, architecture, "inverse")
    undone = {name: indices.argsort(-1) for name, indices in permutations.items()}
    return {
        name: of_parents(indices, undone.get(parents[name])) if name in parents else indices
        for name, indices in undone.items()
    }


def parent_names(permutations: Permutations, architecture: Architecture | None, caller: str) -> dict[str, str]:
    """Nested group → its parent."""
    if architecture is None:
        nested = [name for name, indices in permutations.items() if indices.ndim > 2]
        if nested:
            raise ValueError(f"{caller}: {nested} move along with their parents; pass the architecture, which names them.")
        return {}
    return {group.name: group.parent for group in architecture.hidden_groups if group.parent is not None}


def of_parents(members: Tensor, parent: Tensor | None) -> Tensor:
    """What stands at (network, parent[p], …) for every p: (networks, parents, …)."""
    if parent is None:
        return members
    index = parent.to(members.device).view(*parent.shape, *(1 for _ in members.shape[2:]))
    return members.gather(1, index.expand(*parent.shape, *members.shape[2:]))


def permute(networks: Networks, permutations: Permutations) -> Networks:
    """Reorder hidden neurons: W_l ← P_l W_l P_{l-1}ᵀ, b_l ← P_l b_l. The function of every network stays the same.

    Args:
        networks: Of any kind; their operations say which places of which tensor belong to which neurons.
        permutations: Indices per group; groups that are not named keep their order.

    Returns:
        The same networks in another order of neurons.

    Raises:
        ValueError: A group is unknown or not permutable, or its indices have the wrong shape or are no permutation.
    """
    architecture = networks.architecture
    hidden = {group.name: group for group in architecture.hidden_groups}
    for name, indices in permutations.items():
        if name not in hidden:
            raise ValueError(f"permute: {name!r} is no hidden group; hidden groups are {sorted(hidden)}.")
        expected = (len(networks), *places(architecture, hidden[name]))
        if tuple(indices.shape) != expected:
            raise ValueError(f"Shape mismatch: {name} expected {expected}, got {tuple(indices.shape)}.")
        if not bool((indices.sort(-1).values == torch.arange(expected[-1], device=indices.device)).all()):
            raise ValueError(f"permute: the indices of {name} are no permutation; they must name each neuron once.")
    parents = {name: group.parent for name, group in hidden.items() if group.parent is not None}
    permuted = {}
    for name, _ in architecture.shapes:
        tensor = networks.weights[name]
        for place, axis in enumerate(architecture.axes(name), 1):
            tensor = permute_axis(tensor, place, axis, permutations, parents)
        permuted[name] = tensor
    return networks.with_weights(permuted)


def permute_tensor(spec: TensorSpec, tensor: Tensor, permutations: Permutations) -> Tensor:
    """One tensor (networks, *shape) in the order of neurons that :func:`permute` brings it to, unchecked.

    For tensors whose axes each count one group, or nothing that is permuted.
    """
    for axis, group in enumerate(spec.axes, 1):
        if group in permutations:
            tensor = take_neurons(tensor, axis, permutations[group])
    return tensor


def permute_axis(tensor: Tensor, place: int, axis: Axis, permutations: Permutations, parents: Mapping[str, str]) -> Tensor:
    """One axis of any kind in its new order."""
    if axis.name in permutations:
        return take_neurons(tensor, place, permutations[axis.name])
    moved = [block for block in axis.blocks if block.group in permutations or parents.get(block.group) in permutations]
    plain = [block for block in moved if block.rows is None]
    if plain:
        index = torch.arange(axis.size).repeat(len(tensor), 1)  # where blocks' places are, whatever the tensor's device
        for block in plain:
            sources = sources_of(block, permutations, parents, len(tensor))
            index.scatter_(1, block.places.reshape(1, -1).expand(len(tensor), -1), sources.flatten(1))
        tensor = take_neurons(tensor, place, index)
    within = [block for block in moved if block.rows is not None]
    if within:
        taken = [sources_of(block, permutations, parents, len(tensor)) for block in within]
        tensor = take_columns(tensor, place, columns_within(within, taken, tensor.shape[1], axis.size))
    return tensor


def sources_of(block: Block, permutations: Permutations, parents: Mapping[str, str], networks: int) -> Tensor:
    """Which place takes each place's part: (networks, *places.shape)."""
    places, members = block.places, permutations.get(block.group)
    sources = places.expand(networks, *places.shape)
    if block.group in parents:
        sources = of_parents(sources, permutations.get(parents[block.group]))
    elif block.rows is not None and members is not None:
        members = members.unsqueeze(1)
    if members is None:
        return sources
    axis = sources.ndim - 2
    return sources.gather(axis, members.to(sources.device).unsqueeze(-1).expand(sources.shape))


def columns_within(blocks: Sequence[Block], sources: Sequence[Tensor], rows: int, size: int) -> Tensor:
    """Which column takes each column's part where that depends on the row: (networks, rows, size), a permutation each.

    Columns that no block holds, as those of zeros, take the parts that are left, in their order.

    Args:
        blocks: Members of each row's own parent.
        sources: Which column takes the part of each of a block's places: (networks, *places.shape).
        rows: Length of axis 0.
        size: Number of columns.
    """
    index = torch.full((len(sources[0]), rows, size), -1)
    for block, source in zip(blocks, sources, strict=True):
        assert block.rows is not None
        here = (block.rows >= 0).nonzero().squeeze(1)
        sets = block.rows[here]
        places = block.places[sets].flatten(1).expand(len(index), -1, -1)
        index[:, here] = index[:, here].scatter(2, places, source[:, sets].flatten(2))
    free = index < 0
    taken = torch.zeros(*index.shape[:2], size + 1, dtype=torch.bool).scatter(2, index.masked_fill(free, size), True)
    to, left = (side.long().argsort(stable=True, dim=2) for side in (~free, taken[..., :size]))
    filled = torch.arange(size) < free.sum(2, keepdim=True)
    return index.scatter(2, to, torch.where(filled, left, index.gather(2, to)))


def take_columns(tensor: Tensor, place: int, index: Tensor) -> Tensor:
    """Columns along an axis of a batched tensor in an order of their own in every row, (networks, rows, columns)."""
    shape = [1] * tensor.ndim
    shape[:2], shape[place] = index.shape[:2], index.shape[2]
    return tensor.gather(place, index.to(tensor.device).view(shape).expand(tensor.shape))


def take_neurons(tensor: Tensor, axis: int, indices: Tensor) -> Tensor:
    """Reorder one axis of a batched tensor, by other indices in every network."""
    shape = [1] * tensor.ndim
    shape[0], shape[axis] = indices.shape
    expanded = list(tensor.shape)
    expanded[axis] = indices.shape[1]
    return tensor.gather(axis, indices.to(tensor.device).view(shape).expand(expanded))
