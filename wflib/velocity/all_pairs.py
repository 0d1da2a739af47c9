"""The relational transformer by attention over all N² pairs of nodes: the definition that block form must reproduce.

The parameters are those of :class:`~wflib.velocity.relational_transformer.RelationalTransformer`. Every pair gets query, key
and value of its own, written out as sums of a node part and an edge part; a mask keeps the real edges. Without the mask all
pairs exchange messages and carry features, as in the code published with the thesis: a yardstick of cost, not of results.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.velocity.edge_functions import normalize_edges
from wflib.velocity.relational_transformer import RelationalLayer, RelationalTransformer

__all__ = ["AllPairsTransformer"]


class AllPairsTransformer(RelationalTransformer):
    """Same parameters, same function (with ``mask``), quadratic cost.

    Args:
        architecture: Of the coordinates it works on.
        dimension: Features of a node and of an edge, d.
        layers: Rounds of messages.
        heads: Attention heads.
        mask: Whether only real edges carry messages.
    """

    def __init__(self, architecture: Architecture, dimension: int, layers: int, heads: int, mask: bool = True) -> None:
        super().__init__(architecture, dimension, layers, heads)
        self.mask = mask

    def exchange(self, nodes: Tensor, edges: list[Tensor], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All rounds of messages, on one dense block of pairs (batch, N targets, N sources, d)."""
        graph = self.graph
        place, count = graph.place, graph.nodes
        pairs = edges[0].new_zeros(len(nodes), count, count, edges[0].shape[-1])
        real = torch.zeros(count, count, dtype=torch.bool, device=nodes.device)
        for block, edge in zip(graph.edges, edges, strict=True):
            pairs[:, place[block.target], place[block.source]] = edge
            real[place[block.target], place[block.source]] = True
        for layer in self.layers:
            assert isinstance(layer, RelationalLayer)
            nodes, pairs = self.round(layer, nodes, pairs, time, real if self.mask else torch.ones_like(real))
        return nodes, [pairs[:, place[block.target], place[block.source]] for block in graph.edges]

    @staticmethod
    def round(layer: RelationalLayer, nodes: Tensor, pairs: Tensor, time: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """One layer on all pairs: i receives from j over pair (i, j) as a target and over pair (j, i) as a source."""
        batch, count, dimension = nodes.shape
        width, heads = layer.edge_target.shape[1], layer.heads
        modulation = layer.modulation(time).chunk(9, -1)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = (part[:, None] for part in modulation[:6])
        scale, update_scale, gate = (1 + part[:, None, None] for part in modulation[6:])
        normed = normalize_edges(pairs)
        attended = layer.norm(nodes) * (1 + scale_1) + shift_1
        as_target, as_source = layer.node_target(attended).unsqueeze(2), layer.node_source(attended).unsqueeze(1)
        edge = normed * scale
        query_in, key_out = (as_target[..., :width] + edge @ layer.edge_target).chunk(2, -1)
        key_in, query_out = (as_source[..., :width] + edge @ layer.edge_source).chunk(2, -1)
        value_in = as_source[..., width:] + edge @ layer.edge_values[0]
        value_out = as_target[..., width:] + edge @ layer.edge_values[1]

        def split(pairwise: Tensor, transpose: bool) -> Tensor:
            """(batch, N, N, features) → (batch, heads, receiver, sender, features of a head)."""
            pairwise = pairwise.transpose(1, 2) if transpose else pairwise
            return pairwise.reshape(batch, count, count, heads, -1).permute(0, 3, 1, 2, 4)

        query = torch.cat([split(query_in, False), split(query_out, True)], 3)
        key = torch.cat([split(key_in, False), split(key_out, True)], 3)
        value = torch.cat([split(value_in, False), split(value_out, True)], 3)
        logits = (query * key).sum(-1) * query.shape[-1] ** -0.5
        logits = logits.masked_fill(~torch.cat([real, real.t()], 1), -torch.inf)
        mixed = (logits.softmax(-1).unsqueeze(-1) * value).sum(3)
        nodes = nodes + (1 + gate_1) * layer.attention_output(mixed.transpose(1, 2).reshape(batch, count, dimension))
        nodes = nodes + (1 + gate_2) * layer.network(layer.norm(nodes) * (1 + scale_2) + shift_2)
        ends = layer.norm(nodes)
        hidden = (normed * update_scale) @ layer.edge_input
        hidden = hidden + layer.update_target(ends).unsqueeze(2) + layer.update_source(ends).unsqueeze(1)
        change = (torch.nn.functional.gelu(hidden) @ layer.edge_output) * gate
        return nodes, pairs + change * real[..., None]
