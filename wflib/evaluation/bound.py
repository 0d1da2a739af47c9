"""A lower bound of distances modulo permutation, for all pairs of networks at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from wflib.architecture import Axis
from wflib.networks import Networks

__all__ = ["squared_distance_bound"]

TILE, TILE_QUERIES = 2**17, 16

Cell = tuple[tuple[str, ...], list[Tensor]]
"""Groups, and both sides' entries: (networks, features), of one group (networks, neurons, features), of several (networks,
features, neurons of the first, neurons of all others)."""


@torch.no_grad()
def squared_distance_bound(queries: Networks, training: Networks) -> Tensor:
    """Lower bound of squared distances modulo permutation, for all pairs and without matching.

    Entries of each learned tensor are told apart by the groups that their places on its axes belong to. A sum over

    - entries of no group: their squared distance
    - those of one group: max(Σ_k min_j d_kj, Σ_j min_k d_kj), d_kj the squared distance of the query's neuron k to the
      training network's neuron j in all entries that belong to this group alone; every order takes a d_kj for each k and j
    - those between groups, or between neurons of one: for every place on all other axes, every copy of a neuron taken as
      such, Σ_i (σ_i − σ'_i)² of the falling singular values of a matrix whose rows and columns are in any order (von
      Neumann's trace inequality)

    Neurons of a nested group count as one group, in whatever order. Columns whose order depends on the row (members of each
    row's own parent) are sorted in every row, since no order of two rows' entries is nearer than the sorted ones.

    Args:
        queries: In any neuron order.
        training: In any neuron order, on the same device.

    Returns:
        (queries, training), the same for every order of neurons on either side; zero, up to rounding, for copies.
    """
    architecture = queries.architecture
    bound = torch.zeros(len(queries), len(training), dtype=queries.dtype, device=queries.device)
    alone: dict[str, list[list[Tensor]]] = {group.name: [] for group in architecture.hidden_groups}
    for name in (name for name, _ in architecture.shapes if name not in architecture.statistics):
        for groups, sides in cells(architecture.axes(name), [queries.weights[name], training.weights[name]]):
            if not groups:
                bound += torch.cdist(sides[0], sides[1]).square()
            elif len(groups) == 1:
                alone[groups[0]].append(sides)
            else:
                bound += torch.cdist(*(torch.linalg.svdvals(side).flatten(1) for side in sides)).square()
    for tensors in filter(None, alone.values()):
        add_assignments(bound, *(torch.cat(side, -1) for side in zip(*tensors, strict=True)))
    return bound


def cells(axes: tuple[Axis, ...], sides: list[Tensor]) -> Iterator[Cell]:
    """A tensor of both sides taken apart by the groups that its entries belong to."""
    for place, axis in enumerate(axes, 1):
        if changes_with_rows(axis):
            sides = [sorted_blocks(side, place, axis) for side in sides]
    for chosen in product(*(parts_of(axis) for axis in axes)):
        groups = tuple(group for group, _ in chosen if group is not None)
        yield groups, [taken(side, chosen) for side in sides]


def changes_with_rows(axis: Axis) -> bool:
    """Whether the order of an axis' places depends on the row."""
    return any(block.rows is not None for block in axis.blocks)


def sorted_blocks(tensor: Tensor, place: int, axis: Axis) -> Tensor:
    """The entries at all places of an axis that blocks hold, sorted."""
    held = torch.ones(axis.size, dtype=torch.bool)
    held[axis.fixed] = False
    places = held.nonzero().squeeze(1).to(tensor.device)
    return tensor.index_copy(place, places, tensor.index_select(place, places).sort(place).values)


def parts_of(axis: Axis) -> list[tuple[str | None, Tensor]]:
    """Groups on an axis with their places (neurons, copies), and None with all others (1, places)."""
    if changes_with_rows(axis):
        return [(None, torch.arange(axis.size)[None])]
    parts: list[tuple[str | None, Tensor]] = [
        (block.group, block.places.reshape(-1, block.places.shape[-1])) for block in axis.blocks
    ]
    if len(axis.fixed):
        parts.append((None, axis.fixed[None]))
    return parts


def taken(tensor: Tensor, chosen: tuple[tuple[str | None, Tensor], ...]) -> Tensor:
    """The entries of one cell, in the shape that :data:`Cell` says."""
    for place, (_, places) in reversed(list(enumerate(chosen, 1))):
        tensor = tensor.index_select(place, places.flatten().to(tensor.device)).unflatten(place, places.shape)
    # Neurons and copies of axis i now lie at 2 i − 1 and 2 i; those of no group have a neuron axis of length one.
    neurons = [2 * place - 1 for place, (group, _) in enumerate(chosen, 1) if group is not None]
    others = [axis for axis in range(1, tensor.ndim) if axis not in neurons]
    tensor = tensor.permute(0, *neurons, *others)
    tensor = tensor.reshape(*tensor.shape[: 1 + len(neurons)], -1)
    return tensor if len(neurons) < 2 else tensor.movedim(-1, 1).flatten(3)


def add_assignments(bound: Tensor, a: Tensor, b: Tensor) -> None:
    """Add the bound for all entries of one group alone, (networks, neurons, features) of both sides, to ``bound``."""
    count = len(a)
    # ‖a‖² + ‖b‖² − 2 a·b as one matrix product; neurons first, in tiles that stay in the cache.
    a = torch.cat([-2 * a, a.square().sum(-1, keepdim=True), torch.ones_like(a[..., :1])], -1).transpose(0, 1)
    b = torch.cat([b, torch.ones_like(b[..., :1]), b.square().sum(-1, keepdim=True)], -1).permute(2, 1, 0)
    pairs = max(1, TILE // len(a) ** 2)
    height = min(TILE_QUERIES, pairs, count)
    ours = [part.flatten(0, 1) for part in a.split(height, 1)]
    for theirs, columns in zip(b.split(pairs // height, 2), bound.split(pairs // height, 1), strict=True):
        theirs = theirs.flatten(1)
        for part, found in zip(ours, columns.split(height), strict=True):
            distances = (part @ theirs).view(len(a), found.shape[0], len(a), found.shape[1])
            found += torch.maximum(distances.amin(2).sum(0), distances.amin(0).sum(1))
