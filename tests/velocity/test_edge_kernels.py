"""Kernels for edges: what layers in blocks compute, in float32; when they are used, and what happens without a compiler."""

import shutil

import pytest
import torch

from wflib.architecture import mlp
from wflib.compiled import compiler
from wflib.velocity import RelationalTransformer, compile_parts, edge_kernels
from wflib.velocity.edge_kernels import relational_attention, relational_update
from wflib.velocity.kernel_library import build_kernels

needs_compiler = pytest.mark.skipif(shutil.which(compiler()[0]) is None, reason=f"There is no {compiler()[0]} here.")
CASES = {
    "fewer edges than a part": ([3, 2, 2], 16, 1),
    "many parts": ([20, 9, 11, 2], 32, 1),
    "heads": ([7, 5, 6, 3], 32, 4),
    "keys of three features": ([5, 4, 2], 48, 8),
    "queries wider than nodes": ([5, 4, 2], 48, 16),
    "five vectors": ([5, 4, 2], 80, 1),
}
ENDS = torch.cat(
    [torch.cartesian_prod(torch.arange(3, 5), torch.arange(3)), torch.cartesian_prod(torch.arange(5, 7), torch.arange(3, 5))]
)
ENDS = ENDS.t().int().contiguous()
"""Of the edges of a network 3-2-2."""
over_cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def random_network(widths: list[int], dimension: int, heads: int, spread: float = 0.3) -> RelationalTransformer:
    torch.manual_seed(0)
    network = RelationalTransformer(mlp(widths), dimension, 2, heads)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=spread * parameter.shape[-1] ** -0.5)
    return network


def inputs(network: RelationalTransformer, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(batch, network.architecture.dimension, generator=random), torch.rand(batch, generator=random)


def results(network: RelationalTransformer, x: torch.Tensor, t: torch.Tensor) -> list[torch.Tensor]:
    """The field, and the gradients of a sum of its squares at x and at every parameter that it depends on."""
    x = x.to(network.edge_inputs.dtype).requires_grad_()
    field = network(x, t.to(x.dtype))
    found = torch.autograd.grad(field.square().sum(), [x, *network.parameters()], allow_unused=True)
    return [field.detach(), *(gradient for gradient in found if gradient is not None)]


def errors(found: list[torch.Tensor], exact: list[torch.Tensor]) -> torch.Tensor:
    """Relative to the norm of each result."""
    pairs = zip(found, exact, strict=True)
    return torch.stack([(one.double() - other).norm() / (1e-6 + other.norm()) for one, other in pairs])


@needs_compiler
@over_cases
def test_kernels_compute_what_blocks_do(case):
    network = random_network(*case)
    x, t = inputs(network)
    exact, by_blocks = results(network.double(), x, t), results(network.float(), x, t)
    assert network.use_kernels()
    by_kernels = results(network, x, t)
    assert not all(torch.equal(one, other) for one, other in zip(by_kernels, by_blocks, strict=True))
    assert (errors(by_kernels, exact) < 4e-6 + 4 * errors(by_blocks, exact)).all()
    # The same edges between other nodes are another function.
    network.kernels.ends = network.kernels.ends.flip(1)
    assert errors(results(network, x, t), exact).max() > 1e-2


@needs_compiler
def test_saturated_attention_and_activations_stay_exact():
    """Logits of hundreds and inputs of the activation of tens: nothing overflows, and the largest share is 1."""
    network = random_network([6, 4, 3], 16, 2, spread=8)
    x, t = inputs(network)
    exact, by_blocks = results(network.double(), x, t), results(network.float(), x, t)
    network.use_kernels()
    by_kernels = results(network, x, t)
    assert all(torch.isfinite(found).all() for found in by_kernels)
    assert (errors(by_kernels, exact) < 2e-6 + 10 * errors(by_blocks, exact)).all()


@needs_compiler
def test_threads_change_nothing():
    """Of both operations and their gradients; more threads than networks included."""
    random, threads = torch.Generator().manual_seed(0), torch.get_num_threads()

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random).requires_grad_()

    edges, nodes, weight = draw(5, 10, 16), [draw(5, 7, 32), draw(5, 7, 32)], draw(5, 16, 32)
    ends, weights, found = [draw(5, 7, 16), draw(5, 7, 16)], [draw(5, 16, 16), draw(5, 16, 16)], []
    try:
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            mixed, carried, passed, _ = relational_attention(edges, *nodes, weight, ENDS, 2)
            updated = relational_update(edges, passed, *ends, *weights, ENDS, 2)
            loss = mixed.square().sum() + carried.square().sum() + updated.square().sum()
            wanted = [edges, *nodes, weight, *ends, *weights]
            found.append([mixed, carried, updated, *torch.autograd.grad(loss, wanted)])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@needs_compiler
@pytest.mark.parametrize("operation", ["attention", "update"])
def test_operations_keep_the_rules_of_their_library(operation):
    """Schemas, shapes and strides that a compiler is told, gradients."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random).requires_grad_()

    edges = draw(2, 10, 16)
    if operation == "attention":
        given = (edges, draw(2, 7, 32), draw(2, 7, 32), draw(2, 16, 32), ENDS, 2)
        torch.library.opcheck(relational_attention, given)
    else:
        given = (edges, draw(2, 10, 16), draw(2, 7, 16), draw(2, 7, 16), draw(2, 16, 16), draw(2, 16, 16), ENDS, 2)
        torch.library.opcheck(relational_update, given)


@needs_compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at those of tensors that have none
def test_compiled_layers_use_them():
    torch._dynamo.reset()
    network = random_network(*CASES["heads"])
    x, t = inputs(network)
    exact, by_blocks, traced = results(network.double(), x, t), results(network.float(), x, t), []

    def backend(graph: torch.fx.GraphModule, _: list) -> object:
        traced.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    compile_parts(network, backend=backend)
    assert (errors(results(network, x, t), exact) < 2e-6 + 4 * errors(by_blocks, exact)).all()
    assert {"wflib.relational_attention.default", "wflib.relational_update.default"} <= set(traced)


@needs_compiler
def test_other_edges_stay_in_blocks(monkeypatch):
    """Float64, autocast and transforms of torch.func are not for the kernels; widths that do not fit have none."""
    network = random_network([3, 2, 2], 16, 1)
    x, t = inputs(network)
    network.use_kernels()
    monkeypatch.setattr(edge_kernels, "run", lambda *_: pytest.fail("a kernel ran"))
    results(network.double(), x, t)
    network.float()
    with torch.autocast("cpu", torch.bfloat16):
        network(x, t)
    torch.func.jvp(lambda given: network(given, t), (x,), (torch.ones_like(x),))
    with pytest.raises(pytest.fail.Exception, match="a kernel ran"):
        network(x, t)
    without = random_network([3, 2, 2], 16, 1)
    compile_parts(without, kernels=False)
    assert without.kernels is None
    assert not random_network([3, 2, 2], 8, 1).use_kernels()
    assert not random_network([3, 2, 2], 24, 1).use_kernels()


@needs_compiler
def test_what_a_kernel_would_misread_is_refused():
    network = random_network([3, 2, 2], 16, 2)
    x, t = inputs(network)
    network.use_kernels()
    with pytest.raises(ValueError, match=r"expected a tensor of 3 × … torch\.float32 on cpu, found 1 ×"):
        network(x, t[:1])
    edges, ends = torch.randn(2, 10, 16), ENDS.t().contiguous().t()
    given = torch.randn(2, 7, 32), torch.randn(2, 7, 32), torch.randn(2, 16, 32)
    with pytest.raises(ValueError, match=r"found 2 × … torch\.float64"):
        relational_attention(edges, given[0].double(), *given[1:], ENDS, 2)
    with pytest.raises(ValueError, match=r"torch\.int32 on cpu, found 2 × … torch\.int64"):
        relational_attention(edges, *given, ENDS.long(), 2)
    pairs = zip(relational_attention(edges, *given, ends, 2), relational_attention(edges, *given, ENDS, 2), strict=True)
    assert not ends.is_contiguous()
    assert all(torch.equal(one, other) for one, other in pairs)


@needs_compiler
def test_one_library_serves_a_network(monkeypatch):
    built = []
    monkeypatch.setattr(edge_kernels, "build_kernels", lambda *sizes: built.append(sizes) or build_kernels(*sizes))
    network = random_network(*CASES["heads"])
    network.use_kernels()
    results(network, *inputs(network))
    assert set(built) == {(32, 4)}


def test_a_library_that_cannot_be_loaded_is_named(monkeypatch, tmp_path):
    """Here one of no bytes: a compiler that does nothing leaves it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "true")
    build_kernels.cache_clear()
    with pytest.raises(RuntimeError, match=rf"training\.compile.*{tmp_path}.*XDG_CACHE_HOME"):
        build_kernels(16, 1)
    build_kernels.cache_clear()


@pytest.mark.parametrize(("command", "said"), [("no-such-compiler", "was not found"), ("false", "cannot compile")])
def test_a_missing_or_failing_compiler_is_named(command, said, monkeypatch):
    monkeypatch.setenv("CXX", command)
    build_kernels.cache_clear()
    with pytest.raises(RuntimeError, match=rf"training\.compile(.|\n)*{command}(.|\n)*{said}(.|\n)*CXX"):
        random_network([3, 2, 2], 16, 1).use_kernels()
    build_kernels.cache_clear()
