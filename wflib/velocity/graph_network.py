"""What velocity networks on the neural graph share: weights become nodes and edges, and are read off them again.

Input and output neurons have learned positions, hidden neurons share one per layer, so no parameter depends on a hidden
width and the network is exactly equivariant to permutations of hidden neurons.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture
from wflib.graph.blocks import GraphFeatures, from_blocks, neural_graph, to_blocks
from wflib.velocity.edge_functions import normalize_edges
from wflib.velocity.embedding import TimeEmbedding, all_fields

__all__ = ["GraphNetwork"]


class EdgeOutput(nn.Linear):
    """One number per edge from its normalised features."""

    def forward(self, edges: Tensor) -> Tensor:
        """(batch, targets, sources, d) → (batch, targets, sources, 1)."""
        return super().forward(normalize_edges(edges))


class GraphNetwork(nn.Module, ABC):
    """Weights and time in, a field over the weights out, by messages on the neural graph.

    Args:
        architecture: Of the coordinates it works on.
        dimension: Features of a node and of an edge, d.
        identities: Whether hidden neurons have learned positions of their own: breaks equivariance, fixes widths.
        scalars: Number of scalars besides time that the field depends on.
        fields: Number of fields over the weights besides x that it depends on.
    """

    def __init__(
        self, architecture: Architecture, dimension: int, identities: bool = False, scalars: int = 0, fields: int = 0
    ) -> None:
        super().__init__()
        self.architecture, self.fields = architecture, fields
        graph = self.graph = neural_graph(architecture)
        self.time = TimeEmbedding(dimension, scalars)
        self.positions = nn.ParameterDict(
            {
                group.name: nn.Parameter(
                    0.5 * torch.randn(1 if group.permutable and not identities else group.size, dimension)
                )
                for group in graph.groups
            }
        )
        features = {group: len(names) for group, names in graph.node_tensors.items() if names}
        seen = 1 + fields
        self.node_inputs = nn.ModuleDict({group: nn.Linear(seen * count, dimension) for group, count in features.items()})
        self.node_outputs = nn.ModuleDict({group: nn.Linear(dimension, count) for group, count in features.items()})
        self.edge_inputs = nn.Parameter(torch.randn(seen * len(graph.edges), dimension))
        self.edge_positions = nn.Parameter(0.5 * torch.randn(len(graph.edges), dimension))
        self.edge_time = nn.Linear(dimension, dimension)
        self.edge_outputs = nn.ModuleList([EdgeOutput(dimension, 1) for _ in graph.edges])
        if graph.scalars:
            self.scalar_input = nn.Linear(seen * len(graph.scalars), dimension)
            self.scalar_output = nn.Linear(dimension, len(graph.scalars))
        self.norm = nn.LayerNorm(dimension, elementwise_affine=False)
        outputs = [*self.node_outputs.values(), *self.edge_outputs, *([self.scalar_output] if graph.scalars else [])]
        for output in outputs:
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)

    def forward(self, x: Tensor, t: Tensor, scalars: Tensor | None = None, fields: Tensor | None = None) -> Tensor:
        """Evaluate the field.

        Under autocast all work on edges is done in its dtype, and nodes keep float32 between layers.

        Args:
            x: Coordinates of unit variance, (batch, D).
            t: Times, (batch,).
            scalars: What else the field depends on, NaN where not given, (batch, scalars).
            fields: What else is known of every weight, of unit variance, (batch, fields, D).

        Returns:
            (batch, D).
        """
        time = self.time(t, scalars)
        nodes, edges = self.embed(all_fields(x, fields, self.fields), time)
        nodes, edges = self.exchange(nodes, edges, time)
        return self.read(self.norm(nodes), edges, x)

    def embed(self, seen: tuple[Tensor, ...], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Fields over the weights, each (batch, D) → nodes (batch, N, d), edges (batch, targets, sources, d) by block."""
        graph, x = self.graph, seen[0]
        features = [to_blocks(self.architecture, self.architecture.unflatten(field)) for field in seen]
        nodes = []
        for group in graph.groups:
            node = self.positions[group.name].expand(len(x), group.size, -1)
            if group.name in self.node_inputs:
                node = node + self.node_inputs[group.name](torch.cat([part.nodes[group.name] for part in features], -1))
            if graph.scalars and group.name == graph.groups[-1].name:
                node = node + self.scalar_input(torch.cat([part.scalars for part in features], -1)).unsqueeze(1)
            nodes.append(node)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        start, edges = self.edge_time(time), []
        for index, block in enumerate(graph.edges):
            edge = (start + self.edge_positions[index]).to(dtype)[:, None, None]
            for part, direction in zip(features, self.edge_inputs[index :: len(graph.edges)], strict=True):
                edge = torch.addcmul(edge, part.edges[block.tensor].to(dtype), direction.to(dtype))
            edges.append(edge)
        return torch.cat(nodes, 1), edges

    @abstractmethod
    def exchange(self, nodes: Tensor, edges: list[Tensor], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All rounds of messages: nodes (batch, N, d), blocks of edges (batch, targets, sources, d), time (batch, d)."""

    def read(self, nodes: Tensor, edges: list[Tensor], x: Tensor) -> Tensor:
        """Final nodes and edges → coordinates (batch, D), in the dtype of x."""
        graph = self.graph
        found = {group.name: nodes[:, :0, :0] for group in graph.groups}
        for group, output in self.node_outputs.items():
            found[group] = output(nodes[:, graph.place[group]]).to(x.dtype)
        blocks = {
            block.tensor: output(edge).to(x.dtype)
            for block, edge, output in zip(graph.edges, edges, self.edge_outputs, strict=True)
        }
        scalars = x[:, :0]
        if graph.scalars:
            scalars = self.scalar_output(nodes[:, graph.place[graph.groups[-1].name]].mean(1)).to(x.dtype)
        return self.architecture.flatten(from_blocks(self.architecture, GraphFeatures(found, blocks, scalars)))
