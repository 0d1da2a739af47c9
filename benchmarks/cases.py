"""What is measured: one training step of a velocity network on random weights, and the operations that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from wflib.architecture import Architecture, mlp
from wflib.graph import neural_graph
from wflib.velocity import NeuronTokens, RelationalTransformer, compile_parts
from wflib.velocity.all_pairs import AllPairsTransformer
from wflib.velocity.pna import PNA


@dataclass(frozen=True)
class Case:
    """A velocity network on a base architecture, and a batch."""

    kind: str
    widths: tuple[int, ...]
    dimension: int
    layers: int
    batch: int
    precision: str = "float32"
    compiled: bool = False

    @property
    def name(self) -> str:
        """What the case is, for people."""
        size = f"{'-'.join(map(str, self.widths))}, d = {self.dimension}, batch {self.batch}"
        return f"{self.label}, {size}, {self.precision}"

    @property
    def label(self) -> str:
        """The kind, and whether its layers are compiled."""
        return f"{self.kind}, compiled" if self.compiled else self.kind

    @property
    def architecture(self) -> Architecture:
        """The base network whose weights are the coordinates."""
        return mlp(list(self.widths))

    def build(self) -> nn.Module:
        """The velocity network."""
        torch.manual_seed(0)
        architecture, d, layers = self.architecture, self.dimension, self.layers
        return {
            "neuron-tokens": lambda: NeuronTokens(architecture, d, max(d // 4, 4), layers, 4),
            "relational-transformer": lambda: RelationalTransformer(architecture, d, layers, 1),
            "pna": lambda: PNA(architecture, d, layers, 4),
            "all-pairs": lambda: AllPairsTransformer(architecture, d, layers, 1, mask=False),
        }[self.kind]()

    def step(self) -> Callable[[], None]:
        """A function that runs forward, backward and Adam once."""
        network = self.build()
        if self.compiled:
            compile_parts(network)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, foreach=True)
        random = torch.Generator().manual_seed(0)
        x, target = (torch.randn(self.batch, self.architecture.dimension, generator=random) for _ in range(2))
        t = torch.rand(self.batch, generator=random)

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
                field = network(x, t)
            (field - target).square().mean().backward()
            optimizer.step()

        return run

    def needed_operations(self) -> float:
        """Floating-point operations that one relational-transformer step needs, forward and backward.

        Per layer and edge, four d × d products: query and key of both directions (half as wide as nodes), and two for the
        edge's update. Per layer and node, eleven: 2 · 2 for queries, keys and values as target and as source, 1 behind the
        attention, 4 in the two-layer network, 2 for the edges' update. A multiply-add counts 2, the backward pass twice
        the forward pass.
        """
        graph = neural_graph(self.architecture)
        edges = sum(self.architecture.size(b.target) * self.architecture.size(b.source) for b in graph.edges)
        products = 4 * edges + 11 * graph.nodes
        return 3 * 2 * self.dimension**2 * products * self.layers * self.batch
