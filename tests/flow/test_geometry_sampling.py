"""Sampling: how often the network is asked, where the last step lands, Euler's order, and the variance of what is drawn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from wflib.architecture import mlp
from wflib.flow import build_geometry, sample
from wflib.flow.sampling import integrate
from wflib.manifold import flat_manifold, weight_manifold
from wflib.rng import generator

MEAN, SIGMA_0, SIGMA_1 = 0.8, 0.6, 1.3
FLAT = mlp([3, 4, 2])
CANONICAL = FLAT.canonical_form("weights")
GEOMETRIES = ("euclidean", "normalized", "geometric")


def gaussian_prediction(x_t: Tensor, t: Tensor) -> Tensor:
    """E[x_1 | x_t] of independent N(0, σ_0²) and N(μ, σ_1²) on straight paths; its flow map is μ + (σ_1/σ_0) x_0."""
    t = t[:, None]
    variance = (1 - t).square() * SIGMA_0**2 + t.square() * SIGMA_1**2
    return MEAN + t * SIGMA_1**2 / variance * (x_t - t * MEAN)


def gaussian_flow() -> SimpleNamespace:
    return SimpleNamespace(
        geometry=build_geometry("euclidean", flat_manifold(FLAT)),
        velocity=lambda x, t: (gaussian_prediction(x, t) - x) / (1 - t[:, None]),
    )


def starts(count: int) -> Tensor:
    return SIGMA_0 * torch.randn(count, 3, generator=generator(0, "starts"), dtype=torch.float64)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_are_evaluations_of_the_network(make_flow, randomized, geometry, steps):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    times = []
    flow.network.register_forward_hook(lambda module, inputs, output: times.append(inputs[1]))
    drawn = sample(flow, 4, steps, generator(0, "s"))
    assert [float(t[0]) for t in times] == pytest.approx([index / steps for index in range(steps)])
    assert torch.isfinite(drawn).all()
    assert drawn.shape == (4, flow.architecture.dimension)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("steps", [1, 4])
def test_the_last_step_lands_on_the_last_prediction(make_flow, randomized, geometry, steps):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    predictions, velocity = [], flow.velocity

    def remember(x_t: Tensor, t: Tensor) -> Tensor:
        predictions.append(flow.predict(x_t, t)[0])
        return velocity(x_t, t)

    flow.velocity = remember
    x_0 = flow.prior.sample(3, generator(0, "start"))
    end = integrate(flow, x_0, steps)
    assert (end - predictions[-1]).abs().max() < 1e-4
    assert (end - x_0).abs().max() > 1e-2
    if steps > 1:
        assert (end - predictions[0]).abs().max() > 1e-3


def test_variance_is_right_and_a_frozen_start_shrinks_it():
    x_0 = starts(8_000)
    right = integrate(gaussian_flow(), x_0, 256)
    assert right.std().item() / (SIGMA_1 / SIGMA_0 * x_0.std().item()) == pytest.approx(1, abs=0.03)
    assert right.mean().item() == pytest.approx(MEAN, abs=0.05)
    frozen = SimpleNamespace(geometry=gaussian_flow().geometry, velocity=lambda x, t: gaussian_prediction(x, t) - x_0)
    ratio = integrate(frozen, x_0, 256).std().item() / SIGMA_1
    assert 0.3 < ratio < 0.75


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_curved_flows_never_leave_the_manifold(make_flow, randomized, steps):
    flow, _ = make_flow("geometric")
    randomized(flow.network)
    manifold, seen = flow.geometry.manifold, []
    velocity = flow.velocity

    def remember(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(x_t)
        return velocity(x_t, t)

    flow.velocity = remember
    end = integrate(flow, flow.prior.sample(4, generator(0, "start")), steps)
    for x in (*seen, end):
        assert (manifold.projx(x) - x).abs().max() < 1e-6


def test_straight_paths_leave_the_manifold_but_end_on_it():
    manifold = weight_manifold(CANONICAL)
    geometry = build_geometry("normalized", manifold)
    random = generator(0, "goal")
    x_0, goal = (manifold.projx(torch.randn(4, manifold.n_elements, generator=random)) for _ in range(2))
    seen = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        return (0.9 * goal - x) / (1 - t[:, None])

    end = integrate(SimpleNamespace(geometry=geometry, velocity=velocity), x_0, 4)
    assert (manifold.projx(end) - end).abs().max() < 1e-6
    assert (manifold.projx(seen[2]) - seen[2]).abs().max() > 1e-2


def test_draws_in_half_precision_are_the_same_networks_up_to_its_rounding(make_flow, randomized):
    flow, _ = make_flow()
    randomized(flow.network)
    exact = sample(flow, 50, 8, generator(0, "s"))
    assert flow.precision == "float32"
    flow.precision = "bfloat16"
    coarse = sample(flow, 50, 8, generator(0, "s"))
    assert coarse.dtype == torch.float32
    assert 0 < (coarse - exact).norm() < 0.02 * exact.norm()
    x, t = exact.clone().requires_grad_(), torch.full((50,), 0.5)
    assert torch.autograd.grad(flow.velocity(x, t).sum(), x)[0].dtype == torch.float32
