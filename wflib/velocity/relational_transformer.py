"""A relational transformer on the neural graph: attention along real edges, with updates of the edges.

Nodes are neurons (feature: bias), edges are weights; messages run along every edge in both directions. Query and key of a
message are sums of a node part and an edge part, and so is its value (Diao and Loynd, "Relational attention", 2023):

    q_ij = n_i Q + e_ij Q',   k_ij = n_j K + e_ij K',   a_ij = softmax_j q_ij·k_ij over all real neighbours of i,
    Σ_j a_ij (n_j V + e_ij V') = (Σ_j a_ij n_j) V + (Σ_j a_ij e_ij) V'.

Each direction has matrices of its own. Queries and keys are half as wide as nodes, so that both directions together cost two
d×d products per edge; values are projected after the sum and cost nothing per edge; time scales the edges by scaling the
matrices that act on them. Edges dominate time and memory; how they lie and are worked on is a matter of its own: in blocks
(:mod:`~wflib.velocity.edge_blocks`) anywhere, or by compiled kernels (:mod:`~wflib.velocity.edge_kernels`) on a CPU.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture
from wflib.velocity.edge_blocks import EdgeBlocks
from wflib.velocity.edge_functions import keys_per_head
from wflib.velocity.edge_kernels import EdgeKernels
from wflib.velocity.graph_network import GraphNetwork

__all__ = ["RelationalLayer", "RelationalTransformer"]


Edges = TypeVar("Edges")


class Form(Protocol[Edges]):
    """How edges lie and are worked on: blocks, or one tensor."""

    def attend(
        self, layer: RelationalLayer, nodes: Tensor, edges: Edges, scale: Tensor
    ) -> tuple[Tensor, tuple[Edges, Edges]]:
        """See :meth:`EdgeBlocks.attend <wflib.velocity.edge_blocks.EdgeBlocks.attend>`."""
        ...

    def update(
        self, layer: RelationalLayer, nodes: Tensor, kept: tuple[Edges, Edges], weight_in: Tensor, weight_out: Tensor
    ) -> Edges:
        """See :meth:`EdgeBlocks.update <wflib.velocity.edge_blocks.EdgeBlocks.update>`."""
        ...


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
        self.keys = keys_per_head(dimension, heads)
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

    def edge_ends(self, scale: Tensor) -> Tensor:
        """Scales of edges (batch, d, 1) → their queries and keys at targets, then at sources, (batch, d, 2 width)."""
        return torch.cat([self.edge_target, self.edge_source], 1) * scale

    def forward(self, nodes: Tensor, edges: Edges, time: Tensor, form: Form[Edges]) -> tuple[Tensor, Edges]:
        """One round of messages.

        Args:
            nodes: (batch, N, d).
            edges: As ``form`` has them; their dtype is that of all work on edges.
            time: (batch, d).
            form: How edges lie and are worked on.

        Returns:
            New nodes and edges of the same shapes.
        """
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2, *edge_scales = self.modulation(time).unsqueeze(1).chunk(9, -1)
        edge_scale, update_scale, update_gate = ((1 + scale).transpose(1, 2) for scale in edge_scales)
        attended, kept = form.attend(self, self.norm(nodes) * (1 + scale_1) + shift_1, edges, edge_scale)
        nodes = nodes + (1 + gate_1) * self.attention_output(attended)
        nodes = nodes + (1 + gate_2) * self.network(self.norm(nodes) * (1 + scale_2) + shift_2)
        weights = self.edge_input * update_scale, self.edge_output * update_gate.transpose(1, 2)
        return nodes, form.update(self, self.norm(nodes), kept, *weights)


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
        self.heads, self.blocks = heads, EdgeBlocks(self.graph)
        self.kernels: EdgeKernels | None = None

    def use_kernels(self) -> bool:
        """Work on float32 edges on CPU by kernels, which are compiled now, where there are some for these sizes.

        Returns:
            Whether there are.

        Raises:
            RuntimeError: The kernels cannot be built.
        """
        dimension = self.edge_inputs.shape[-1]
        if self.edge_inputs.device.type == "cpu" and EdgeKernels.support(dimension, self.heads):
            self.kernels = EdgeKernels(self.graph, dimension, self.heads)
        return self.kernels is not None

    def exchange(self, nodes: Tensor, edges: list[Tensor], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All rounds of messages."""
        with_kernels = self.kernels is not None and self.kernels.take(edges[0])
        form: Any = self.kernels if with_kernels else self.blocks  # each has edges of its own kind
        shapes, edges = [edge.shape for edge in edges], form.pack(edges)
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, time, form)
        return nodes, form.unpack(edges, shapes)
