"""The neural graph of an architecture: which coordinates of a flat vector are features of which nodes and of which edges.

Nodes are neurons. A weight that belongs to one neuron (a bias, a norm's scale, a filter's weights for a fixed input) is a
feature of its node, one that belongs to two (a filter between two channels: as many features as the kernel has places) is a
feature of an edge, one that belongs to none is a feature of the whole. After Kofinas et al., "Graph neural networks for
learning equivariant representations of neural networks" (2024), without gather or scatter: between two groups of neurons
edges are a dense block, so batched matrix products do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.architecture import Architecture, Axis, NeuronGroup

__all__ = ["EdgeBlock", "NeuralGraph", "NodeGroup", "neural_graph"]


@dataclass(frozen=True, eq=False)
class NodeGroup:
    """Neurons of one group; those of a nested group stand parent by parent.

    Attributes:
        name: The group's.
        permutable: Whether the neurons have no order of their own.
        places: Flat coordinates that are a neuron's features, (neurons, features).
    """

    name: str
    permutable: bool
    places: Tensor

    @property
    def size(self) -> int:
        """Number of neurons."""
        return len(self.places)


@dataclass(frozen=True, eq=False)
class EdgeBlock:
    """All that lies between two groups of neurons, from every neuron of ``source`` to every neuron of ``target``.

    Attributes:
        target: Name of a group.
        source: Name of a group, the same one where neurons of a group are connected with each other.
        places: Flat coordinates that are an edge's features, (targets, sources, features), −1 for those it lacks.
        constants: What tells an edge from others whatever the weights are: whether a neuron of a nested group is one of a
            parent's. (targets, sources, 0 or 1).
    """

    target: str
    source: str
    places: Tensor
    constants: Tensor


@dataclass(frozen=True, eq=False)
class NeuralGraph:
    """Nodes, edges, and what belongs to neither.

    Attributes:
        groups: Groups of nodes that some weight belongs to, in the architecture's order; nodes are numbered in this order.
        edges: Blocks of edges, one for each pair of groups, in the order of the architecture's tensors.
        whole: Flat coordinates that belong to no node, (features,).
        dimension: Number of flat coordinates, D.
    """

    groups: tuple[NodeGroup, ...]
    edges: tuple[EdgeBlock, ...]
    whole: Tensor
    dimension: int

    @property
    def place(self) -> dict[str, slice]:
        """Where each group's nodes lie among all nodes."""
        found, offset = {}, 0
        for group in self.groups:
            found[group.name] = slice(offset, offset + group.size)
            offset += group.size
        return found

    @property
    def nodes(self) -> int:
        """Number of nodes, N."""
        return sum(group.size for group in self.groups)


@dataclass(frozen=True, eq=False)
class Owners:
    """Whose each coordinate of one tensor is along one of its axes.

    Attributes:
        node: Number of the node, −1 for nobody's, broadcast to the tensor's shape.
        role: Which of its node's places, or which fixed place, broadcast to the tensor's shape.
    """

    node: Tensor
    role: Tensor


def neural_graph(architecture: Architecture, ends: bool = True) -> NeuralGraph:
    """Read the graph off the axes of an architecture's tensors.

    Args:
        architecture: What a network is.
        ends: Whether inputs and outputs are nodes, too; otherwise what belongs to one of them and a hidden neuron is a
            feature of the neuron.

    Raises:
        ValueError: A weight belongs to more than two neurons, or neurons have unequally many weights.

    Example:
        >>> from wflib.architecture import mlp
        >>> [(block.target, block.source) for block in neural_graph(mlp([3, 5, 2])).edges]
        [('hidden1', 'input'), ('output', 'hidden1')]
    """
    chosen = [group for group in architecture.groups if ends or group.permutable]
    counts = [group.size * (architecture.size(group.parent) if group.parent else 1) for group in chosen]
    starts = {group.name: sum(counts[:index]) for index, group in enumerate(chosen)}
    total = sum(counts)
    group_of = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor(counts, dtype=torch.int64))
    node_features: list[list[Tensor]] = [[] for _ in chosen]
    edge_features: dict[tuple[int, int], list[Tensor]] = {}
    whole = []
    for name, shape in architecture.shapes:
        owners = [owners_along(axis, place, shape, starts) for place, axis in enumerate(architecture.axes(name))]
        for groups, found in pieces(name, owners, architecture.slices[name].start, shape, group_of, total):
            if not groups:
                whole.append(found)
            elif len(groups) == 1:
                node_features[groups[0]].append(table(name, found, [starts[chosen[groups[0]].name]], [counts[groups[0]]]))
            else:
                target, source = groups
                offsets = [starts[chosen[index].name] for index in groups]
                block = table(name, found, offsets, [counts[index] for index in groups])
                if (source, target) in edge_features and source != target:
                    edge_features[source, target].append(block.transpose(0, 1))
                else:
                    edge_features.setdefault((target, source), []).append(block)
    names = [group.name for group in chosen]
    for index, group in enumerate(chosen):
        if group.parent is not None:
            edge_features.setdefault(memberships(edge_features, names.index(group.parent), index), [])
    connected = {index for pair in edge_features for index in pair}
    nodes = tuple(
        NodeGroup(group.name, group.permutable, torch.cat(found, 1) if found else torch.empty(count, 0, dtype=torch.int64))
        for index, (group, count, found) in enumerate(zip(chosen, counts, node_features, strict=True))
        if found or index in connected
    )
    edges = tuple(
        edge_block(chosen[target], chosen[source], counts[target], counts[source], found)
        for (target, source), found in edge_features.items()
    )
    rest = torch.cat(whole) if whole else torch.empty(0, dtype=torch.int64)
    return NeuralGraph(nodes, edges, rest, architecture.dimension)


def memberships(known: dict[tuple[int, int], list[Tensor]], parent: int, child: int) -> tuple[int, int]:
    """The pair of groups between which a parent meets its members."""
    return (child, parent) if (child, parent) in known else (parent, child)


def edge_block(target: NeuronGroup, source: NeuronGroup, targets: int, sources: int, found: list[Tensor]) -> EdgeBlock:
    """A block of edges with all features of its tensors; a nested group's and its parent's knows who belongs to whom."""
    constants = torch.zeros(targets, sources, 0)
    if target.name == source.parent or source.name == target.parent:
        members = max(targets, sources) // min(targets, sources)
        constants = (torch.arange(targets)[:, None] // (members if targets > sources else 1)) == (
            torch.arange(sources) // (members if sources > targets else 1)
        )
        constants = constants.float().unsqueeze(-1)
    places = torch.cat(found, -1) if found else torch.empty(targets, sources, 0, dtype=torch.int64)
    return EdgeBlock(target.name, source.name, places, constants)


def owners_along(axis: Axis, place: int, shape: tuple[int, ...], starts: dict[str, int]) -> Owners:
    """Who owns the places of one axis, in the tensor's shape up to broadcasting."""
    view = [axis.size if other == place else 1 for other in range(len(shape))]
    role = torch.arange(axis.size)
    if axis.name in starts and not axis.blocks:
        return Owners((starts[axis.name] + role).view(view), torch.zeros(view, dtype=torch.int64))
    node = torch.full((axis.size,), -1)
    for block in axis.blocks:
        if block.rows is None:
            places = block.places.reshape(-1, block.places.shape[-1])
            node[places], role[places] = numbers(places, starts[block.group])
    node, role = node.view(view), role.view(view)
    for block in axis.blocks:
        if block.rows is None:
            continue
        nodes, roles = torch.full((len(block.places), axis.size), -1), torch.zeros(len(block.places), axis.size).long()
        nested = block.places.flatten(0, 1)
        own, copies = (part.view(block.places.shape) for part in numbers(nested, starts[block.group]))
        nodes.scatter_(1, block.places.flatten(1), own.flatten(1))
        roles.scatter_(1, block.places.flatten(1), copies.flatten(1))
        across = [len(block.rows) if other == 0 else size for other, size in enumerate(view)]
        rows = block.rows.clamp_min(0)
        mine = (nodes[rows] >= 0) & (block.rows >= 0)[:, None]
        node = torch.where(mine.view(across), nodes[rows].view(across), node)
        role = torch.where(mine.view(across), roles[rows].view(across), role)
    return Owners(node, role)


def numbers(places: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Node and role of each place (nodes, copies)."""
    count, copies = places.shape
    node = (start + torch.arange(count))[:, None].expand(count, copies)
    return node, torch.arange(copies).expand(count, copies)


def pieces(
    name: str, owners: list[Owners], start: int, shape: tuple[int, ...], group_of: Tensor, nodes: int
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """The coordinates of one tensor by the groups that they belong to.

    Yields:
        Indices of no, one or two groups, and a table (coordinates, 1 + groups) of flat places, sorted by nodes and roles,
        with their nodes behind; for no group flat places alone.

    Raises:
        ValueError: Some belong to more than two neurons.
    """
    flat = start + torch.arange(max(1, torch.Size(shape).numel()))
    node, role = (
        torch.stack([getattr(one, part).expand(shape).reshape(-1) for one in owners], 1)
        if owners
        else torch.empty(len(flat), 0, dtype=torch.int64)
        for part in ("node", "role")
    )
    order = torch.arange(len(flat))
    for key in reversed([*node.unbind(1), *role.unbind(1)]):
        order = order[key[order].argsort(stable=True)]
    flat, node = flat[order], node[order]
    owned = node >= 0
    patterns = torch.where(owned, group_of[node.clamp_min(0)] if nodes else node, -1)
    for pattern in patterns.unique(dim=0) if patterns.shape[1] else patterns[:1]:
        here = (patterns == pattern).all(1)
        axes = (pattern >= 0).nonzero().squeeze(1)
        if len(axes) > 2:
            raise ValueError(f"neural_graph: a weight of {name} belongs to {len(axes)} neurons; at most two have an edge.")
        groups = tuple(pattern[axes].tolist())
        yield groups, torch.cat([flat[here, None], node[here][:, axes]], 1) if groups else flat[here]


def table(name: str, found: Tensor, offsets: list[int], sizes: list[int]) -> Tensor:
    """Places by node, or by target and source: (*sizes, features), −1 where there is none.

    Raises:
        ValueError: Some have more than others.
    """
    owner = found.new_zeros(len(found))
    for column, (offset, size) in enumerate(zip(offsets, sizes, strict=True), 1):
        owner = owner * size + found[:, column] - offset
    total = torch.Size(sizes).numel()
    counts = torch.bincount(owner, minlength=total)
    features = int(counts.max())
    if not bool(((counts == features) | (counts == 0)).all()):
        raise ValueError(f"neural_graph: neurons have unequally many weights of {name}.")
    order = owner.argsort(stable=True)
    result = found.new_full((total, features), -1)
    result[counts > 0] = found[order, 0].view(-1, features)
    return result.view(*sizes, features)
