"""The loss' gradient as a field that networks see: value, symmetry, and its way through files, widths and likelihoods."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.zoo.test_compiled_training import needs_compiler
from wflib.architecture import Architecture, cnn, mlp, resnet
from wflib.config import load_settings
from wflib.flow import Coordinates, FlowTrainer, divergence, flow_for_zoo, load_flow, loss_gradient, sample, save_flow
from wflib.flow.geometry import build_geometry
from wflib.flow.loss_gradient import LossGradient
from wflib.manifold import flat_manifold
from wflib.networks import Networks
from wflib.rng import generator
from wflib.storage import ArtifactError
from wflib.tasks import Split
from wflib.testing import assert_equivariant
from wflib.zoo.compiled_training import compiled_gradients

GEOMETRIES = ("euclidean", "normalized", "geometric")
over_geometries = pytest.mark.parametrize("geometry", GEOMETRIES)
KINDS = ("neuron-tokens", "relational-transformer", "pna")


def scaled(architecture, gradient, sizes):
    parts = [(gradient[:, where], 0.1 * size) for where, size in zip(architecture.slices.values(), sizes, strict=True)]
    return torch.cat([part / (part.square().mean(1, keepdim=True) + size**2).sqrt() for part, size in parts], 1)


def field_of(architecture, examples):
    return LossGradient(Coordinates(architecture), build_geometry("euclidean", flat_manifold(architecture)), examples)


def some_points(flow, count=4, seed=0):
    return flow.geometry.project_prediction(flow.prior.sample(count, generator(seed, "points")).double())


def test_closed_form_of_a_linear_classifier():
    architecture, random = mlp([3, 2]), generator(0, "linear")
    inputs, targets = torch.randn(7, 3, generator=random, dtype=torch.float64), torch.arange(7) % 2
    field = field_of(architecture, Split(inputs, targets))
    x = torch.randn(5, architecture.dimension, generator=random, dtype=torch.float64)
    weights = architecture.unflatten(x)
    error = architecture.forward(weights, inputs).softmax(-1) - functional.one_hot(targets, 2)  # dL/df, times examples
    by_hand = architecture.flatten({"linear1.weight": error.transpose(1, 2) @ inputs / 7, "linear1.bias": error.mean(1)})
    torch.testing.assert_close(field(x), scaled(architecture, by_hand, torch.ones(2)))
    field.fit(x)
    sizes = [by_hand[:, where].square().mean().sqrt().item() for where in architecture.slices.values()]
    torch.testing.assert_close(field.sizes.tolist(), sizes, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(field(x), scaled(architecture, by_hand, field.sizes.double()))
    other = Split(inputs, 1 - targets)
    assert (field_of(architecture, other)(x) - field(x)).abs().max() > 0.1


def test_halves_squared_errors_of_regressions():
    architecture, random = mlp([3, 1], task_type="regression"), generator(0, "linear")
    inputs, targets = (torch.randn(7, size, generator=random, dtype=torch.float64) for size in (3, 1))
    field = field_of(architecture, Split(inputs, targets))
    x = torch.randn(5, architecture.dimension, generator=random, dtype=torch.float64)
    error = architecture.forward(architecture.unflatten(x), inputs) - targets
    by_hand = architecture.flatten({"linear1.weight": error.transpose(1, 2) @ inputs / 7, "linear1.bias": error.mean(1)})
    torch.testing.assert_close(field(x), scaled(architecture, by_hand, torch.ones(2)))


def test_batch_norms_are_in_training():
    """As by torch's module in training mode, whose running statistics move all the way; variances by their logarithms."""
    layers = [torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(12, 3)]
    module, random = torch.nn.Sequential(*layers).double(), generator(0, "images")
    architecture = Architecture.from_module(module, torch.zeros(2, 1, 4, 4, dtype=torch.float64))
    inputs, targets = torch.randn(7, 1, 4, 4, generator=random, dtype=torch.float64), torch.arange(7) % 3
    field = field_of(architecture, Split(inputs, targets))
    x = torch.randn(2, architecture.dimension, generator=random, dtype=torch.float64)
    found = architecture.unflatten(torch.cat(field.gradients(x), 1))
    for index, weights in enumerate(Networks.from_flat(architecture, x).state_dicts()):
        module.train().zero_grad()
        module.load_state_dict(weights, strict=False)
        module[1].momentum = 1.0
        functional.cross_entropy(module(inputs), targets).backward()
        expected = {name: tensor.grad for name, tensor in module.named_parameters()}
        mean, variance = module[1].running_mean, (module[1].running_var + module[1].eps).log()
        expected["1.running_mean"] = weights["1.running_mean"] - mean
        expected["1.running_var"] = weights["1.running_var"] - variance
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name][index], tensor)
    random_change = torch.randn(x.shape, generator=random, dtype=torch.float64)
    slope = torch.func.jvp(field, (x,), (random_change,))[1]
    ahead, behind = field(x + 1e-6 * random_change), field(x - 1e-6 * random_change)
    torch.testing.assert_close(slope, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    "network", [cnn((1, 5, 5), [3, 4], 3, pools=[2, 1]), resnet((1, 4, 4), [2, 3], 3)], ids=["cnn", "resnet"]
)
def test_kernels_find_what_torch_finds_and_torch_their_derivatives(network, geometry, monkeypatch):
    ordinary, random = geometry == "euclidean", generator(0, "images")
    architecture = network if ordinary else network.canonical_form()
    inputs, targets = torch.randn(21, *network.inputs, generator=random), torch.arange(21) % 3
    coordinates = Coordinates(architecture)
    field = LossGradient(coordinates, build_geometry(geometry, coordinates.manifold), Split(inputs, targets))
    x = torch.randn(4, architecture.dimension, generator=random)
    change, told = torch.randn(2, *x.shape, generator=random)
    torch.testing.assert_close(compiled_gradients(field.smooth, x, field.examples), field.by_torch(x), rtol=1e-4, atol=1e-5)

    def everything():
        value, slope = torch.func.jvp(field, (x,), (change,))
        (back,) = torch.func.vjp(field, x)[1](told)
        each = torch.func.vmap(lambda row: torch.func.jvp(field, (x,), (row.expand_as(x),))[1])(change)
        return value, slope, back, each

    ours = everything()
    monkeypatch.setattr(LossGradient, "for_kernels", lambda *_: False)
    for found, expected in zip(ours, everything(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@needs_compiler
def test_derivatives_of_derivatives_by_kernels_are_those_by_torch(monkeypatch):
    network, random = cnn((1, 5, 5), [3, 2], 3, pools=[2, 1]), generator(0, "images")
    field = field_of(network, Split(torch.randn(9, 1, 5, 5, generator=random), torch.arange(9) % 3))
    x, v = 0.6 * torch.randn(2, 3, network.dimension, generator=random)

    def along(point):
        return torch.func.jvp(field, (point,), (v,))[1]

    def back(point):
        return torch.func.vjp(field, point)[1](v)[0]

    def everything():
        forward = [torch.func.jvp(derivative, (x,), (v,))[1] for derivative in (along, back)]
        return [*forward, *(torch.func.vjp(derivative, x)[1](v)[0] for derivative in (along, back))]

    ours = everything()
    with monkeypatch.context() as patched:
        patched.setattr(LossGradient, "for_kernels", lambda *_: False)
        expected = everything()
    for found, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max().item())
    monkeypatch.setattr(loss_gradient, "transforms", list)
    assert (torch.func.jvp(along, (x,), (v,))[1] - expected[0]).abs().max() > 0.1 * expected[0].abs().max()


@needs_compiler
@pytest.mark.parametrize("network", [cnn((1, 5, 5), [3], 3, pools=[2]), resnet((1, 4, 4), [2], 3)], ids=["cnn", "resnet"])
def test_derivatives_by_kernels_are_not_rounded_where_others_are(network):
    """As where ``backward`` is called within ``autocast``: second derivatives in bfloat16 are wrong by a tenth, or fail."""
    random = generator(0, "images")
    field = field_of(network, Split(torch.randn(9, *network.inputs, generator=random), torch.arange(9) % 3))
    x, v = 0.6 * torch.randn(2, 3, network.dimension, generator=random)

    def back(coarse):
        point = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
            return torch.autograd.grad(torch.cat(field.gradients(point), 1), point, v)[0]

    assert torch.equal(back(True), back(False))


def test_vanishing_gradients_are_zero_and_differentiable():
    architecture = mlp([2, 3, 2])
    split = Split(torch.ones(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.int64))
    field = field_of(architecture, split)
    dead = torch.zeros(1, architecture.dimension, dtype=torch.float64)
    dead[:, architecture.slices["linear2.bias"]] = torch.tensor([1e4, 0.0])  # certain and right
    value, change = torch.func.jvp(field, (dead,), (torch.ones_like(dead),))
    assert torch.equal(value, torch.zeros_like(dead))
    assert change.isfinite().all()


@over_geometries
def test_it_is_tangent_and_about_one_in_training(geometry, make_flow, training_config, dataset):
    flow, zoo = make_flow(geometry, gradient_examples=16)
    trainer = FlowTrainer(flow, zoo, training_config(), dataset.train)
    seen = flow.loss_gradient(trainer.validation.x_t)
    for where in flow.architecture.slices.values():
        assert 0.5 < seen[:, where].square().mean().sqrt() < 1
    flow, x = flow.double(), some_points(flow)
    found = torch.cat(flow.loss_gradient.gradients(x), 1)
    if geometry == "geometric":
        torch.testing.assert_close(flow.geometry.tangent(x, found), found)
        assert (flow.geometry.tangent(x, found + x) - found - x).abs().max() > 1e-2


@over_geometries
@pytest.mark.parametrize("kind", KINDS)
def test_flows_that_see_it_stay_equivariant(geometry, kind, make_flow, randomized):
    flow, _ = make_flow(geometry, kind=kind, gradient_examples=16)
    randomized(flow.double().network)
    x, t = some_points(flow), torch.full((4,), 0.4, dtype=torch.float64)
    random = generator(1, "permutations")
    assert_equivariant(flow.loss_gradient, flow.architecture, x, random, 1e-10)
    assert_equivariant(lambda point: flow.velocity(point, t), flow.architecture, x, random, 1e-10)

    def slanted(point):
        return flow.loss_gradient(point) + torch.linspace(0, 1, point.shape[1], dtype=torch.float64)

    with pytest.raises(ValueError, match="equivariant"):
        assert_equivariant(slanted, flow.architecture, x, random, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_feel_every_weights_gradient(kind, make_flow, randomized):
    flow, _ = make_flow("geometric", kind=kind, gradient_examples=16)
    network, count = randomized(flow.double().network), flow.architecture.dimension
    random = generator(2, "fields")
    x, seen, t = torch.randn(1, count, generator=random), torch.randn(1, 1, count, generator=random), torch.tensor([0.3])
    x, seen, t = x.double(), seen.double(), t.double()
    change = torch.func.jacrev(lambda fields: network(x, t, None, fields))(seen).squeeze()
    assert (change.abs().amax(0) > 1e-8).all()


@over_geometries
def test_files_keep_the_examples(geometry, make_flow, randomized, tmp_path):
    flow, _ = make_flow(geometry, gradient_examples=16)
    randomized(flow.network)
    save_flow(tmp_path / "flow.safetensors", flow)
    loaded = load_flow(tmp_path / "flow.safetensors")
    assert torch.equal(loaded.examples.inputs, flow.examples.inputs)
    assert torch.equal(loaded.examples.targets, flow.examples.targets)
    ours, theirs = (sample(model, 3, 2, generator(0, "sample")) for model in (flow.eval(), loaded))
    assert torch.equal(ours, theirs)
    loaded.loss_gradient.targets = 1 - loaded.loss_gradient.targets
    assert not torch.equal(ours, sample(loaded, 3, 2, generator(0, "sample")))


def test_files_without_their_examples_are_refused(make_flow, tmp_path, monkeypatch):
    flow, _ = make_flow(gradient_examples=16)
    state = flow.state_dict()
    del state["loss_gradient.inputs"]
    monkeypatch.setattr(flow, "state_dict", lambda: state)
    save_flow(tmp_path / "flow.safetensors", flow)
    with pytest.raises(ArtifactError, match=r"loss_gradient\.inputs"):
        load_flow(tmp_path / "flow.safetensors")


def test_the_same_function_in_rotated_axes(make_flow):
    basis = torch.linalg.qr(torch.randn(5, 5, generator=generator(0, "basis")))[0]
    (plain, _), (rotated, _) = make_flow(gradient_examples=16), make_flow(basis=basis, gradient_examples=16)
    x = some_points(plain)
    turned = rotated.coordinates.encode(Networks(rotated.coordinates.architecture, plain.architecture.unflatten(x)))
    there = rotated.double().loss_gradient(turned)
    back = rotated.coordinates.decode_state(there).flat
    torch.testing.assert_close(back, plain.double().loss_gradient(x), rtol=1e-5, atol=1e-5)


def test_leading_directions_only(make_flow, randomized):
    basis = torch.eye(5)
    (whole, _), (some, _) = (make_flow(basis=basis, directions=count, gradient_examples=16) for count in (0, 2))
    x = some_points(whole)
    found, everything = some.double().loss_gradient(x), torch.cat(whole.double().loss_gradient.gradients(x), 1)
    part, places = some.coordinates.leading(2)
    torch.testing.assert_close(found, scaled(part, everything[:, places], torch.ones(6)))
    randomized(some.network)
    assert some.velocity(x, torch.full((4,), 0.3, dtype=torch.float64)).isfinite().all()


def test_the_divergence_counts_its_change(make_flow, randomized):
    flow, _ = make_flow("geometric", gradient_examples=16)
    randomized(flow.double().network)
    x, t = some_points(flow, 2), torch.full((2,), 0.4, dtype=torch.float64)
    _, found = divergence(flow.velocity, flow.geometry, x, t)
    step, total = 1e-6, torch.zeros(2, dtype=torch.float64)
    for direction in torch.eye(x.shape[1], dtype=torch.float64):
        tangent = flow.geometry.tangent(x, direction.expand_as(x))
        change = (flow.velocity(x + step * tangent, t) - flow.velocity(x - step * tangent, t)) / (2 * step)
        total += (tangent * change).sum(1)
    torch.testing.assert_close(found, total, rtol=1e-4, atol=1e-4)


def test_derivatives_miss_no_jumps(make_flow, monkeypatch):
    """What the fundamental theorem of calculus says along a segment, which crosses kinks of ReLU networks."""

    def missed():
        flow, _ = make_flow(gradient_examples=16)
        x, way = some_points(flow.double()), 0.3 * some_points(flow, seed=1)
        places = ((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None, None]
        points = (x + places * way).flatten(0, 1)
        _, slopes = torch.func.jvp(flow.loss_gradient, (points,), (way.repeat(400, 1),))
        change = flow.loss_gradient(x + way) - flow.loss_gradient(x)
        return ((slopes.view(400, *x.shape).mean(0) - change).norm() / change.norm()).item()

    assert missed() < 1e-3
    monkeypatch.setattr(loss_gradient, "SMOOTH", {})
    assert missed() > 0.1


def test_other_widths_see_the_same_examples(make_flow, randomized):
    flow, _ = make_flow("geometric", gradient_examples=16)
    randomized(flow.network)
    wide = flow.with_widths({"hidden1": 9})
    assert torch.equal(wide.examples.inputs, flow.examples.inputs)
    assert sample(wide, 3, 2, generator(0, "sample")).isfinite().all()


@pytest.mark.parametrize("rotated", [False, True])
@over_geometries
def test_another_tasks_gradient_is_seen_in_the_place_of_the_own_one(make_flow, randomized, geometry, rotated):
    basis = torch.linalg.qr(torch.randn(5, 5, generator=generator(0, "basis")))[0] if rotated else None
    flow, _ = make_flow(geometry, gradient_examples=16, basis=basis)
    randomized(flow.network)
    wide, x, t = flow.with_widths({"hidden1": 9}), some_points(flow).float(), torch.full((4,), 0.5)
    inputs, targets = flow.examples.inputs, flow.examples.targets
    own = Split(inputs @ flow.coordinates.rotate_inputs(torch.eye(5)).T, targets)  # turned back
    torch.testing.assert_close(flow.with_examples(own).predict(x, t)[0], flow.predict(x, t)[0])
    other = Split(own.inputs.flip(0)[:5], targets[:5])
    aimed = flow.with_examples(other)
    assert (aimed.predict(x, t)[0] - flow.predict(x, t)[0]).abs().max() > 1e-3
    seen = LossGradient(flow.coordinates, flow.geometry, Split(flow.coordinates.rotate_inputs(other.inputs), other.targets))
    seen.sizes.copy_(flow.loss_gradient.sizes)
    torch.testing.assert_close(aimed.loss_gradient(x), seen(x))
    assert sample(wide.with_examples(other), 3, 2, generator(0, "sample")).isfinite().all()


def test_flows_that_see_no_gradient_have_no_examples_to_exchange(make_flow):
    flow, _ = make_flow()
    with pytest.raises(ValueError, match="with_examples: this flow sees no loss"):
        flow.with_examples(Split(torch.zeros(2, 3), torch.zeros(2).long()))


def test_examples_and_setting_go_together(make_flow):
    flow, _ = make_flow(gradient_examples=16)
    given = (flow.config, flow.velocity_config, flow.coordinates, 0.5)
    with pytest.raises(ValueError, match="gradient_examples: 16 needs the task's training examples"):
        type(flow)(*given)
    without = flow.velocity_config.model_copy(update={"gradient_examples": 0})
    with pytest.raises(ValueError, match="gradient_examples: 0 needs no examples"):
        type(flow)(flow.config, without, flow.coordinates, 0.5, examples=flow.examples)


def test_examples_fit_the_coordinates(make_flow):
    flow, _ = make_flow(gradient_examples=16)
    given = (flow.config, flow.velocity_config, flow.coordinates, 0.5)
    wrong = Split(torch.randn(3, 7), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected examples with inputs \(examples, 5\), got \(3, 7\)"):
        type(flow)(*given, examples=wrong)
    uneven = Split(torch.randn(3, 5), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="and 2 targets"):
        type(flow)(*given, examples=uneven)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_want_all_their_fields(kind, make_flow):
    flow, _ = make_flow(kind=kind, gradient_examples=16)
    x, t = flow.prior.sample(2, generator(0, "x")), torch.zeros(2)
    with pytest.raises(ValueError, match="sees 1 fields over the weights besides x, got 0"):
        flow.network(x, t)
    with pytest.raises(ValueError, match="sees 1 fields over the weights besides x, got 2"):
        flow.network(x, t, None, x.unsqueeze(1).expand(-1, 2, -1))


def test_flows_for_a_zoo_draw_their_examples_by_seed(zoo, dataset):
    changes = ["velocity.dimension=8", "velocity.layers=1", "velocity.edge_dimension=4"]
    settings = load_settings(changes=[*changes, "velocity.gradient_examples=10"])
    one, again = (flow_for_zoo(settings, zoo, dataset.train).examples for _ in range(2))
    assert torch.equal(one.inputs, again.inputs)
    assert one.inputs.shape == (10, 5)
    rows = [torch.nonzero((dataset.train.inputs == row).all(1)).item() for row in one.inputs]
    assert torch.equal(one.targets, dataset.train.targets[rows])
    settings = load_settings(changes=[*changes, "velocity.gradient_examples=10", "training.seed=1"])
    assert not torch.equal(flow_for_zoo(settings, zoo, dataset.train).examples.inputs, one.inputs)
    all_of_them = flow_for_zoo(load_settings(changes=[*changes, "velocity.gradient_examples=999"]), zoo, dataset.train)
    assert len(all_of_them.examples.inputs) == len(dataset.train.inputs)
    assert (
        flow_for_zoo(load_settings(changes=[*changes, "velocity.gradient_examples=0"]), zoo, dataset.train).examples is None
    )


@over_geometries
def test_trained_flows_predict_worse_from_wrong_gradients(geometry, make_flow, training_config, dataset):
    flow, zoo = make_flow(geometry, gradient_examples=64, coupling="initialization")
    trainer = FlowTrainer(flow, zoo, training_config(iterations=150, validate_every=150), dataset.train)
    trainer.run()
    right = trainer.validation_loss()
    flow.loss_gradient.targets = 1 - flow.loss_gradient.targets
    assert trainer.validation_loss() > 1.02 * right
