"""Neuron tokens: a transformer whose tokens are hidden neurons and whose edges are the weights between them.

Input and output neurons cannot be permuted, so the weights between them and a hidden neuron are that neuron's features.
Weights between two groups of hidden neurons are edges (all that lies between two neurons, such as the places of a kernel,
is one edge): they bias attention, are summed along it, and are updated from both ends (relational attention after Diao and
Loynd, "Relational attention", 2023). What belongs to no hidden neuron (output bias, output scale) is the feature of one
global token. A token attends to its own group, to groups that share weights with it and to the global token, which attends
to all: with two hidden layers that is every pair, and with more the cost stays linear in depth. The network is exactly
equivariant to permutations of hidden neurons and runs on any hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wflib.architecture import Architecture
from wflib.graph import GraphFeatures, neural_graph
from wflib.velocity.embedding import TimeEmbedding, all_fields, join
from wflib.velocity.token_layout import TokenLayout

__all__ = ["NeuronTokens"]


class NeuronTokenLayer(nn.Module):
    """Attention over tokens with edges, a two-layer network per token, and an update of the edges; time by adaptive norms.

    Args:
        dimension: Features of a token, d.
        edge_dimension: Features of an edge.
        heads: Attention heads.
        blocks: Number of edge blocks.
    """

    def __init__(self, dimension: int, edge_dimension: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dimension, elementwise_affine=False)
        self.network_norm = nn.LayerNorm(dimension, elementwise_affine=False)
        self.modulation = nn.Linear(dimension, 6 * dimension)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        # No bias: the softmax ignores that of keys, whose gradient would be rounding, which Adam makes full steps of.
        self.query_key_value = nn.Linear(dimension, 3 * dimension, bias=False)
        self.attention_output = nn.Linear(dimension, dimension)
        self.network = nn.Sequential(nn.Linear(dimension, 4 * dimension), nn.GELU(), nn.Linear(4 * dimension, dimension))
        if blocks:
            hidden = 2 * edge_dimension
            self.edge_norm = nn.LayerNorm(edge_dimension)
            self.edge_logits = nn.Linear(edge_dimension, 2 * heads)
            self.message_to_target = nn.Linear(heads * edge_dimension, dimension)
            self.message_to_source = nn.Linear(heads * edge_dimension, dimension)
            self.edge_input = nn.Linear(edge_dimension, hidden)
            self.edge_target = nn.Linear(dimension, hidden, bias=False)
            self.edge_source = nn.Linear(dimension, hidden, bias=False)
            self.edge_time = nn.Linear(dimension, hidden)
            self.edge_output = nn.Linear(hidden, edge_dimension)

    def forward(self, tokens: Tensor, edges: list[Tensor], time: Tensor, layout: TokenLayout) -> tuple[Tensor, list[Tensor]]:
        """One round of messages.

        Args:
            tokens: (batch, tokens, d).
            edges: Blocks (batch, targets, sources, edge features).
            time: (batch, d).
            layout: Groups of tokens and what they attend to.

        Returns:
            New tokens and edges of the same shapes.
        """
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(time).unsqueeze(1).chunk(6, -1)
        attended = self.attention_norm(tokens) * (1 + scale_1) + shift_1
        normed = [self.edge_norm(edge) for edge in edges]
        mixed, shares = self.attend(attended, normed, layout)
        if edges:
            messages = self.messages(shares, normed, layout)
            mixed = mixed + torch.cat(
                [messages.get(group, part.new_zeros(1)).expand_as(part) for group, part in enumerate(layout.split(mixed))], 1
            )
        tokens = tokens + (1 + gate_1) * self.attention_output(mixed)
        tokens = tokens + (1 + gate_2) * self.network(self.network_norm(tokens) * (1 + scale_2) + shift_2)
        updated, parts = [], layout.split(tokens)
        for edge, normed_edge, (target, source) in zip(edges, normed, layout.ends, strict=True):
            # Small sums first: each of edges is a pass through memory.
            at_target = self.edge_target(parts[target]) + self.edge_time(time).unsqueeze(1)
            hidden = self.edge_input(normed_edge) + at_target.unsqueeze(2) + self.edge_source(parts[source]).unsqueeze(1)
            updated.append(edge + self.edge_output(functional.gelu(hidden)))
        return tokens, updated

    def attend(
        self, tokens: Tensor, edges: list[Tensor], layout: TokenLayout
    ) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
        """Values mixed by attention, (batch, tokens, d), and shares of attention along blocks of edges in each direction."""
        batch, count, dimension = tokens.shape
        projected = self.query_key_value(tokens).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = (layout.split(part, 2) for part in projected.unbind(0))
        biases = [self.edge_logits(edge).permute(0, 3, 1, 2).chunk(2, 1) for edge in edges]
        mixed = []
        shares: dict[tuple[int, int], Tensor] = {}
        for view in layout.views:
            seen = torch.cat([keys[group] for group in view.keys], 2)
            logits = (torch.cat(queries[view.queries], 2) @ seen.transpose(-1, -2)) * (dimension // self.heads) ** -0.5
            if view.edges:
                bias = torch.zeros_like(logits)
                for index, direction, rows, columns in view.edges:
                    part = biases[index][direction]
                    # Added, as neurons that are connected with each other meet in both directions.
                    bias[:, :, rows, columns] += part.transpose(-1, -2) if direction else part
                logits = logits + bias
            attention = logits.softmax(-1)
            mixed.append(attention @ torch.cat([values[group] for group in view.keys], 2).to(attention.dtype))
            shares |= {(index, way): attention[:, :, rows, columns] for index, way, rows, columns in view.edges}
        return torch.cat(mixed, 2).transpose(1, 2).reshape(batch, count, dimension), shares

    def messages(self, shares: dict[tuple[int, int], Tensor], edges: list[Tensor], layout: TokenLayout) -> dict[int, Tensor]:
        """Σ_j a_ij e_ij of groups with edges, times the root of the neighbours so that its variance stays near one."""
        found: dict[int, Tensor] = {}
        for index, (edge, (target, source)) in enumerate(zip(edges, layout.ends, strict=True)):
            edge = edge.to(shares[index, 0].dtype)
            forward = torch.einsum("bhts,btse->bthe", shares[index, 0], edge).flatten(2)
            backward = torch.einsum("bhst,btse->bshe", shares[index, 1], edge).flatten(2)
            forward = self.message_to_target(forward * edge.shape[2] ** 0.5)
            backward = self.message_to_source(backward * edge.shape[1] ** 0.5)
            found[target] = found[target] + forward if target in found else forward
            found[source] = found[source] + backward if source in found else backward
        return found


class NeuronTokens(nn.Module):
    """Weights and time in, a field over the weights out; equivariant to permutations of hidden neurons.

    Args:
        architecture: Of the coordinates it works on; hidden widths may differ at call time through ``architecture``.
        dimension: Features of a token.
        edge_dimension: Features of an edge.
        layers: Rounds of messages.
        heads: Attention heads.
        identities: Whether hidden neurons have learned positions of their own: breaks equivariance, fixes widths.
        scalars: Number of scalars besides time that the field depends on.
        fields: Number of fields over the weights besides x that it depends on.
    """

    def __init__(
        self,
        architecture: Architecture,
        dimension: int,
        edge_dimension: int,
        layers: int,
        heads: int,
        identities: bool = False,
        scalars: int = 0,
        fields: int = 0,
    ) -> None:
        super().__init__()
        self.architecture, self.fields, graph = architecture, fields, neural_graph(architecture, ends=False)
        self.features, self.layout = GraphFeatures(graph), TokenLayout(graph)
        self.time = TimeEmbedding(dimension, scalars)
        self.whole = nn.Parameter(torch.randn(dimension) * 0.3)
        seen, whole, widths = 1 + fields, self.features.whole_width, self.features.node_widths
        edge_widths, constant_widths = self.features.edge_widths, self.features.constant_widths
        self.positions = nn.ParameterList(
            [nn.Parameter(torch.randn(group.size if identities else 1, dimension) * 0.3) for group in graph.groups]
        )
        self.token_inputs = nn.ModuleList([nn.Linear(seen * max(width, 1), dimension) for width in widths])
        self.token_outputs = nn.ModuleList([nn.Linear(dimension, max(width, 1)) for width in widths])
        self.fixed_input = nn.Linear(seen * max(whole, 1), dimension)
        self.fixed_output = nn.Linear(dimension, max(whole, 1))
        self.edge_inputs = nn.ModuleList(
            [
                nn.Linear(seen * width + count, edge_dimension)
                for width, count in zip(edge_widths, constant_widths, strict=True)
            ]
        )
        self.edge_outputs = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(edge_dimension), nn.Linear(edge_dimension, max(width, 1))) for width in edge_widths]
        )
        self.layers = nn.ModuleList(
            [NeuronTokenLayer(dimension, edge_dimension, heads, len(graph.edges)) for _ in range(layers)]
        )
        self.norm = nn.LayerNorm(dimension)
        for output in (*self.token_outputs, self.fixed_output):
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)

    def forward(self, x: Tensor, t: Tensor, scalars: Tensor | None = None, fields: Tensor | None = None) -> Tensor:
        """Evaluate the field.

        Args:
            x: Coordinates of unit variance, (batch, D).
            t: Times, (batch,).
            scalars: What else the field depends on, NaN where not given, (batch, scalars).
            fields: What else is known of every weight, of unit variance, (batch, fields, D).

        Returns:
            (batch, D).
        """
        layout, time = self.layout, self.time(t, scalars)
        seen = [self.features.split(field) for field in all_fields(x, fields, self.fields)]
        whole, groups, blocks = zip(*seen, strict=True)
        own = [self.fixed_input(something(torch.cat(whole, -1), len(seen))).unsqueeze(1) + self.whole]
        for embed, position, parts in zip(self.token_inputs, self.positions, zip(*groups, strict=True), strict=True):
            own.append(embed(something(join(parts), len(seen))) + position)
        entering = zip(self.edge_inputs, zip(*blocks, strict=True), self.features.known(x), strict=True)
        edges = [embed(join([*parts, *constants])) for embed, parts, constants in entering]
        tokens = torch.cat(own, 1)
        for layer in self.layers:
            tokens, edges = layer(tokens, edges, time, layout)
        first, *rest = layout.split(self.norm(tokens))
        readers = (*self.token_outputs, *self.edge_outputs)
        found = [self.fixed_output(first.squeeze(1))]
        found += [read(part) for read, part in zip(readers, (*rest, *edges), strict=True)]
        # What has no features has an output all the same, as without one a layer could not be initialized.
        features = self.features
        widths = (features.whole_width, *features.node_widths, *features.edge_widths)
        whole, *others = (part[..., :width] for part, width in zip(found, widths, strict=True))
        return features.join(whole, others[: len(rest)], others[len(rest) :])


def something(features: Tensor, fields: int) -> Tensor:
    """Features, or a zero of each field where there is nothing to see, as without biases between hidden layers."""
    return features if features.shape[-1] else features.new_zeros(*features.shape[:-1], fields)
