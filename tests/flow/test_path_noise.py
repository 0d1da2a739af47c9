"""Path noise: both ends of a path are moved alike, so that the flow runs from the blurred prior to the blurred zoo."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.flow.test_solvers import FLAT, MEAN
from wflib.architecture import mlp
from wflib.config import load_settings
from wflib.flow import Flow, FlowTrainer, PairSource, flow_for_zoo, integrate, log_likelihood, sample
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import pool
from wflib.zoo import Zoo, canonical_zoo, zoo_from_networks

ARCHITECTURE = mlp([3, 4, 2])
SIGMA, STD_0, STD_1 = 0.2, 0.5, 0.3
GEOMETRIES = ("euclidean", "normalized", "geometric")


def gaussian_zoo(geometry: str, networks: int = 3_000) -> Zoo:
    """Gaussian networks that depend on their Gaussian initial weights."""
    start, other = (
        torch.randn(networks, ARCHITECTURE.dimension, generator=generator(0, name)) for name in ("start", "other")
    )
    trained = MEAN + STD_1 * (0.6 * start + 0.8 * other)
    initial = Networks.from_flat(ARCHITECTURE, STD_0 * start)
    zoo = zoo_from_networks(Networks.from_flat(ARCHITECTURE, trained), initial=initial, init_std=STD_0)
    return zoo if geometry == "euclidean" else canonical_zoo(zoo, "weights")


def fitted(dataset, geometry: str, **changes: str) -> tuple[Flow, Zoo]:
    """A flow with the moments of its zoo and a network that adds nothing: exact where all is Gaussian."""
    given = {"path_noise": SIGMA, "geometry": geometry, "coupling": "independent", "prediction": "end-point"} | changes
    small = ["velocity.dimension=8", "velocity.heads=2", "velocity.layers=1", "velocity.gradient_examples=0"]
    settings = load_settings(changes=[*(f"flow.{name}={value}" for name, value in given.items()), *small])
    zoo = gaussian_zoo(geometry)
    flow = flow_for_zoo(settings, zoo, dataset.train)
    training = settings.training.model_copy(update={"loss": "standardized", "batch_size": 512})
    FlowTrainer(flow, zoo, training)
    return flow, zoo


def flat_places(flow: Flow) -> Tensor:
    """Coordinates that lie on no sphere."""
    flat = torch.ones(flow.architecture.dimension, dtype=torch.bool)
    for part in flow.geometry.manifold.parts:
        flat[part.places] = not part.sphere
    return flat


@pytest.fixture
def three_inputs(dataset):
    """The task's examples as networks of three inputs see them."""
    return replace(dataset, train=replace(dataset.train, inputs=dataset.train.inputs[:, :3]))


@pytest.mark.parametrize("prediction", ["end-point", "velocity"])
@pytest.mark.parametrize("coupling", ["independent", "initialization"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gaussian_coordinates_get_the_zoos_moments_and_the_noise(three_inputs, geometry, coupling, prediction):
    flow, zoo = fitted(three_inputs, geometry, coupling=coupling, prediction=prediction)
    drawn = sample(flow, 2_000, 32, generator(0, "s"), solver="heun")
    flat, index = flat_places(flow), flow.preconditioner.index
    sides = (drawn, flow.coordinates.encode(zoo.networks))
    means = [pool(side.mean(0), index) for side in sides]
    spread, expected = (
        pool((side - mean[index]).square().mean(0), index)[index][flat] for side, mean in zip(sides, means, strict=True)
    )
    assert (means[0] - means[1])[index][flat].abs().max() < 0.05
    assert (spread / (expected + SIGMA**2) - 1).abs().max() < 0.12
    assert (spread / expected - 1).max() > 0.2  # the noise is no small part of it
    assert (flow.geometry.project_prediction(drawn) - drawn).abs().max() < 1e-5


def test_the_velocity_of_noisy_paths_is_not_towards_the_prediction_of_the_zoo():
    """Gaussian to Gaussian in closed form, with many steps: deviations 0.5 and 0.3, noise 0.1."""
    sigma = 0.1
    x_0 = torch.randn(20_000, 1, generator=generator(0, "x"), dtype=torch.float64) * (STD_0**2 + sigma**2) ** 0.5

    def variance(field) -> float:
        return integrate(SimpleNamespace(geometry=FLAT, velocity=field), x_0, 1024, solver="euler").var().item()

    def spread(t: Tensor) -> Tensor:
        return (1 - t).square() * STD_0**2 + t.square() * STD_1**2 + sigma**2

    def right(x: Tensor, t: Tensor) -> Tensor:  # E[x_1 − x_0 | x_t]
        t = t[:, None]
        return MEAN + (t * STD_1**2 - (1 - t) * STD_0**2) / spread(t) * (x - t * MEAN)

    def moved(x: Tensor, t: Tensor) -> Tensor:  # the same, by E[x_1 + σ ε | x_t]
        t = t[:, None]
        return (MEAN + (t * STD_1**2 + sigma**2) / spread(t) * (x - t * MEAN) - x) / (1 - t)

    def unmoved(x: Tensor, t: Tensor) -> Tensor:  # by E[x_1 | x_t]
        t = t[:, None]
        return (MEAN + t * STD_1**2 / spread(t) * (x - t * MEAN) - x) / (1 - t)

    expected = STD_1**2 + sigma**2
    assert variance(right) == pytest.approx(expected, rel=0.03)
    assert variance(moved) == pytest.approx(expected, rel=0.03)
    assert variance(unmoved) < 0.25 * expected
    x, t = x_0[:9], torch.linspace(0, 0.95, 9, dtype=torch.float64)
    torch.testing.assert_close(moved(x, t), right(x, t))


@pytest.mark.parametrize("coupling", ["independent", "ot", "initialization"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_paths_begin_where_sampling_does_and_end_at_the_blurred_zoo(three_inputs, geometry, coupling):
    flow, zoo = fitted(three_inputs, geometry, coupling=coupling, path_noise="0.6")
    source, random = PairSource(flow, zoo), generator(0, "pairs")
    x_0, x_1 = (torch.cat(sides) for sides in zip(*(source.draw(500, random) for _ in range(16)), strict=True))
    begin, prior = flow.start.sample(8_000, generator(1, "start")), flow.prior.sample(8_000, generator(1, "start"))
    scale, flat = begin.std(0), flat_places(flow)
    assert ((x_0.mean(0) - begin.mean(0)) / scale).abs().max() < 0.1
    assert (x_0.std(0) / scale - 1).abs().max() < 0.06
    assert (prior.std(0) / scale - 1)[flat].min() < -0.2
    for side in (x_0, x_1):
        assert (flow.geometry.manifold.projx(side) - side).abs().max() < 1e-5
    trained = flow.coordinates.encode(zoo.networks)
    expected = (trained.var(0) + 0.6**2)[flat]
    assert (x_1.var(0)[flat] / expected - 1).abs().max() < 0.12
    still, _ = fitted(three_inputs, geometry, coupling=coupling, path_noise="0")
    pairs, unmoved = (
        PairSource(still, zoo).draw(9, generator(0, "pairs")),
        source.draw_unmoved(9, generator(0, "pairs"))[1:],
    )
    assert all(torch.equal(one, other) for one, other in zip(pairs, unmoved, strict=True))


def test_likelihoods_are_those_of_the_blurred_zoo(three_inputs):
    flow, _ = fitted(three_inputs, "euclidean")
    model = flow.preconditioner
    assert (model.deviation_1.square() - STD_1**2 - SIGMA**2).abs().max() < 0.01
    assert (model.covariance - SIGMA**2).abs().max() < 0.01
    moments = (0.0, MEAN, (STD_0**2 + SIGMA**2) ** 0.5, (STD_1**2 + SIGMA**2) ** 0.5, SIGMA**2)
    for name, value in zip(model.STATISTICS, moments, strict=False):  # measured ones fit the prior up to sampling errors
        getattr(model, name).fill_(value)
    x, end = flow.start.sample(4, generator(0, "x")) + MEAN, 0.99
    deviation = ((1 - end) ** 2 * STD_0**2 + end**2 * STD_1**2 + SIGMA**2) ** 0.5
    exact = torch.distributions.Normal(end * MEAN, deviation).log_prob(x).sum(1)
    assert (log_likelihood(flow, flow.start, x, 12, "rk4", end=end) - exact).abs().max() < 1e-3
    assert (log_likelihood(flow, flow.prior, x, 12, "rk4", end=end) - exact).abs().max() > 0.5
