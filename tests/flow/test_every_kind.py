"""Flows over convolutional, residual and attentive networks: coordinates, priors, training, draws, likelihoods."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.architecture.cases import random_inputs, random_networks
from wflib.architecture import Architecture, cnn, resnet, vit
from wflib.config import load_settings
from wflib.flow import (
    Coordinates,
    FlowTrainer,
    PairSource,
    draw_networks,
    flow_for_zoo,
    load_flow,
    log_likelihood_of_coordinates,
    log_likelihood_of_networks,
    save_flow,
)
from wflib.flow.loss_gradient import LossGradient
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import canonicalize, permute
from wflib.tasks import Dataset, Split
from wflib.testing import assert_equivariant, assert_invariant
from wflib.zoo import Zoo, align_zoo, canonical_zoo, initialize, train_zoo

KINDS = {
    "cnn": cnn((1, 4, 4), [3, 4], 2, pools=[2, 1]),
    "cnn with batch norm": cnn((1, 4, 4), [3, 4], 2, norm="batch", pools=[2, 1]),
    "resnet": resnet((1, 4, 4), [3, 4], 2),
    "vit": vit((1, 4, 4), 4, [5], 2),
}
GEOMETRIES = ("euclidean", "normalized", "geometric")
over_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def images() -> Dataset:
    random = generator(0, "images")

    def split(count: int) -> Split:
        inputs = torch.randn(count, 1, 4, 4, generator=random)
        return Split(inputs, (inputs[:, 0, :2].sum((1, 2)) > 0).long())

    return Dataset("toy", "classification", 2, split(64), split(16), split(16))


def settings(geometry: str, *changes: str):
    return load_settings(
        changes=[
            *("velocity.dimension=8", "velocity.edge_dimension=4", "velocity.layers=1", "velocity.heads=2"),
            *(
                "training.iterations=3",
                "training.batch_size=16",
                "training.precision=float32",
                "training.compile=false",
                "training.loss=standardized",
            ),
            *("zoo.epochs=3", "zoo.skip_epochs=1", "zoo.snapshot_every=4", "zoo.networks=10", "zoo.batch_size=16"),
            *("zoo.init=he", "velocity.basis=none", "velocity.directions=0", f"flow.geometry={geometry}", *changes),
        ]
    )


@pytest.fixture(scope="module")
def zoos(images) -> dict[tuple[str, str], Zoo]:
    """Kind and form → a zoo, aligned ones with initial weights."""
    found = {}
    for kind, architecture in KINDS.items():
        config = settings("euclidean")
        aligned = align_zoo(train_zoo(architecture, images, config.zoo), config.align, images)
        found[kind, "aligned"], found[kind, "canonical"] = aligned, canonical_zoo(aligned)
    return found


def zoo_for(zoos: dict[tuple[str, str], Zoo], kind: str, geometry: str) -> Zoo:
    return zoos[kind, "aligned" if geometry == "euclidean" else "canonical"]


def coordinates_and_networks(kind: str, canonical: bool) -> tuple[Coordinates, Networks]:
    networks = random_networks(KINDS[kind])
    if canonical:
        networks = canonicalize(networks).networks
    return Coordinates(networks.architecture), networks


@over_kinds
@pytest.mark.parametrize("canonical", [False, True])
def test_coordinates_there_and_back(kind, canonical):
    coordinates, networks = coordinates_and_networks(kind, canonical)
    x = coordinates.encode(networks)
    assert torch.allclose(coordinates.decode_state(x).flat, networks.flat, atol=1e-12)
    inputs = random_inputs(coordinates.architecture)
    expected = networks.forward(inputs)
    assert torch.allclose(coordinates.chart.forward(coordinates.chart.unflatten(x), inputs), expected, atol=1e-10)
    ordinary = coordinates.decode(x)
    assert ordinary.architecture == KINDS[kind]
    assert torch.allclose(ordinary.forward(inputs), expected, atol=1e-10)
    assert torch.allclose(coordinates.manifold.projx(x), x, atol=1e-12)
    assert Architecture.from_json(coordinates.chart.to_json()) == coordinates.chart


@pytest.mark.parametrize("canonical", [False, True])
def test_any_coordinates_are_a_network_with_variances(canonical):
    coordinates, _ = coordinates_and_networks("cnn with batch norm", canonical)
    x = 5 * torch.randn(20, coordinates.architecture.dimension, generator=generator(0, "x"), dtype=torch.float64)
    networks = coordinates.decode(coordinates.manifold.projx(x))
    variances = [tensor for name, tensor in networks.weights.items() if name.endswith("running_var")]
    assert len(variances) == 2
    assert all((variance >= 0).all() for variance in variances)
    assert torch.isfinite(networks.forward(random_inputs(networks.architecture))).all()
    plain = coordinates.architecture.unflatten(x)  # as numbers themselves they would be none
    assert any((plain[name] < 0).any() for name in networks.weights if name.endswith("running_var"))


def test_directions_are_of_inputs_that_are_vectors():
    with pytest.raises(
        ValueError, match=r"velocity\.basis: data: expected inputs that are vectors.*convolution.*basis: none"
    ):
        Coordinates(KINDS["cnn"], torch.eye(1))
    with pytest.raises(ValueError, match=r"velocity\.directions: 3: expected inputs that are vectors"):
        Coordinates(KINDS["vit"]).leading(3)
    assert len(Coordinates(KINDS["vit"]).leading(0)[1]) == KINDS["vit"].dimension


@over_kinds
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_flow_is_trained_saved_and_drawn_from(kind, geometry, zoos, images, tmp_path):
    zoo, config = zoo_for(zoos, kind, geometry), settings(geometry, "flow.coupling=initialization")
    trainer = FlowTrainer(flow_for_zoo(config, zoo, images.train), zoo, config.training, images.train)
    flow = trainer.run()
    save_flow(tmp_path / "flow.safetensors", flow)
    again = load_flow(tmp_path / "flow.safetensors")
    drawn, same = (draw_networks(some, 4, steps=3) for some in (flow, again))
    assert drawn.architecture == KINDS[kind]
    assert all(torch.equal(drawn.weights[name], same.weights[name]) for name in drawn.weights)
    assert drawn.module()(images.test.inputs).shape == (4, 16, 2)
    drawn.modules()[0].load_state_dict(drawn[0])


@over_kinds
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("velocity", ["neuron-tokens", "relational-transformer", "pna"])
def test_velocities_commute_with_permutations(kind, geometry, velocity, zoos, images):
    zoo = zoo_for(zoos, kind, geometry)
    config = settings(geometry, f"velocity.kind={velocity}", "velocity.gradient_examples=8", "flow.coupling=independent")
    flow = flow_for_zoo(config, zoo, images.train).double()
    random = generator(0, "parameters")
    with torch.no_grad():
        for parameter in flow.network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
    flow.requires_grad_(False)
    x = flow.prior.sample(3, random).double()
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    assert flow.velocity(x, t).std() > 1e-3
    assert_equivariant(lambda point: flow.velocity(point, t), flow.architecture, x, random, 1e-8)
    slope = torch.linspace(0, 1, x.shape[1], dtype=torch.float64)
    with pytest.raises(ValueError, match="equivariant"):
        assert_equivariant(lambda point: flow.velocity(point, t) + slope, flow.architecture, x, random, 1e-8)


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
@pytest.mark.parametrize("kind", ["cnn with batch norm", "vit"])
def test_likelihoods_ignore_the_order_of_neurons(kind, geometry, zoos, images):
    zoo = zoo_for(zoos, kind, geometry)
    config = settings(geometry, "flow.coupling=independent", "velocity.gradient_examples=0")
    flow = FlowTrainer(flow_for_zoo(config, zoo, images.train), zoo, config.training, images.train).run().double()
    x = flow.coordinates.encode(zoo[torch.arange(3)].networks).double()

    def likelihood(points: torch.Tensor) -> torch.Tensor:
        return log_likelihood_of_coordinates(flow, points, probes=None, steps=2)

    assert_invariant(likelihood, flow.architecture, x, generator(0, "permutations"), 1e-8)
    networks = zoos[kind, "aligned"][torch.arange(3)].weights
    states = [{name: tensor[index] for name, tensor in networks.items()} for index in range(3)]
    found = log_likelihood_of_networks(flow, states, steps=2)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_likelihoods_are_the_same_by_kernels(geometry, zoos, images, monkeypatch):
    zoo = zoo_for(zoos, "resnet", geometry)
    config = settings(geometry, "flow.coupling=independent", "velocity.gradient_examples=8")
    flow = FlowTrainer(flow_for_zoo(config, zoo, images.train), zoo, config.training, images.train).run()
    x = flow.coordinates.encode(zoo[torch.arange(2)].networks)
    by_kernels = log_likelihood_of_coordinates(flow, x, probes=None, steps=2)
    monkeypatch.setattr(LossGradient, "for_kernels", lambda *_: False)
    torch.testing.assert_close(
        by_kernels, log_likelihood_of_coordinates(flow, x, probes=None, steps=2), rtol=1e-4, atol=1e-2
    )
    flow.loss_gradient.targets = 1 - flow.loss_gradient.targets
    other = log_likelihood_of_coordinates(flow, x, probes=None, steps=2)
    assert (by_kernels - other).abs().min() > 0.1


@over_kinds
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_prior_knows_each_tensors_moments(kind, geometry, zoos, images):
    zoo = zoo_for(zoos, kind, geometry)
    flow = flow_for_zoo(settings(geometry), zoo, images.train)
    drawn = flow.coordinates.chart.unflatten(flow.prior.sample(4000, generator(0, "prior")))
    for name, (mean, deviation) in flow.initialization.items():
        flat = ~flow.coordinates.chart.flatten(
            {key: torch.full((1, *shape), key != name) for key, shape in flow.architecture.shapes}
        )[0]
        spheres = [part.places for part in flow.geometry.manifold.parts if part.sphere]
        if any(bool(flat[where].any()) for where in spheres):
            continue
        assert drawn[name].mean().item() == pytest.approx(mean, abs=0.1 * deviation)
        assert drawn[name].std().item() == pytest.approx(deviation, rel=0.1)
    if geometry == "euclidean":
        for name in (name for name in flow.initialization if name.endswith("norm1.weight")):
            assert flow.initialization[name][0] == pytest.approx(1, abs=0.2)
        name, weights = next(iter(zoo.initial.weights.items()))
        assert flow.initialization[name][1] == pytest.approx(weights.std().item(), rel=0.01)


@over_kinds
def test_pairs_start_at_the_networks_own_beginning(kind, zoos, images):
    zoo = zoo_for(zoos, kind, "euclidean")
    many = initialize(zoo.architecture, 10, 0.1, generator(0, "other"), "he")
    flow = flow_for_zoo(settings("euclidean", "flow.coupling=initialization"), zoo, images.train)
    chosen, x_0, _ = PairSource(flow, zoo).draw_chosen(60, generator(0, "pairs"))
    architecture = zoo.initial.architecture
    name = next(iter(zoo.initial.weights))
    start = permute(
        zoo.initial[zoo.trajectory[chosen]],
        {group: indices[chosen] for group, indices in zoo.permutations.items()},
    ).weights
    found = architecture.unflatten(x_0)[name].flatten()
    assert torch.corrcoef(torch.stack([found, start[name].flatten()]))[0, 1] > 0.95
    other = replace(zoo, initial=many)
    moved = PairSource(flow, other).draw_chosen(60, generator(0, "pairs"))[1]
    assert torch.corrcoef(torch.stack([architecture.unflatten(moved)[name].flatten(), start[name].flatten()]))[0, 1] < 0.5
