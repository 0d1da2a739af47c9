"""Parts of velocity networks that are compiled: something is, and it computes the same."""

import pytest
import torch

from wflib.architecture import mlp
from wflib.velocity import NeuronTokens, RelationalTransformer, compile_parts
from wflib.velocity.pna import PNA

ARCHITECTURE = mlp([5, 4, 6, 3])
KINDS = {
    "neuron-tokens": lambda: NeuronTokens(ARCHITECTURE, 8, 4, 2, 2),
    "relational-transformer": lambda: RelationalTransformer(ARCHITECTURE, 8, 2, 2),
    "pna": lambda: PNA(ARCHITECTURE, 8, 2, 2),
}
READ_ON_THEIR_OWN = {"neuron-tokens": 0, "relational-transformer": 1, "pna": 1}
"""Kinds whose edges are read by parts that are compiled, too."""


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at those of tensors that have none
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_parts_compute_the_same(kind):
    torch.manual_seed(0)
    torch._dynamo.reset()
    network = KINDS[kind]().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.4)
    x, t = torch.randn(3, ARCHITECTURE.dimension, dtype=torch.float64), torch.rand(3, dtype=torch.float64)

    def run() -> list[torch.Tensor]:
        field = network(x, t)
        return [field, *torch.autograd.grad(field.square().sum(), list(network.parameters()), allow_unused=True)]

    compiled = []

    def backend(graph: torch.fx.GraphModule, _: list) -> object:
        compiled.append(graph)
        return graph.forward

    before = run()
    compile_parts(network, backend=backend)
    assert not compiled
    for one, other in zip(run(), before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert len(compiled) > READ_ON_THEIR_OWN[kind]
