"""Principal neighbourhood aggregation on the neural graph, with updates of the edges.

Corso, Cavalleri, Beaini, Liò and Veličković, "Principal neighbourhood aggregation for graph nets" (2020), by PyTorch
Geometric's convolution, on the graph that :func:`wflib.graph.pyg.to_data` exports: every weight is an edge in both
directions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import PNAConv
from torch_geometric.utils import degree

from wflib.architecture import Architecture
from wflib.graph.pyg import to_data
from wflib.velocity.edge_functions import normalize_edges
from wflib.velocity.graph_network import GraphNetwork

__all__ = ["PNA"]

AGGREGATORS = ["mean", "min", "max", "std"]
SCALERS = ["identity", "amplification", "attenuation"]


class PNALayer(nn.Module):
    """A convolution that updates nodes, then an update of every edge from both its ends; time by adaptive norms.

    Args:
        dimension: Features of a node and of an edge, d.
        towers: Groups of features that are convolved apart; they divide d.
        degrees: Histogram of the nodes' degrees.
    """

    def __init__(self, dimension: int, towers: int, degrees: Tensor) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension, elementwise_affine=False)
        self.modulation = nn.Linear(dimension, 4 * dimension)
        self.direction = nn.Parameter(0.5 * torch.randn(dimension))
        self.convolution = PNAConv(
            dimension, dimension, AGGREGATORS, SCALERS, degrees, dimension, towers, divide_input=True, act="gelu"
        )
        self.edge_input = nn.Linear(dimension, dimension)
        self.update_target = nn.Linear(dimension, dimension, bias=False)
        self.update_source = nn.Linear(dimension, dimension, bias=False)
        self.edge_output = nn.Linear(dimension, dimension)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, nodes: Tensor, edges: Tensor, time: Tensor, ends: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """One round of messages.

        Args:
            nodes: (batch, N, d).
            edges: (batch, E, d), one per weight.
            time: (batch, d).
            ends: Sources and targets of the edges among N nodes, (2, E).
            index: Sources and targets of both directions among all nodes of the batch, (2, batch · 2 E).

        Returns:
            New nodes and edges of the same shapes.
        """
        shift, scale, gate, edge_scale = self.modulation(time).unsqueeze(1).chunk(4, -1)
        carried = normalize_edges(edges) * (1 + edge_scale)
        both = torch.cat([carried, carried + self.direction], 1)
        normed = self.norm(nodes) * (1 + scale) + shift
        nodes = nodes + (1 + gate) * self.convolution(normed.flatten(0, 1), index, both.flatten(0, 1)).view(nodes.shape)
        found = self.norm(nodes)
        source, target = self.update_source(found)[:, ends[0]], self.update_target(found)[:, ends[1]]
        return nodes, edges + self.edge_output(functional.gelu(self.edge_input(carried) + source + target))


class PNA(GraphNetwork):
    """Weights and time in, a field over the weights out; equivariant to permutations of hidden neurons.

    The degree scalers compare a neuron's degree with the mean over the graph the network was built for. That mean is a
    buffer of the state: at another width, the trained one serves, as the parameters expect.

    Args:
        architecture: Of the coordinates it works on.
        dimension: Features of a node and of an edge, d.
        layers: Rounds of messages.
        towers: Groups of features that are convolved apart.
        identities: Whether hidden neurons have learned positions of their own: breaks equivariance, fixes widths.
        scalars: Number of scalars besides time that the field depends on.

    Raises:
        ValueError: ``towers`` does not divide ``dimension``.
    """

    def __init__(
        self,
        architecture: Architecture,
        dimension: int,
        layers: int,
        towers: int,
        identities: bool = False,
        scalars: int = 0,
    ) -> None:
        super().__init__(architecture, dimension, identities, scalars)
        if dimension % towers:
            raise ValueError(f"PNA: towers ({towers}) must divide dimension ({dimension}).")
        nothing = {spec.name: torch.zeros(architecture.shape(spec.name)) for spec in architecture.tensors}
        self.register_buffer("edge_index", to_data(architecture, nothing).edge_index, persistent=False)
        counts = degree(self.edge_index[1], self.graph.nodes, dtype=torch.long)
        degrees = torch.bincount(counts)
        self.layers = nn.ModuleList([PNALayer(dimension, towers, degrees) for _ in range(layers)])

    def exchange(self, nodes: Tensor, edges: list[Tensor], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All rounds of messages, on the disjoint union of the batch's graphs."""
        batch, count, _ = nodes.shape
        ends = self.edge_index[:, : self.edge_index.shape[1] // 2]
        offsets = count * torch.arange(batch, device=nodes.device).view(1, -1, 1)
        index = (self.edge_index.unsqueeze(1) + offsets).flatten(1)
        shapes, flat = [edge.shape for edge in edges], torch.cat([edge.flatten(1, 2) for edge in edges], 1)
        for layer in self.layers:
            nodes, flat = layer(nodes, flat, time, ends, index)
        parts = flat.split([shape[1] * shape[2] for shape in shapes], 1)
        return nodes, [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
