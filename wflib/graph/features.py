"""Between flat vectors and features of a graph's nodes, edges and the whole: two gathers, exact inverses of each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wflib.graph.neural_graph import NeuralGraph

__all__ = ["GraphFeatures"]


class GraphFeatures(nn.Module):
    """Flat vectors as features of one graph.

    Args:
        graph: Which coordinates belong to which nodes and edges.

    Attributes:
        whole_width: Features of the whole.
        node_widths: Features of a node, by group.
        edge_widths: Features of an edge, by block.
        constant_widths: Constants of an edge, by block.
    """

    places: Tensor
    order: Tensor

    def __init__(self, graph: NeuralGraph) -> None:
        super().__init__()
        parts = [graph.whole, *(group.places for group in graph.groups), *(block.places for block in graph.edges)]
        self.shapes = [tuple(part.shape) for part in parts]
        self.whole_width = len(graph.whole)
        self.node_widths = [group.places.shape[-1] for group in graph.groups]
        self.edge_widths = [block.places.shape[-1] for block in graph.edges]
        self.constant_widths = [block.constants.shape[-1] for block in graph.edges]
        self.constants = nn.Module()
        for index, block in enumerate(graph.edges):
            self.constants.register_buffer(str(index), block.constants, persistent=False)
        places = torch.cat([part.reshape(-1) for part in parts])
        held = places >= 0
        order = torch.empty(graph.dimension, dtype=torch.int64)
        order[places[held]] = torch.arange(len(places))[held]
        # Where an edge lacks a feature, it sees a zero that stands behind all coordinates.
        self.complete = bool(held.all())
        self.register_buffer("places", torch.where(held, places, graph.dimension), persistent=False)
        self.register_buffer("order", order, persistent=False)

    def split(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Flat vectors (batch, D) → features.

        Returns:
            Of the whole (batch, features), of nodes by group (batch, neurons, features), and of edges by block (batch,
            targets, sources, features).
        """
        padded = x if self.complete else torch.cat([x, x.new_zeros(len(x), 1)], 1)
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        found = padded.index_select(1, self.places).split(sizes, 1)
        whole, *rest = (part.view(len(x), *shape) for part, shape in zip(found, self.shapes, strict=True))
        return whole, rest[: len(self.node_widths)], rest[len(self.node_widths) :]

    def known(self, x: Tensor) -> list[list[Tensor]]:
        """Of each block of edges its constants for a batch (batch, targets, sources, constants), if it has any."""
        return [
            [constants.to(x).expand(len(x), *constants.shape)] if constants.shape[-1] else []
            for constants in self.constants.buffers()
        ]

    def join(self, whole: Tensor, nodes: list[Tensor], edges: list[Tensor]) -> Tensor:
        """Features as of :meth:`split` → flat vectors (batch, D); features that an edge lacks are left out."""
        return torch.cat([part.flatten(1) for part in (whole, *nodes, *edges)], 1).index_select(1, self.order)
