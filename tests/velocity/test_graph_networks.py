"""Networks on the neural graph: equivariance, agreement with all-pairs attention, any depth and width."""

import pytest
import torch

from tests.velocity.gradients import unfelt
from wflib.architecture import Architecture, mlp
from wflib.graph.pyg import to_data
from wflib.networks import Networks
from wflib.velocity.all_pairs import AllPairsTransformer
from wflib.velocity.pna import PNA, PNAConv
from wflib.velocity.relational_transformer import RelationalTransformer

CASES = {
    "one hidden layer": mlp([5, 4, 3]),
    "two hidden layers": mlp([5, 4, 6, 3]),
    "three, no bias": mlp([3, 4, 2, 5, 2], bias=False),
    "four": mlp([3, 4, 2, 5, 3, 2]),
    "output scale": mlp([5, 4, 6, 3]).canonical_form("weights"),
    "output scale, no bias": mlp([5, 4, 3], bias=False).canonical_form("weights"),
    "no hidden layer": mlp([4, 3]),
}
BATCH, TOLERANCE = 3, 1e-10
over_kinds = pytest.mark.parametrize("cls", [RelationalTransformer, PNA])


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """No parameter at its initial zero: an output of zeros is equivariant to everything."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    return model


def build(architecture: Architecture, heads: int = 2, cls: type = RelationalTransformer, **options) -> torch.nn.Module:
    return randomize(cls(architecture, 8, 2, heads, **options))


def draw(architecture: Architecture, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, architecture.dimension, generator=generator, dtype=torch.float64)
    return x, torch.rand(BATCH, generator=generator, dtype=torch.float64)


def permute(architecture: Architecture, x: torch.Tensor, groups: set[str], tensors: set[str] | None = None) -> torch.Tensor:
    """Roll the neurons of some groups by one, in all tensors or only in some."""
    weights = architecture.unflatten(x)
    for spec in architecture.tensors:
        for axis, group in enumerate(spec.axes, 1):
            if group in groups and (tensors is None or spec.name in tensors):
                weights[spec.name] = weights[spec.name].roll(1, axis)
    return architecture.flatten(weights)


def equivariance_error(model: torch.nn.Module, groups: set[str], tensors: set[str] | None = None) -> float:
    architecture = model.architecture
    x, t = draw(architecture)
    with torch.no_grad():
        moved = model(permute(architecture, x, groups, tensors), t)
        return float((moved - permute(architecture, model(x, t), groups, tensors)).abs().max())


@over_kinds
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_hidden_permutations_commute_with_the_field(case, heads, cls):
    architecture = CASES[case]
    model = build(architecture, heads, cls)
    x, t = draw(architecture)
    assert model(x, t).std() > 0.1
    for group in architecture.hidden_groups:
        assert equivariance_error(model, {group.name}) < TOLERANCE
    assert equivariance_error(model, {group.name for group in architecture.hidden_groups}) < TOLERANCE


@over_kinds
def test_other_permutations_do_not_commute(cls):
    model = build(CASES["two hidden layers"], cls=cls)
    assert equivariance_error(model, {"input"}) > 1e-3
    assert equivariance_error(model, {"output"}) > 1e-3
    assert equivariance_error(model, {"hidden1"}, {"linear1.weight"}) > 1e-3
    assert equivariance_error(model, {"hidden1"}, {"linear2.weight"}) > 1e-3
    assert equivariance_error(model, {"hidden1"}, {"linear1.weight", "linear1.bias"}) > 1e-3


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("case", CASES)
def test_block_form_is_masked_all_pairs_attention(case, heads):
    architecture = CASES[case]
    blocks, pairs = build(architecture, heads), build(architecture, heads, AllPairsTransformer)
    pairs.load_state_dict(blocks.state_dict())
    x, t = draw(architecture)
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    fields, gradients = [], []
    for model in (blocks, pairs):
        inputs = x.clone().requires_grad_()
        field = model(inputs, t)
        fields.append(field.detach())
        gradients.append(torch.autograd.grad((field * weight).sum(), [inputs, *model.parameters()]))
    torch.testing.assert_close(*fields, rtol=0, atol=TOLERANCE)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=TOLERANCE)


def test_pairs_without_an_edge_would_change_the_field():
    architecture = CASES["two hidden layers"]
    x, t = draw(architecture)
    masked, free = (build(architecture, cls=AllPairsTransformer, mask=mask) for mask in (True, False))
    assert (masked(x, t) - free(x, t)).abs().max() > 1e-3


@over_kinds
def test_parameters_serve_every_width(cls):
    architecture = CASES["output scale"]
    wide = architecture.with_widths({"hidden1": 9, "hidden2": 2})
    model = cls(wide, 8, 2, 2).double()
    model.load_state_dict(build(architecture, cls=cls).state_dict())
    assert model(*draw(wide)).shape == (BATCH, wide.dimension)
    assert equivariance_error(model, {"hidden1", "hidden2"}) < TOLERANCE


@over_kinds
def test_identities_break_the_symmetry_and_fix_the_width(cls):
    architecture = CASES["output scale"]
    model = build(architecture, cls=cls, identities=True)
    assert equivariance_error(model, {"hidden1"}) > 1e-3
    with pytest.raises(RuntimeError, match="positions"):
        cls(architecture.with_widths({"hidden1": 9}), 8, 2, 2, identities=True).load_state_dict(model.state_dict())


@over_kinds
@pytest.mark.parametrize("case", CASES)
def test_every_part_of_every_parameter_matters(case, cls):
    model = build(CASES[case], cls=cls)
    assert unfelt(model, *draw(CASES[case])) == []


@over_kinds
def test_time_changes_the_field_and_networks_do_not_mix(cls):
    architecture = CASES["two hidden layers"]
    model = build(architecture, cls=cls)
    x, t = draw(architecture)
    with torch.no_grad():
        field = model(x, t)
        assert (model(x, t + 0.1) - field).abs().max() > 1e-3
        torch.testing.assert_close(model(x[1:2], t[1:2]), field[1:2], rtol=0, atol=TOLERANCE)


@over_kinds
def test_starts_as_zero_and_checks_heads(cls):
    architecture = CASES["output scale"]
    x, t = draw(architecture)
    assert not cls(architecture, 8, 2, 2).double()(x, t).any()
    with pytest.raises(ValueError, match="divide dimension"):
        cls(architecture, 8, 2, 3)


@over_kinds
def test_runs_in_bfloat16_close_to_float32(cls):
    architecture = CASES["output scale"]
    model = build(architecture, cls=cls).float()
    x, t = (tensor.float() for tensor in draw(architecture))
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x, t)
    assert low.dtype == torch.float32
    exact = model(x, t)
    assert (low - exact).norm() < 0.05 * exact.norm()


@over_kinds
def test_forward_mode_derivative_agrees_with_reverse_mode(cls):
    architecture = CASES["one hidden layer"]
    model = build(architecture, cls=cls).requires_grad_(False)
    x, t = draw(architecture)
    tangent, cotangent = draw(architecture, 4)[0], draw(architecture, 5)[0]
    _, forward = torch.func.jvp(lambda value: model(value, t), (x,), (tangent,))
    _, pull = torch.func.vjp(lambda value: model(value, t), x)
    torch.testing.assert_close((forward * cotangent).sum(), (pull(cotangent)[0] * tangent).sum(), rtol=1e-10, atol=0)


@over_kinds
def test_divergence_of_many_directions_at_once_is_the_trace_of_the_jacobian(cls):
    architecture = CASES["one hidden layer"]
    model = build(architecture, cls=cls)
    x, t = (tensor[:1] for tensor in draw(architecture))
    with torch.no_grad():
        basis = torch.eye(architecture.dimension, dtype=x.dtype)[:, None]
        change = torch.func.vmap(lambda row: torch.func.jvp(lambda value: model(value, t), (x,), (row,))[1])(basis)
    jacobian = torch.autograd.functional.jacobian(lambda value: model(value, t), x)[0, :, 0]
    torch.testing.assert_close(change[:, 0].t(), jacobian, rtol=1e-9, atol=1e-9)


def test_pna_is_the_convolution_of_pytorch_geometric_on_the_exported_graph():
    architecture = CASES["two hidden layers"]
    model = build(architecture, cls=PNA)
    convolution, direction = model.layers[0].convolution, model.layers[0].direction
    graph, generator = model.graph, torch.Generator().manual_seed(4)
    nodes = torch.randn(1, graph.nodes, 8, generator=generator, dtype=torch.float64)
    sizes = [(architecture.size(block.target), architecture.size(block.source)) for block in graph.edges]
    edges = [torch.randn(1, *size, 8, generator=generator, dtype=torch.float64) for size in sizes]
    index = to_data(Networks.from_flat(architecture, draw(architecture)[0][:1]))
    flat = torch.cat([edge.flatten(1, 2) for edge in edges], 1)[0]
    expected = PNAConv.forward(convolution, nodes[0], index.edge_index, torch.cat([flat, flat + direction]))
    found = convolution(nodes, edges, direction, graph.edges, graph.place)
    torch.testing.assert_close(found[0], expected, rtol=0, atol=TOLERANCE)
