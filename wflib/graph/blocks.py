"""The neural graph of an architecture in block form: every weight tensor is a dense block of edges between two groups.

Nodes are neurons; tensors with one axis (biases) are their features. Tensors with two axes are bipartite blocks of edges,
tensors without axes (an output scale) belong to the network as a whole. After Kofinas et al., "Graph neural networks for
learning equivariant representations of neural networks" (2024), without gather or scatter: a layered network's blocks are
dense, so batched matrix products do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.architecture import Architecture, NeuronGroup, Weights, require_perceptron

__all__ = ["EdgeBlock", "GraphFeatures", "NeuralGraph", "from_blocks", "neural_graph", "to_blocks"]


@dataclass(frozen=True)
class EdgeBlock:
    """One weight tensor as edges: from every neuron of ``source`` to every neuron of ``target``."""

    tensor: str
    target: str
    source: str


@dataclass(frozen=True)
class NeuralGraph:
    """Which tensor of an architecture is what in its graph.

    Attributes:
        groups: Groups of nodes, in the architecture's order; nodes are numbered in this order.
        edges: Blocks of edges, in the architecture's order.
        node_tensors: For each group, the tensors whose one axis it is.
        scalars: Tensors without axes.
    """

    groups: tuple[NeuronGroup, ...]
    edges: tuple[EdgeBlock, ...]
    node_tensors: Mapping[str, tuple[str, ...]]
    scalars: tuple[str, ...]

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


@dataclass(frozen=True)
class GraphFeatures:
    """The weights of many networks as features of one graph.

    Attributes:
        nodes: Group name → (batch, neurons, features); features may be zero in number (input neurons).
        edges: Tensor name → (batch, targets, sources, 1).
        scalars: (batch, number of scalar tensors).
    """

    nodes: dict[str, Tensor]
    edges: dict[str, Tensor]
    scalars: Tensor


def neural_graph(architecture: Architecture) -> NeuralGraph:
    """Read the graph off the axes of an architecture's tensors.

    Raises:
        ValueError: The network is no perceptron.

    Example:
        >>> from wflib.architecture import mlp
        >>> [(block.target, block.source) for block in neural_graph(mlp([3, 5, 2])).edges]
        [('hidden1', 'input'), ('output', 'hidden1')]
    """
    require_perceptron(architecture, "neural_graph")
    edges: list[EdgeBlock] = []
    node_tensors: dict[str, list[str]] = {group.name: [] for group in architecture.groups}
    scalars: list[str] = []
    for spec in architecture.tensors:
        if len(spec.axes) == 0:
            scalars.append(spec.name)
        elif len(spec.axes) == 1:
            node_tensors[spec.axes[0]].append(spec.name)
        else:
            edges.append(EdgeBlock(spec.name, *spec.axes))
    members = {group: tuple(names) for group, names in node_tensors.items()}
    return NeuralGraph(architecture.groups, tuple(edges), members, tuple(scalars))


def to_blocks(architecture: Architecture, weights: Mapping[str, Tensor]) -> GraphFeatures:
    """Weights → features of nodes, edges and the whole network.

    Args:
        architecture: Of the networks.
        weights: Tensors of shape (batch, *shape).

    Returns:
        Their features; :func:`from_blocks` is the exact inverse.
    """
    graph = neural_graph(architecture)
    batch = weights[architecture.tensors[0].name].shape[0]
    empty = weights[architecture.tensors[0].name].new_zeros

    def stack(names: tuple[str, ...], shape: tuple[int, ...]) -> Tensor:
        return torch.stack([weights[name] for name in names], -1) if names else empty(*shape, 0)

    return GraphFeatures(
        {group.name: stack(graph.node_tensors[group.name], (batch, group.size)) for group in graph.groups},
        {block.tensor: weights[block.tensor].unsqueeze(-1) for block in graph.edges},
        stack(graph.scalars, (batch,)),
    )


def from_blocks(architecture: Architecture, features: GraphFeatures) -> Weights:
    """Features → weights, in the order of the architecture's tensors."""
    graph, weights = neural_graph(architecture), {}
    for group, names in graph.node_tensors.items():
        weights.update(zip(names, features.nodes[group].unbind(-1), strict=True))
    weights.update({block.tensor: features.edges[block.tensor].squeeze(-1) for block in graph.edges})
    weights.update(zip(graph.scalars, features.scalars.unbind(-1), strict=True))
    return {spec.name: weights[spec.name] for spec in architecture.tensors}
