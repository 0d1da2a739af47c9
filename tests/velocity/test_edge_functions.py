"""Functions on edges with backward passes of their own: derivatives, agreement with their definitions, what they keep."""

import pytest
import torch

from wflib.architecture import mlp
from wflib.graph import neural_graph
from wflib.velocity import edge_functions
from wflib.velocity.edge_blocks import EdgeBlocks
from wflib.velocity.edge_functions import edge_logits, gather_edges, update_edges
from wflib.velocity.relational_transformer import RelationalLayer

BATCH, TARGETS, SOURCES, FEATURES, HEADS = 3, 2, 4, 6, 2


def draw(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


EDGES, WEIGHT = (BATCH, TARGETS, SOURCES, FEATURES), (BATCH, FEATURES, FEATURES)


def logits_of_heads(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return edge_logits(*inputs, 2 * HEADS)


CASES = {
    logits_of_heads: draw(EDGES, (BATCH, TARGETS, 8), (BATCH, SOURCES, 8), (BATCH, FEATURES, 16)),
    gather_edges: draw(EDGES, (BATCH, TARGETS, HEADS, SOURCES), (BATCH, SOURCES, HEADS, TARGETS)),
    update_edges: draw(EDGES, EDGES, (BATCH, TARGETS, FEATURES), (BATCH, SOURCES, FEATURES), WEIGHT, WEIGHT),
}
over_functions = pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)


def outputs(function, inputs):
    found = function(*inputs)
    return found if isinstance(found, tuple) else (found,)


def derivatives(function, inputs) -> list[torch.Tensor]:
    """Outputs, and gradients of a sum of their squares."""
    found = outputs(function, inputs)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    return [*found, *torch.autograd.grad(sum(output.square().sum() for output in found), wanted)]


@over_functions
def test_derivatives_are_those_of_finite_differences(function):
    assert torch.autograd.gradcheck(function, CASES[function])


@over_functions
@pytest.mark.parametrize("part", [1, 2 * TARGETS * SOURCES * FEATURES, 2**18], ids=["single", "uneven", "whole"])
def test_parts_agree_with_the_definition(function, part, monkeypatch):
    monkeypatch.setattr(edge_functions, "PART", part)
    fast = derivatives(function, CASES[function])
    monkeypatch.setattr(edge_functions, "by_definition", lambda: True)
    for one, other in zip(fast, derivatives(function, CASES[function]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@over_functions
def test_transforms_follow_the_definition(function):
    inputs = [tensor.detach() for tensor in CASES[function]]
    tangents = [torch.ones_like(tensor) for tensor in inputs]
    _, forward = torch.func.jvp(lambda *given: outputs(function, given), tuple(inputs), tuple(tangents))
    _, pull = torch.func.vjp(lambda *given: outputs(function, given), *inputs)
    pulled = pull(forward)
    expected = sum(part.square().sum() for part in forward)
    torch.testing.assert_close(sum((a * b).sum() for a, b in zip(pulled, tangents, strict=True)), expected)
    stacked = torch.func.vmap(lambda *given: outputs(function, given))(
        *(torch.stack([given, 2 * given]) for given in inputs)
    )
    for part, whole in zip(outputs(function, [2 * given for given in inputs]), stacked, strict=True):
        torch.testing.assert_close(whole[1], part)


@over_functions
def test_a_gradient_is_the_same_whatever_else_is_frozen(function):
    count = len(CASES[function])
    for index, expected in enumerate(derivatives(function, CASES[function])[-count:]):
        inputs = [tensor.detach().requires_grad_(place == index) for place, tensor in enumerate(CASES[function])]
        *_, found = derivatives(function, inputs)
        torch.testing.assert_close(found, expected)
        assert float(found.abs().max()) > 0


@pytest.fixture
def layer_and_inputs():
    """A layer on one block of many edges between few nodes."""
    graph = neural_graph(mlp([24, 24]))
    edges = torch.randn(2, 24, 24, 8, requires_grad=True)
    return RelationalLayer(8, 2), (torch.randn(2, 48, 8), [edges], torch.randn(2, 8), EdgeBlocks(graph))


def test_a_layer_keeps_two_tensors_as_large_as_the_edges(layer_and_inputs):
    layer, inputs = layer_and_inputs
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = layer(*inputs)
    assert sum(size >= inputs[1][0].numel() for size in kept.values()) == 2
    del result


def test_a_compiled_layer_is_the_same_function():
    """Compiled by a backend that needs no compiler of the machine's: what is traced are the plain definitions."""
    torch.manual_seed(0)
    layer, graph = RelationalLayer(8, 2).double(), neural_graph(mlp([4, 3, 2]))
    with torch.no_grad():
        layer.modulation.weight.normal_(0, 0.3)
    inputs = [torch.randn(2, 9, 8), torch.randn(2, 3, 4, 8), torch.randn(2, 2, 3, 8), torch.randn(2, 8)]
    inputs = [given.double().requires_grad_() for given in inputs]
    traced = []

    def compiler(graph_module, _):
        traced.extend(str(node.target) for node in graph_module.graph.nodes)
        return graph_module.forward

    def run(function):
        nodes, edges = function(inputs[0], inputs[1:3], inputs[3], EdgeBlocks(graph))
        loss = sum(part.square().sum() for part in (nodes, *edges))
        return [nodes, *edges, *torch.autograd.grad(loss, [*inputs, *layer.parameters()])]

    for one, other in zip(run(torch.compile(layer, backend=compiler)), run(layer), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert any("bmm" in target for target in traced)
    assert not any("autograd_function" in target for target in traced)
