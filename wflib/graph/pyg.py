"""One network as a ``torch_geometric.data.Data``, for graph networks from elsewhere, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import Data

from wflib.architecture import Architecture, Weights
from wflib.graph.blocks import GraphFeatures, from_blocks, neural_graph, to_blocks

__all__ = ["from_data", "to_data"]


def to_data(architecture: Architecture, weights: Mapping[str, Tensor], both_directions: bool = True) -> Data:
    """Export one network.

    Args:
        architecture: Of the network.
        weights: Its tensors, without a batch axis.
        both_directions: Whether every weight is also an edge from target to source, marked in ``reverse``.

    Returns:
        A graph with nodes in the order of the architecture's groups and the attributes

        - ``x`` (N, f): features, one per tensor with one axis (the bias), zero where a group has fewer than f;
        - ``node_type`` (N,): index of the group;
        - ``position`` (N,): an id per input and output neuron, one id per hidden group;
        - ``edge_index`` (2, E): source and target; ``edge_attr`` (E, 1): the weight;
        - ``edge_type`` (E,): index of the weight tensor; ``reverse`` (E,): whether the edge runs from target to source;
        - ``scalars`` (1, g): tensors without axes.
    """
    graph = neural_graph(architecture)
    features = to_blocks(architecture, {name: tensor.unsqueeze(0) for name, tensor in weights.items()})
    width = max(node.shape[-1] for node in features.nodes.values())
    nodes, node_types, positions, identity = [], [], [], 0
    for index, group in enumerate(graph.groups):
        node = features.nodes[group.name][0]
        nodes.append(torch.nn.functional.pad(node, (0, width - node.shape[-1])))
        node_types.append(torch.full((group.size,), index))
        own = torch.zeros(group.size, dtype=torch.long) if group.permutable else torch.arange(group.size)
        positions.append(identity + own)
        identity += int(own[-1]) + 1
    indices, attributes, types = [], [], []
    for index, block in enumerate(graph.edges):
        target, source = graph.place[block.target], graph.place[block.source]
        pairs = torch.cartesian_prod(torch.arange(target.start, target.stop), torch.arange(source.start, source.stop))
        indices.append(pairs.flip(1).t())
        attributes.append(features.edges[block.tensor][0].reshape(-1, 1))
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
        scalars=features.scalars,
    )


def from_data(architecture: Architecture, data: Data) -> Weights:
    """The network of a graph made by :func:`to_data`; its edges may have been reordered, its nodes not.

    Raises:
        ValueError: The number of nodes or of edges is not the architecture's.
    """
    graph = neural_graph(architecture)
    if data.num_nodes != graph.nodes:
        raise ValueError(f"from_data: expected {graph.nodes} nodes, got {data.num_nodes}.")
    nodes = {name: data.x[None, where, : len(graph.node_tensors[name])] for name, where in graph.place.items()}
    edges = {}
    for index, block in enumerate(graph.edges):
        target, source = graph.place[block.target], graph.place[block.source]
        chosen = (data.edge_type == index) & ~data.reverse
        shape = architecture.shape(block.tensor)
        if int(chosen.sum()) != shape[0] * shape[1]:
            raise ValueError(f"from_data: {block.tensor} expected {shape[0] * shape[1]} edges, got {int(chosen.sum())}.")
        tensor = data.edge_attr.new_empty(1, *shape, 1)
        columns, rows = data.edge_index[:, chosen]
        tensor[0, rows - target.start, columns - source.start] = data.edge_attr[chosen]
        edges[block.tensor] = tensor
    weights = from_blocks(architecture, GraphFeatures(nodes, edges, data.scalars))
    return {name: tensor.squeeze(0) for name, tensor in weights.items()}
