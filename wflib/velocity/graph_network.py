"""What velocity networks on the neural graph share: weights become nodes and edges, and are read off them again.

Input and output neurons have learned positions, hidden neurons share one per layer, so no parameter depends on a hidden
width and the network is exactly equivariant to permutations of hidden neurons.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture
from wflib.graph import GraphFeatures, neural_graph
from wflib.velocity.edge_functions import normalize_edges
from wflib.velocity.embedding import TimeEmbedding, all_fields, join

__all__ = ["GraphNetwork"]


class EdgeOutput(nn.Linear):
    """What an edge's weights get, from its normalised features."""

    def forward(self, edges: Tensor) -> Tensor:
        """(batch, targets, sources, d) → (batch, targets, sources, weights)."""
        return super().forward(normalize_edges(edges))


class GraphNetwork(nn.Module, ABC):
    """Weights and time in, a field over the weights out, by messages on the neural graph.

    Args:
        architecture: Of the coordinates it works on.
        dimension: Features of a node and of an edge, d.
        identities: Whether hidden neurons have learned positions of their own: breaks equivariance, fixes widths.
        scalars: Number of scalars besides time that the field depends on.
        fields: Number of fields over the weights besides x that it depends on.

    Raises:
        ValueError: Neurons without any edge.
    """

    def __init__(
        self, architecture: Architecture, dimension: int, identities: bool = False, scalars: int = 0, fields: int = 0
    ) -> None:
        super().__init__()
        self.architecture, self.fields, seen = architecture, fields, 1 + fields
        graph = self.graph = neural_graph(architecture)
        alone = set(graph.place) - {name for block in graph.edges for name in (block.target, block.source)}
        if alone:
            raise ValueError(f"{type(self).__name__}: nothing connects {sorted(alone)} with others; use neuron-tokens.")
        self.features = GraphFeatures(graph)
        self.time = TimeEmbedding(dimension, scalars)
        own = [1 if group.permutable and not identities else group.size for group in graph.groups]
        self.positions = nn.ParameterList([nn.Parameter(0.5 * torch.randn(size, dimension)) for size in own])
        features, whole = self.features, self.features.whole_width
        # By number, for groups whose nodes have features.
        counts = {str(index): width for index, width in enumerate(features.node_widths) if width}
        self.node_inputs = nn.ModuleDict({index: nn.Linear(seen * count, dimension) for index, count in counts.items()})
        self.node_outputs = nn.ModuleDict({index: nn.Linear(dimension, count) for index, count in counts.items()})
        # Of unit variance whatever the number of features.
        both = zip(features.edge_widths, features.constant_widths, strict=True)
        entering = [seen * width + count for width, count in both]
        spread = torch.tensor([seen / count for count in entering for _ in range(count)])[:, None].sqrt()
        self.edge_inputs = nn.Parameter(torch.randn(sum(entering), dimension) * spread)
        self.edge_positions = nn.Parameter(0.5 * torch.randn(len(graph.edges), dimension))
        self.edge_time = nn.Linear(dimension, dimension)
        self.edge_outputs = nn.ModuleList([EdgeOutput(dimension, max(width, 1)) for width in features.edge_widths])
        if whole:
            self.whole_input = nn.Linear(seen * whole, dimension)
            self.whole_output = nn.Linear(dimension, whole)
        self.norm = nn.LayerNorm(dimension, elementwise_affine=False)
        outputs = [*self.node_outputs.values(), *self.edge_outputs, *([self.whole_output] if whole else [])]
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
        whole, groups, blocks = zip(*(self.features.split(field) for field in seen), strict=True)
        nodes = []
        for index, (group, parts) in enumerate(zip(graph.groups, zip(*groups, strict=True), strict=True)):
            node = self.positions[index].expand(len(x), group.size, -1)
            if str(index) in self.node_inputs:
                node = node + self.node_inputs[str(index)](join(parts))
            if len(graph.whole) and group is graph.groups[-1]:
                node = node + self.whole_input(join(whole)).unsqueeze(1)
            nodes.append(node)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        starts, edges = (self.edge_time(time)[:, None] + self.edge_positions).to(dtype).unbind(1), []
        known = [
            join([*parts, *constants]).to(dtype)
            for parts, constants in zip(zip(*blocks, strict=True), self.features.known(x), strict=True)
        ]
        directions = self.edge_inputs.to(dtype).split([part.shape[-1] for part in known])
        for start, part, direction in zip(starts, known, directions, strict=True):
            edge = torch.baddbmm(start.unsqueeze(1), part.flatten(1, 2), direction.expand(len(x), *direction.shape))
            edges.append(edge.unflatten(1, part.shape[1:3]))
        return torch.cat(nodes, 1), edges

    @abstractmethod
    def exchange(self, nodes: Tensor, edges: list[Tensor], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All rounds of messages: nodes (batch, N, d), blocks of edges (batch, targets, sources, d), time (batch, d)."""

    def read(self, nodes: Tensor, edges: list[Tensor], x: Tensor) -> Tensor:
        """Final nodes and edges → coordinates (batch, D), in the dtype of x."""
        graph, whole, found = self.graph, x[:, :0], []
        for index, place in enumerate(graph.place.values()):
            key = str(index)
            found.append(self.node_outputs[key](nodes[:, place]).to(x.dtype) if key in self.node_outputs else x[:, :0])
        blocks = [
            output(edge)[..., :width].to(x.dtype)
            for edge, output, width in zip(edges, self.edge_outputs, self.features.edge_widths, strict=True)
        ]
        if len(graph.whole):
            whole = self.whole_output(nodes[:, graph.place[graph.groups[-1].name]].mean(1)).to(x.dtype)
        return self.features.join(whole, found, blocks)
