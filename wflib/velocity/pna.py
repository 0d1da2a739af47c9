"""Principal neighbourhood aggregation on the neural graph, with updates of the edges.

Corso, Cavalleri, Beaini, Liò and Veličković, "Principal neighbourhood aggregation for graph nets" (2020). Parameters and
function are those of PyTorch Geometric's convolution on the graph that :func:`wflib.graph.pyg.to_data` exports, where every
weight is an edge in both directions; dense blocks of edges spare its gather and scatter, whose time per edge grows with the
graph.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from wflib.architecture import Architecture
from wflib.config import quiet_import
from wflib.graph import EdgeBlock
from wflib.velocity.edge_functions import normalize_edges
from wflib.velocity.graph_network import GraphNetwork

with quiet_import():
    from torch_geometric.nn import PNAConv

__all__ = ["PNA"]

AGGREGATORS = ["mean", "min", "max", "std"]
SCALERS = ["identity", "amplification", "attenuation"]
SMALL = 1e-5
"""Variances up to this have no root: its derivative would be unbounded."""


class BlockPNAConv(PNAConv):  # type: ignore[misc]  # torch_geometric has no types
    """PyTorch Geometric's convolution on blocks of edges.

    A message is linear in its three parts, so each is projected where it lives: m_ij = n_i A + n_j B + e_ij C. The first is
    the same for all neighbours j and joins after they are aggregated.
    """

    def forward(
        self,
        nodes: Tensor,
        edges: list[Tensor],
        direction: Tensor,
        blocks: tuple[EdgeBlock, ...],
        place: dict[str, slice],
    ) -> Tensor:
        """Σ over towers of the aggregated messages, scaled by degree.

        Args:
            nodes: (batch, N, d).
            edges: One (batch, targets, sources, d) per block.
            direction: What an edge from target to source has more, (d,).
            blocks: Which groups each block connects.
            place: Where groups lie among the nodes.

        Returns:
            (batch, N, d).
        """
        batch, count, _ = nodes.shape
        towers = nodes.unflatten(-1, (self.towers, self.F_in))
        weight = torch.stack([network[0].weight for network in self.pre_nns])
        own, other, carried = weight.chunk(3, -1)
        start = torch.stack([network[0].bias for network in self.pre_nns]) + carried @ self.edge_encoder.bias
        own = torch.einsum("bnti,toi->bnto", towers, own) + start
        other = torch.einsum("bnti,toi->bnto", towers, other).flatten(2)
        project = (carried @ self.edge_encoder.weight).flatten(0, 1)
        back, sizes = functional.linear(direction, project), [part.stop - part.start for part in place.values()]
        sent = dict(zip(place, other.split(sizes, 1), strict=True))
        received: dict[str, list[tuple[Tensor, ...]]] = {group: [] for group in place}
        degrees = dict.fromkeys(place, 0)
        for edge, block in zip(edges, blocks, strict=True):
            message = functional.linear(edge, project)
            received[block.target].append(statistics(message + sent[block.source].unsqueeze(1), 2))
            received[block.source].append(statistics(message + (sent[block.target] + back).unsqueeze(2), 1))
            degrees[block.target] += edge.shape[2]
            degrees[block.source] += edge.shape[1]
        groups = [aggregate(found, degrees[group]) for group, found in received.items()]
        mean, low, high, deviation = (
            torch.cat(part, 1).view(batch, count, self.towers, -1) for part in zip(*groups, strict=True)
        )
        found = torch.cat([mean + own, low + own, high + own, deviation], -1)
        amplified = [math.log(degrees[group] + 1) for group, size in zip(place, sizes, strict=True) for _ in range(size)]
        scale = (found.new_tensor(amplified) / self.aggr_module.avg_deg_log).view(count, 1, 1)
        by_tower = torch.cat([towers, found, found * scale, found / scale], -1).unbind(2)
        new: Tensor = self.lin(torch.cat([network(part) for network, part in zip(self.post_nns, by_tower, strict=True)], -1))
        return new


def statistics(messages: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum, sum of squares, least and largest along an axis."""
    return messages.sum(axis), messages.square().sum(axis), messages.min(axis).values, messages.max(axis).values


def aggregate(found: list[tuple[Tensor, ...]], degree: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, least, largest and deviation over the blocks that meet at a group; small deviations count as none."""
    sums, squares, low, high = (torch.stack(part) for part in zip(*found, strict=True))
    mean = sums.sum(0) / degree
    variance = squares.sum(0) / degree - mean.square()
    deviation = variance.clamp(min=SMALL).sqrt()
    return mean, low.amin(0), high.amax(0), deviation.masked_fill(deviation <= SMALL**0.5, 0)


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
        self.convolution = BlockPNAConv(
            dimension, dimension, AGGREGATORS, SCALERS, degrees, dimension, towers, divide_input=True, act="gelu"
        )
        self.edge_input = nn.Linear(dimension, dimension)
        self.update_target = nn.Linear(dimension, dimension, bias=False)
        self.update_source = nn.Linear(dimension, dimension, bias=False)
        self.edge_output = nn.Linear(dimension, dimension)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, nodes: Tensor, edges: list[Tensor], time: Tensor, blocks: tuple[EdgeBlock, ...], place: dict[str, slice]
    ) -> tuple[Tensor, list[Tensor]]:
        """One round of messages.

        Args:
            nodes: (batch, N, d).
            edges: One (batch, targets, sources, d) per block.
            time: (batch, d).
            blocks: Which groups each block connects.
            place: Where groups lie among the nodes.

        Returns:
            New nodes and edges of the same shapes.
        """
        shift, scale, gate, edge_scale = self.modulation(time).unsqueeze(1).chunk(4, -1)
        carried = [normalize_edges(edge) * (1 + edge_scale).unsqueeze(1).to(edge.dtype) for edge in edges]
        normed = self.norm(nodes) * (1 + scale) + shift
        nodes = nodes + (1 + gate) * self.convolution(normed, carried, self.direction, blocks, place)
        ends, updated = self.norm(nodes), []
        targets, sources = (
            dict(zip(place, project(ends).split([part.stop - part.start for part in place.values()], 1), strict=True))
            for project in (self.update_target, self.update_source)
        )
        for edge, inner, block in zip(edges, carried, blocks, strict=True):
            hidden = self.edge_input(inner) + targets[block.target].unsqueeze(2) + sources[block.source].unsqueeze(1)
            updated.append(edge + self.edge_output(functional.gelu(hidden)))
        return nodes, updated


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
        fields: Number of fields over the weights besides x that it depends on.

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
        fields: int = 0,
    ) -> None:
        super().__init__(architecture, dimension, identities, scalars, fields)
        if dimension % towers:
            raise ValueError(f"PNA: towers ({towers}) must divide dimension ({dimension}).")
        degrees = dict.fromkeys(self.graph.place, 0)
        for block in self.graph.edges:
            targets, sources, _ = block.places.shape
            degrees[block.target] += sources
            degrees[block.source] += targets
        counts = [degrees[group.name] for group in self.graph.groups for _ in range(group.size)]
        histogram = torch.bincount(torch.tensor(counts))
        self.layers = nn.ModuleList([PNALayer(dimension, towers, histogram) for _ in range(layers)])

    def exchange(self, nodes: Tensor, edges: list[Tensor], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All rounds of messages."""
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, time, self.graph.edges, self.graph.place)
        return nodes, edges
