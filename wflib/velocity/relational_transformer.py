"""A relational transformer on the neural graph: attention along real edges in block form, with updates of the edges.

Nodes are neurons (feature: bias), edges are weights; messages run along every edge in both directions. Query and key of a
message are sums of a node part and an edge part, and so is its value (Diao and Loynd, "Relational attention", 2023):

    q_ij = n_i Q + e_ij Q',   k_ij = n_j K + e_ij K',   a_ij = softmax_j q_ij·k_ij over all real neighbours of i,
    Σ_j a_ij (n_j V + e_ij V') = (Σ_j a_ij n_j) V + (Σ_j a_ij e_ij) V'.

Each direction has matrices of its own. Queries and keys are half as wide as nodes, so that both directions together cost two
d×d products per edge; values are projected after the sum and cost nothing per edge. Edges dominate time and memory, hence:
node parts are the starting value of a matrix product's accumulator, time scales the edges by scaling the matrices that act
on them, and head sums are one thin product that leaves logits in the layout the softmax wants.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wflib.architecture import Architecture
from wflib.graph.blocks import EdgeBlock
from wflib.velocity.graph_network import GraphNetwork, normalize_edges

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
        head_sums = torch.eye(2 * heads).repeat_interleave(self.keys, 1) * self.keys**-0.5
        self.register_buffer("head_sums", head_sums, persistent=False)

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
        normed = [normalize_edges(edge) for edge in edges]
        weight_in = (self.edge_input * update_scale).to(edges[0].dtype)
        weight_out = (self.edge_output * update_gate.transpose(1, 2)).to(edges[0].dtype)
        attended = self.attend(self.norm(nodes) * (1 + scale_1) + shift_1, normed, edge_scale, blocks, place)
        nodes = nodes + (1 + gate_1) * self.attention_output(attended)
        nodes = nodes + (1 + gate_2) * self.network(self.norm(nodes) * (1 + scale_2) + shift_2)
        ends, updated = self.norm(nodes), []
        for edge, normed_edge, block in zip(edges, normed, blocks, strict=True):
            target = self.update_target(ends[:, place[block.target]]).to(edge.dtype)
            source = self.update_source(ends[:, place[block.source]]).to(edge.dtype)
            start = (target.unsqueeze(2) + source.unsqueeze(1)).flatten(1, 2)
            hidden = functional.gelu(torch.baddbmm(start, normed_edge.flatten(1, 2), weight_in))
            updated.append(torch.baddbmm(edge.flatten(1, 2), hidden, weight_out).view(edge.shape))
        return nodes, updated

    def attend(
        self, nodes: Tensor, edges: list[Tensor], scale: Tensor, blocks: tuple[EdgeBlock, ...], place: dict[str, slice]
    ) -> Tensor:
        """Σ_j a_ij (n_j V + e_ij V') of all heads, (batch, N, d).

        Args:
            nodes: Normalised nodes (batch, N, d).
            edges: Normalised edges, before their scale.
            scale: Of edges, (batch, d, 1).
            blocks: Which groups each block connects.
            place: Where groups lie among the nodes.
        """
        width = self.edge_target.shape[1]
        weight = (torch.cat([self.edge_target, self.edge_source], 1) * scale).to(edges[0].dtype)
        received: dict[str, list[tuple[Tensor, Tensor, Tensor, int]]] = {group: [] for group in place}
        for edge, block in zip(edges, blocks, strict=True):
            target, target_value = self.node_target(nodes[:, place[block.target]]).tensor_split([width], -1)
            source, source_value = self.node_source(nodes[:, place[block.source]]).tensor_split([width], -1)
            forward, backward = self.edge_logits(edge, target, source, weight)
            received[block.target].append((forward.transpose(2, 3), source_value, edge, 0))
            received[block.source].append((backward, target_value, edge.transpose(1, 2), 1))
        mixed = []
        for messages in received.values():
            logits, *rest = zip(*messages, strict=True)
            # Neighbours on the last axis but one: a softmax over few neighbours of many nodes would crawl on the last.
            shares = torch.cat(logits, 2).softmax(2, dtype=nodes.dtype).split([part.shape[2] for part in logits], 2)
            mixed.append(sum(self.message(*message, scale) for message in zip(shares, *rest, strict=True)))
        return torch.cat(mixed, 1)

    def edge_logits(self, edge: Tensor, target: Tensor, source: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """q·k of both directions.

        Args:
            edge: (batch, targets, sources, d).
            target: Node parts of targets: queries, then keys of the reverse direction.
            source: Node parts of sources: keys, then queries of the reverse direction.
            weight: Makes edge parts in the order of ``target``, then of ``source``, (batch, d, 2 width).

        Returns:
            Logits of targets and of sources, each (heads, batch, targets, sources).
        """
        batch, targets, sources, _ = edge.shape
        target = target.to(edge.dtype).unsqueeze(2).expand(-1, -1, sources, -1)
        source = source.to(edge.dtype).unsqueeze(1).expand(-1, targets, -1, -1)
        start = torch.cat([target, source], -1).flatten(1, 2)
        at_target, at_source = torch.baddbmm(start, edge.flatten(1, 2), weight).chunk(2, -1)
        products = at_target * at_source
        logits = torch.mm(self.head_sums.to(edge.dtype), products.flatten(0, 1).t())
        return logits.view(2 * self.heads, batch, targets, sources).chunk(2)

    def message(self, share: Tensor, value: Tensor, edge: Tensor, direction: int, scale: Tensor) -> Tensor:
        """(Σ_j a_ij n_j) V + (Σ_j a_ij e_ij) V' for neighbours j in one block.

        Args:
            share: a_ij, (heads, batch, senders, receivers).
            value: n_j V, (batch, senders, d).
            edge: (batch, receivers, senders, d).
            direction: 0 towards targets, 1 towards sources.
            scale: Of edges, (batch, d, 1).

        Returns:
            (batch, receivers, d).
        """
        batch, receivers, _, dimension = edge.shape
        values = value.unflatten(-1, (self.heads, -1)).permute(2, 0, 1, 3)
        from_nodes = share.transpose(2, 3).to(value.dtype) @ values
        carried = (share.permute(1, 3, 0, 2).to(edge.dtype) @ edge).permute(2, 0, 1, 3).to(scale.dtype)
        projection = self.edge_values[direction].view(dimension, self.heads, -1).transpose(0, 1)
        from_edges = (carried * scale.view(batch, 1, dimension)).flatten(1, 2) @ projection
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
    ) -> None:
        super().__init__(architecture, dimension, identities, scalars)
        if dimension % heads:
            raise ValueError(f"RelationalTransformer: heads ({heads}) must divide dimension ({dimension}).")
        self.layers = nn.ModuleList([RelationalLayer(dimension, heads) for _ in range(layers)])

    def exchange(self, nodes: Tensor, edges: list[Tensor], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All rounds of messages."""
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, time, self.graph.edges, self.graph.place)
        return nodes, edges
