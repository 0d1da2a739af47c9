"""Gradients that jump, as those of networks with max pooling do: derivatives miss it, and such flows say no density."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.flow.test_every_kind import settings
from wflib.architecture import Architecture, cnn, mlp, resnet
from wflib.architecture.operations import Elementwise
from wflib.flow import (
    Asked,
    Coordinates,
    Flow,
    log_likelihood,
    log_likelihood_of_coordinates,
    log_likelihood_of_networks,
    require_density,
    sample,
)
from wflib.flow.geometry import EuclideanGeometry, build_geometry
from wflib.flow.loss_gradient import LossGradient
from wflib.manifold import flat_manifold
from wflib.measurements.likelihood import Options, compare_likelihoods
from wflib.rng import generator
from wflib.tasks import Split


def with_function(name: str) -> Architecture:
    """A perceptron of another elementwise function."""
    plain = mlp([6, 5, 2])
    operations = tuple(replace(o, function=name) if isinstance(o, Elementwise) else o for o in plain.operations)
    return replace(plain, operations=operations)


POOLED = cnn((1, 6, 6), [3], 2)
KINDS = {
    "relu": with_function("relu"),
    "leaky_relu": with_function("leaky_relu"),
    "tanh": with_function("tanh"),
    "softsign": with_function("softsign"),
    "elu": with_function("elu"),
    "cnn without pooling": cnn((1, 6, 6), [3], 2, pools=1, head="mean"),
    "resnet": resnet((1, 4, 4), [2, 3], 2),
    "max pooling": POOLED,
    "max pooling and batch norm": cnn((1, 6, 6), [3], 2, "tanh", norm="batch"),
    "abs": with_function("abs"),
    "relu6": with_function("relu6"),
    "hardswish": with_function("hardswish"),
    "softshrink": with_function("softshrink"),
}


def examples(architecture: Architecture, count: int = 16) -> Split:
    random = generator(0, "examples")
    inputs = torch.randn(count, *architecture.inputs, generator=random)
    return Split(inputs, torch.randint(2, (count,), generator=random))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_is_the_integral_of_its_derivative_unless_it_is_known_to_jump(kind):
    architecture, random = KINDS[kind], generator(1, "segment")
    coordinates, seen = Coordinates(architecture), examples(architecture)
    split = Split(seen.inputs.double(), seen.targets)
    field = LossGradient(coordinates, build_geometry("euclidean", coordinates.manifold), split).double()
    x, way = (0.4 * torch.randn(1, architecture.dimension, generator=random, dtype=torch.float64) for _ in range(2))
    field.fit(torch.cat([x, x + way]))
    places = ((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)[:, None]
    slopes = [torch.func.jvp(field, (part,), (way.expand_as(part),))[1] for part in (x + places * way).split(250)]
    change = field(x + way) - field(x)
    missed = ((torch.cat(slopes).mean(0) - change).norm() / change.norm()).item()
    assert missed < 5e-3 or missed > 0.05
    assert bool(field.kinks) == (missed > 0.05)


def test_a_density_computed_of_a_velocity_that_jumps_is_none():
    """What starts below 0 moves with 1 there and with 2 above it: stretched by 2 on its way, which no derivative says."""
    geometry = EuclideanGeometry(flat_manifold(mlp([1, 2], bias=False)))
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    normal = torch.distributions.Normal(0, 1)

    def mass(velocity, steps: int = 64) -> float:
        field = SimpleNamespace(geometry=geometry, velocity=velocity)
        density = log_likelihood(field, lambda x_0: normal.log_prob(x_0).sum(1), x, steps, "euler").exp()
        return torch.trapezoid(density, x[:, 0]).item()

    def jumping(point: Tensor, t: Tensor) -> Tensor:
        return 1.0 + (point > 0)

    def smooth(point: Tensor, t: Tensor) -> Tensor:
        return 1.0 + (5 * point).sigmoid()

    crossing = (normal.cdf(torch.tensor(0.0)) - normal.cdf(torch.tensor(-1.0))).item()
    assert mass(smooth) == pytest.approx(1, abs=0.02)
    assert mass(jumping) == pytest.approx(1 + crossing, abs=0.02)


def flow_of(architecture: Architecture, geometry: str, seen: int) -> Flow:
    form = architecture if geometry == "euclidean" else architecture.canonical_form()
    config = settings(geometry, f"velocity.gradient_examples={seen}", "flow.coupling=independent")
    split = examples(architecture, seen) if seen else None
    return Flow(config.flow, config.velocity, Coordinates(form), 0.3, examples=split)


def points(flow: Flow, count: int = 2) -> Tensor:
    return flow.geometry.project_prediction(flow.prior.sample(count, generator(0, "points")))


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
@pytest.mark.parametrize("architecture", [POOLED, with_function("abs")], ids=["max_pool", "abs"])
def test_flows_that_see_such_a_gradient_draw_but_have_no_density(architecture, geometry):
    flow = flow_of(architecture, geometry, seen=8)
    x, name = points(flow), "max_pool" if architecture is POOLED else "abs"
    assert sample(flow, 2, 2, generator(0, "draws")).isfinite().all()
    for ask in (
        lambda: log_likelihood(flow, flow.start, x, 1),
        lambda: log_likelihood(Asked(flow), flow.start, x, 1),
        lambda: log_likelihood_of_coordinates(flow, x, steps=1),
        lambda: log_likelihood_of_networks(flow, flow.coordinates.decode(x), steps=1),
        lambda: compare_likelihoods(SimpleNamespace(flow=lambda: flow), Options()),  # before it asks for anything else
    ):
        with pytest.raises(ValueError, match=rf"continuous velocity.*\({name}\).*gradient_examples: 0"):
            ask()
    blind = flow_of(architecture, geometry, seen=0)
    assert log_likelihood_of_coordinates(blind, x, steps=1).isfinite().all()


@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "tanh", "cnn without pooling"])
def test_flows_that_see_a_continuous_gradient_keep_their_density(kind):
    flow = flow_of(KINDS[kind], "euclidean", seen=8)
    require_density(flow)
    assert log_likelihood_of_coordinates(flow, points(flow), steps=1).isfinite().all()
