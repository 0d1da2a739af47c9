"""One network as a ``torch_geometric.data.Data``, for graph networks from elsewhere, and back."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from wflib.architecture import Architecture
from wflib.config import quiet_import
from wflib.graph.features import GraphFeatures
from wflib.graph.neural_graph import neural_graph
from wflib.networks import Networks

with quiet_import():
    from torch_geometric.data import Data

__all__ = ["from_data", "to_data"]


def to_data(network: Networks, both_directions: bool = True) -> Data:
    """Export one network.

    Args:
        network: One, as ``networks[3:4]``.
        both_directions: Whether every edge is there from target to source, too, marked in ``reverse``.

    Returns:
        A graph with nodes in the order of the architecture's groups and the attributes

        - ``x`` (N, f): features, such as a neuron's bias, zero where a group has fewer than f;
        - ``node_type`` (N,): index of the group;
        - ``position`` (N,): an id per input and output neuron, one id per hidden group;
        - ``edge_index`` (2, E): source and target; ``edge_attr`` (E, e): weights between the two, such as a kernel's places,
          zero where a block has fewer than e, then a block's constants;
        - ``edge_type`` (E,): index of the block of edges; ``reverse`` (E,): whether the edge runs from target to source;
        - ``whole`` (1, g): weights that belong to no neuron.

    Raises:
        ValueError: Several networks.
    """
    if len(network) != 1:
        raise ValueError(f"to_data: expected one network, got {len(network)}; choose one, as networks[:1].")
    graph = neural_graph(network.architecture)
    whole, node_features, edge_features = GraphFeatures(graph).split(network.flat)
    width = max(node.shape[-1] for node in node_features)
    nodes, node_types, positions, identity = [], [], [], 0
    for index, (group, node) in enumerate(zip(graph.groups, node_features, strict=True)):
        nodes.append(pad(node[0], (0, width - node.shape[-1])))
        node_types.append(torch.full((group.size,), index))
        own = torch.zeros(group.size, dtype=torch.long) if group.permutable else torch.arange(group.size)
        positions.append(identity + own)
        identity += int(own[-1]) + 1
    indices, attributes, types = [], [], []
    width = max(edge.shape[-1] + block.constants.shape[-1] for edge, block in zip(edge_features, graph.edges, strict=True))
    for index, (block, edge) in enumerate(zip(graph.edges, edge_features, strict=True)):
        target, source = graph.place[block.target], graph.place[block.source]
        pairs = torch.cartesian_prod(torch.arange(target.start, target.stop), torch.arange(source.start, source.stop))
        indices.append(pairs.flip(1).t())
        known = torch.cat([edge[0], block.constants.to(edge)], -1).flatten(0, 1)
        attributes.append(pad(known, (0, width - known.shape[-1])))
        types.append(torch.full((len(pairs),), index))
    edge_index, edge_attr, edge_type = torch.cat(indices, 1), torch.cat(attributes), torch.cat(types)
    reverse = torch.zeros(len(edge_type), dtype=torch.bool)
    if both_directions:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], 1)
        edge_attr, edge_type = edge_attr.repeat(2, 1), edge_type.repeat(2)
        reverse = torch.cat([reverse, ~reverse])
    return Data(
        x=torch.cat(nodes),
        edge_index=edge_index,
        edge_attr=edge_attr,
        node_type=torch.cat(node_types),
        position=torch.cat(positions),
        edge_type=edge_type,
        reverse=reverse,
        whole=whole,
    )


def from_data(architecture: Architecture, data: Data) -> Networks:
    """The network of a graph made by :func:`to_data`; its edges may have been reordered, its nodes not.

    Raises:
        ValueError: The number of nodes or of edges is not the architecture's.
    """
    graph = neural_graph(architecture)
    if data.num_nodes != graph.nodes:
        raise ValueError(f"from_data: expected {graph.nodes} nodes, got {data.num_nodes}.")
    nodes = [data.x[None, graph.place[group.name], : group.places.shape[1]] for group in graph.groups]
    edges = []
    for index, block in enumerate(graph.edges):
        target, source = graph.place[block.target], graph.place[block.source]
        chosen = (data.edge_type == index) & ~data.reverse
        targets, sources, features = block.places.shape
        if int(chosen.sum()) != targets * sources:
            raise ValueError(
                f"from_data: {block.target} from {block.source} expected {targets * sources} edges, got {int(chosen.sum())}."
            )
        block_features = data.edge_attr.new_empty(1, targets, sources, features)
        columns, rows = data.edge_index[:, chosen]
        block_features[0, rows - target.start, columns - source.start] = data.edge_attr[chosen, :features]
        edges.append(block_features)
    return Networks.from_flat(architecture, GraphFeatures(graph).join(data.whole, nodes, edges))
