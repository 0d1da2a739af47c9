"""A relational transformer on the neural graph: attention along real edges in block form, with updates of the edges.

Nodes are neurons (feature: bias), edges are weights; messages run along every edge in both directions. Query and key of a
message are sums of a node part and an edge part, and so is its value (Diao and Loynd, "Relational attention", 2023):

    q_ij = n_i Q + e_ij Q',   k_ij = n_j K + e_ij K',   a_ij = softmax_j q_ij·k_ij over all real neighbours of i,
    Σ_j a_ij (n_j V + e_ij V') = (Σ_j a_ij n_j) V + (Σ_j a_ij e_ij) V'.

Each direction has matrices of its own. Queries and keys are half as wide as nodes, so that both directions together cost two
d×d products per edge; values are projected after the sum and cost nothing per edge. Edges dominate time and memory, hence:
time scales the edges by scaling the matrices that act on them and, unless a layer is traced, node parts are the starting
value of a matrix product's accumulator, and head sums are one thin product that leaves logits in the layout that the softmax
wants.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture
from wflib.graph.blocks import EdgeBlock
from wflib.velocity.edge_functions import edge_logits, gather_edges, update_edges
from wflib.velocity.graph_network import GraphNetwork

__all__ = ["RelationalLayer", "RelationalTransformer"]


def matrix(inputs: int, outputs: int) -> nn.Parameter:
    """A weight (inputs, outputs) with the initial spread of ``nn.Linear``."""
    return nn.Parameter(torch.empty(inputs, outputs).uniform_(-1, 1) * inputs**-0.5)


class RelationalLayer(nn.Module):
    """Attention along edges, a two-layer network per node, then an update of every edge from both its ends.

    Residual branches start from normalised streams. Time scales and shifts nodes and scales edges, per network and feature.

    Args:
        dimension: Features of a node and of an edge, d.
        heads: Attention heads; they divide d.
    """

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.keys = -(-dimension // (2 * heads))
        width = 2 * heads * self.keys
        self.norm = nn.LayerNorm(dimension, elementwise_affine=False)
        self.modulation = nn.Linear(dimension, 9 * dimension)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        # A target's row: its query for messages from the source, its key for messages to the source, then its value.
        self.node_target = nn.Linear(dimension, width + dimension)
        # A source's row, in matching order: its key, its query, then its value.
        self.node_source = nn.Linear(dimension, width + dimension)
        self.edge_target = matrix(dimension, width)
        self.edge_source = matrix(dimension, width)
        self.edge_values = nn.ParameterList([matrix(dimension, dimension) for _ in range(2)])
        self.attention_output = nn.Linear(dimension, dimension)
        self.network = nn.Sequential(nn.Linear(dimension, 2 * dimension), nn.GELU(), nn.Linear(2 * dimension, dimension))
        self.edge_input = matrix(dimension, dimension)
        self.update_target = nn.Linear(dimension, dimension)
        self.update_source = nn.Linear(dimension, dimension, bias=False)
        self.edge_output = matrix(dimension, dimension)

    def forward(
        self, nodes: Tensor, edges: list[Tensor], time: Tensor, blocks: tuple[EdgeBlock, ...], place: dict[str, slice]
    ) -> tuple[Tensor, list[Tensor]]:
        """One round of messages.

        Args:
            nodes: (batch, N, d).
            edges: One (batch, targets, sources, d) per block; their dtype is that of all work on edges.
            time: (batch, d).
            blocks: Which groups each block connects.
            place: Where groups lie among the nodes.

        Returns:
            New nodes and edges of the same shapes.
        """
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2, *edge_scales = self.modulation(time).unsqueeze(1).chunk(9, -1)
        edge_scale, update_scale, update_gate = ((1 + scale).transpose(1, 2) for scale in edge_scales)
        weight_in = (self.edge_input * update_scale).to(edges[0].dtype)
        weight_out = (self.edge_output * update_gate.transpose(1, 2)).to(edges[0].dtype)
        attend = self.norm(nodes) * (1 + scale_1) + shift_1
        attended, edges, normed = self.attend(attend, edges, edge_scale, blocks, place)
        nodes = nodes + (1 + gate_1) * self.attention_output(attended)
        nodes = nodes + (1 + gate_2) * self.network(self.norm(nodes) * (1 + scale_2) + shift_2)
        ends, updated = self.by_group(self.norm(nodes), place), []
        for edge, normed_edge, block in zip(edges, normed, blocks, strict=True):
            target = self.update_target(ends[block.target]).to(edge.dtype)
            source = self.update_source(ends[block.source]).to(edge.dtype)
            updated.append(update_edges(edge, normed_edge, target, source, weight_in, weight_out))
        return nodes, updated

    @staticmethod
    def by_group(nodes: Tensor, place: dict[str, slice]) -> dict[str, Tensor]:
        """Nodes (batch, N, d) of every group, by one split: gradients of many slices would each be as large as all nodes."""
        sizes = [where.stop - where.start for where in place.values()]
        return dict(zip(place, nodes.split(sizes, 1), strict=True))

    def attend(
        self, nodes: Tensor, edges: list[Tensor], scale: Tensor, blocks: tuple[EdgeBlock, ...], place: dict[str, slice]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Σ_j a_ij (n_j V + e_ij V') of all heads.

        Args:
            nodes: Normalised nodes (batch, N, d).
            edges: (batch, targets, sources, d).
            scale: Of normalised edges, (batch, d, 1).
            blocks: Which groups each block connects.
            place: Where groups lie among the nodes.

        Returns:
            (batch, N, d), edges, normalised edges before their scale.
        """
        (dimension, width), dtype = self.edge_target.shape, edges[0].dtype
        weight = (torch.cat([self.edge_target, self.edge_source], 1) * scale).to(dtype)
        logits: dict[str, list[Tensor]] = {group: [] for group in place}
        values, found, groups = [], [], self.by_group(nodes, place)
        for edge, block in zip(edges, blocks, strict=True):
            target, target_value = self.node_target(groups[block.target]).split([width, dimension], -1)
            source, source_value = self.node_source(groups[block.source]).split([width, dimension], -1)
            both, *rest = edge_logits(edge, target.to(dtype), source.to(dtype), weight, 2 * self.heads)
            forward, backward = (both * self.keys**-0.5).chunk(2)
            logits[block.target].append(forward.transpose(2, 3))
            logits[block.source].append(backward)
            values.append((source_value, target_value))
            found.append(rest)
        # Neighbours on the last axis but one: a softmax over few neighbours of many nodes would crawl on the last.
        shares = {
            group: iter(torch.cat(parts, 2).softmax(2, dtype=nodes.dtype).split([part.shape[2] for part in parts], 2))
            for group, parts in logits.items()
        }
        mixed, normed = dict.fromkeys(place, 0), []
        for (normed_edge, _), (source_value, target_value), block in zip(found, values, blocks, strict=True):
            to_target, to_source = next(shares[block.target]), next(shares[block.source])
            arranged = (share.permute(1, 3, 0, 2).to(dtype) for share in (to_target, to_source))
            at_target, at_source, normed_edge = gather_edges(normed_edge, *arranged)
            mixed[block.target] = mixed[block.target] + self.message(to_target, source_value, at_target, 0, scale)
            mixed[block.source] = mixed[block.source] + self.message(to_source, target_value, at_source, 1, scale)
            normed.append(normed_edge)
        return torch.cat([mixed[group] for group in place], 1), [edge for _, edge in found], normed

    def message(self, share: Tensor, value: Tensor, carried: Tensor, direction: int, scale: Tensor) -> Tensor:
        """(Σ_j a_ij n_j) V + (Σ_j a_ij e_ij) V' for neighbours j in one block.

        Args:
            share: a_ij, (heads, batch, senders, receivers).
            value: n_j V, (batch, senders, d).
            carried: Σ_j a_ij e_ij before its scale, (batch, receivers, heads, d).
            direction: 0 towards targets, 1 towards sources.
            scale: Of edges, (batch, d, 1).

        Returns:
            (batch, receivers, d).
        """
        batch, receivers, heads, dimension = carried.shape
        values = value.unflatten(-1, (heads, -1)).permute(2, 0, 1, 3)
        from_nodes = share.transpose(2, 3).to(value.dtype) @ values
        carried = carried.permute(2, 0, 1, 3).to(scale.dtype) * scale.view(batch, 1, dimension)
        projection = self.edge_values[direction].view(dimension, heads, -1).transpose(0, 1)
        from_edges = carried.flatten(1, 2) @ projection
        return (from_nodes + from_edges.view_as(from_nodes)).permute(1, 2, 0, 3).reshape(batch, receivers, dimension)


class RelationalTransformer(GraphNetwork):
    """Weights and time in, a field over the weights out; equivariant to permutations of hidden neurons.

    Args:
        architecture: Of the coordinates it works on.
        dimension: Features of a node and of an edge, d.
        layers: Rounds of messages.
        heads: Attention heads.
        identities: Whether hidden neurons have learned positions of their own: breaks equivariance, fixes widths.
        scalars: Number of scalars besides time that the field depends on.
        fields: Number of fields over the weights besides x that it depends on.

    Raises:
        ValueError: ``heads`` does not divide ``dimension``.
    """

    def __init__(
        self,
        architecture: Architecture,
        dimension: int,
        layers: int,
        heads: int,
        identities: bool = False,
        scalars: int = 0,
        fields: int = 0,
    ) -> None:
        super().__init__(architecture, dimension, identities, scalars, fields)
        if dimension % heads:
            raise ValueError(f"RelationalTransformer: heads ({heads}) must divide dimension ({dimension}).")
        self.layers = nn.ModuleList([RelationalLayer(dimension, heads) for _ in range(layers)])

    def exchange(self, nodes: Tensor, edges: list[Tensor], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All rounds of messages."""
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, time, self.graph.edges, self.graph.place)
        return nodes, edges
