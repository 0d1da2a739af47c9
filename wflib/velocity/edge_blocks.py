"""Relational layers on edges in blocks, one per weight tensor: any device, dtype and transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wflib.graph import NeuralGraph
from wflib.velocity.edge_functions import edge_logits, gather_edges, update_edges

if TYPE_CHECKING:
    from wflib.velocity.relational_transformer import RelationalLayer

__all__ = ["EdgeBlocks"]


class EdgeBlocks:
    """How a relational layer works on blocks of edges (batch, targets, sources, d).

    Args:
        graph: Of the base network.
    """

    def __init__(self, graph: NeuralGraph) -> None:
        self.blocks, self.place = graph.edges, graph.place

    @staticmethod
    def pack(edges: list[Tensor]) -> list[Tensor]:
        """Blocks as they are."""
        return edges

    @staticmethod
    def unpack(edges: list[Tensor], shapes: list[torch.Size]) -> list[Tensor]:
        """Inverse of :meth:`pack`."""
        return edges

    def by_group(self, nodes: Tensor) -> dict[str, Tensor]:
        """Nodes (batch, N, d) of every group, by one split: gradients of many slices would each be as large as all nodes."""
        sizes = [where.stop - where.start for where in self.place.values()]
        return dict(zip(self.place, nodes.split(sizes, 1), strict=True))

    def attend(
        self, layer: RelationalLayer, nodes: Tensor, edges: list[Tensor], scale: Tensor
    ) -> tuple[Tensor, tuple[list[Tensor], list[Tensor]]]:
        """Σ_j a_ij (n_j V + e_ij V') of all heads.

        Args:
            layer: Whose matrices are applied.
            nodes: Normalised nodes (batch, N, d).
            edges: (batch, targets, sources, d).
            scale: Of normalised edges, (batch, d, 1).

        Returns:
            (batch, N, d), and for :meth:`update` edges and normalised edges before their scale.
        """
        (dimension, width), dtype = layer.edge_target.shape, edges[0].dtype
        weight = layer.edge_ends(scale).to(dtype)
        logits: dict[str, list[Tensor]] = {group: [] for group in self.place}
        values, found, groups = [], [], self.by_group(nodes)
        for edge, block in zip(edges, self.blocks, strict=True):
            target, target_value = layer.node_target(groups[block.target]).split([width, dimension], -1)
            source, source_value = layer.node_source(groups[block.source]).split([width, dimension], -1)
            both, *rest = edge_logits(edge, target.to(dtype), source.to(dtype), weight, 2 * layer.heads)
            forward, backward = (both * layer.keys**-0.5).chunk(2)
            logits[block.target].append(forward.transpose(2, 3))
            logits[block.source].append(backward)
            values.append((source_value, target_value))
            found.append(rest)
        # Neighbours on the last axis but one: a softmax over few neighbours of many nodes would crawl on the last.
        shares = {
            group: iter(torch.cat(parts, 2).softmax(2, dtype=nodes.dtype).split([part.shape[2] for part in parts], 2))
            for group, parts in logits.items()
        }
        mixed: dict[str, Tensor] = {}
        normed = []
        for (normed_edge, _), (source_value, target_value), block in zip(found, values, self.blocks, strict=True):
            to_target, to_source = next(shares[block.target]), next(shares[block.source])
            arranged = (share.permute(1, 3, 0, 2).to(dtype) for share in (to_target, to_source))
            at_target, at_source, normed_edge = gather_edges(normed_edge, *arranged)
            to, back = layer.edge_values
            mixed[block.target] = mixed.get(block.target, 0) + self.message(to_target, source_value, at_target, to, scale)
            mixed[block.source] = mixed.get(block.source, 0) + self.message(to_source, target_value, at_source, back, scale)
            normed.append(normed_edge)
        return torch.cat([mixed[group] for group in self.place], 1), ([edge for _, edge in found], normed)

    @staticmethod
    def message(share: Tensor, value: Tensor, carried: Tensor, projection: Tensor, scale: Tensor) -> Tensor:
        """(Σ_j a_ij n_j) V + (Σ_j a_ij e_ij) V' for neighbours j in one block.

        Args:
            share: a_ij, (heads, batch, senders, receivers).
            value: n_j V, (batch, senders, d).
            carried: Σ_j a_ij e_ij before its scale, (batch, receivers, heads, d).
            projection: V' of the direction, (d, d).
            scale: Of edges, (batch, d, 1).

        Returns:
            (batch, receivers, d).
        """
        batch, receivers, heads, dimension = carried.shape
        values = value.unflatten(-1, (heads, -1)).permute(2, 0, 1, 3)
        from_nodes = share.transpose(2, 3).to(value.dtype) @ values
        carried = carried.permute(2, 0, 1, 3).to(scale.dtype) * scale.view(batch, 1, dimension)
        from_edges = carried.flatten(1, 2) @ projection.view(dimension, heads, -1).transpose(0, 1)
        found: Tensor = (from_nodes + from_edges.view_as(from_nodes)).permute(1, 2, 0, 3)
        return found.reshape(batch, receivers, dimension)

    def update(
        self,
        layer: RelationalLayer,
        nodes: Tensor,
        kept: tuple[list[Tensor], list[Tensor]],
        weight_in: Tensor,
        weight_out: Tensor,
    ) -> list[Tensor]:
        """Every edge from both its ends.

        Args:
            layer: Whose matrices are applied.
            nodes: Normalised nodes (batch, N, d).
            kept: What :meth:`attend` returned.
            weight_in: W_in of every network, (batch, d, d).
            weight_out: W_out of every network, (batch, d, d).

        Returns:
            Edges (batch, targets, sources, d).
        """
        dtype, groups, updated = kept[0][0].dtype, self.by_group(nodes), []
        weights = weight_in.to(dtype), weight_out.to(dtype)
        for edge, normed, block in zip(*kept, self.blocks, strict=True):
            target = layer.update_target(groups[block.target]).to(dtype)
            source = layer.update_source(groups[block.source]).to(dtype)
            updated.append(update_edges(edge, normed, target, source, *weights))
        return updated
