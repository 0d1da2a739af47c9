"""Flows whose answer is known: Gaussian to Gaussian, order of Euler's method, and what a wrong velocity does."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wflib.architecture import mlp
from wflib.flow.coupling import optimal_assignment
from wflib.flow.geometry import EuclideanGeometry, Geometric, Normalized
from wflib.flow.objective import LATEST_TIME, flow_matching_error, sample_times, weighted_mean_square
from wflib.flow.sampling import integrate
from wflib.manifold import flat_manifold, weight_manifold
from wflib.velocity import Preconditioner

MEAN, SIGMA_0, SIGMA_1 = 1.0, 0.7, 1.5
ARCHITECTURE = mlp([3, 4, 2])
CANONICAL = ARCHITECTURE.canonical_form("weights")


def posterior_mean(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """E[x_1 | x_t] for independent N(0, σ_0²) and N(μ, σ_1²)."""
    t = t[:, None]
    variance = (1 - t) ** 2 * SIGMA_0**2 + t**2 * SIGMA_1**2
    return MEAN + t * SIGMA_1**2 / variance * (x_t - t * MEAN)


class GaussianFlow:
    """A flow with the exact prediction; counts evaluations."""

    def __init__(self, wrong: bool = False) -> None:
        self.geometry, self.calls, self.wrong, self.start = EuclideanGeometry(flat_manifold(ARCHITECTURE)), 0, wrong, None

    def velocity(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.start is None:
            self.start = x_t
        if self.wrong:
            return posterior_mean(x_t, t) - self.start
        return (posterior_mean(x_t, t) - x_t) / (1 - t[:, None])


def draw(count: int, dimension: int = 4) -> torch.Tensor:
    return SIGMA_0 * torch.randn(count, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 7, 32])
def test_k_steps_are_k_evaluations(steps):
    flow = GaussianFlow()
    integrate(flow, draw(3), steps)
    assert flow.calls == steps


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="at least 1"):
        integrate(GaussianFlow(), draw(3), 0)


def test_one_step_lands_on_the_prediction():
    x_0 = draw(5)
    assert torch.allclose(integrate(GaussianFlow(), x_0, 1), posterior_mean(x_0, torch.zeros(5, dtype=torch.float64)))


def test_euler_has_order_one():
    x_0 = draw(200)
    exact = MEAN + SIGMA_1 / SIGMA_0 * x_0
    counts = np.array([32, 64, 128, 256, 512])
    errors = [(integrate(GaussianFlow(), x_0, int(steps)) - exact).square().mean().sqrt().item() for steps in counts]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert 0.9 < slope < 1.1


def test_sampled_moments_are_right_and_the_frozen_velocity_shrinks_them():
    x_0 = draw(20_000)
    right = integrate(GaussianFlow(), x_0, 256)
    assert right.mean().item() == pytest.approx(MEAN, abs=0.05)
    assert right.std().item() == pytest.approx(SIGMA_1, rel=0.03)
    wrong = integrate(GaussianFlow(wrong=True), x_0, 256)
    assert wrong.std().item() < 0.8 * SIGMA_1


def test_preconditioner_alone_is_the_gaussian_posterior_mean():
    random = torch.Generator().manual_seed(1)
    count, dimension = 40_000, ARCHITECTURE.dimension
    preconditioner = Preconditioner(ARCHITECTURE).double()
    x_0 = SIGMA_0 * torch.randn(count, dimension, generator=random, dtype=torch.float64)
    x_1 = MEAN + SIGMA_1 * torch.randn(count, dimension, generator=random, dtype=torch.float64)
    preconditioner.fit(x_0, x_1, torch.zeros(dimension, dtype=torch.float64))
    t = torch.tensor([0.0, 0.3, 0.6, 0.95], dtype=torch.float64)
    x_t = torch.randn(4, dimension, generator=random, dtype=torch.float64)
    found = preconditioner(t)
    prediction = preconditioner.data_mean + found.skip * (x_t - found.centre)
    assert torch.allclose(prediction, posterior_mean(x_t, t), atol=0.05)
    end = preconditioner(torch.ones(1, dtype=torch.float64))
    assert torch.allclose(end.skip, torch.ones_like(end.skip))
    assert end.output_scale.abs().max() < 1e-7


def test_preconditioner_knows_dependent_pairs():
    random = torch.Generator().manual_seed(1)
    count, dimension = 40_000, ARCHITECTURE.dimension
    x_0 = torch.randn(count, dimension, generator=random, dtype=torch.float64)
    x_1 = 0.9 * x_0 + 0.2 * torch.randn(count, dimension, generator=random, dtype=torch.float64)
    preconditioner = Preconditioner(ARCHITECTURE).double()
    preconditioner.fit(x_0, x_1, torch.zeros(dimension, dtype=torch.float64))
    t = torch.full((count,), 0.4, dtype=torch.float64)
    x_t = torch.lerp(x_0, x_1, t[:, None])
    found = preconditioner(t[:1])
    left = x_1 - preconditioner.data_mean - found.skip * (x_t - found.centre)
    assert torch.allclose(left.std(0), found.output_scale[0].expand(dimension), rtol=0.05)
    assert (left * x_t).mean().abs() < 1e-2
    assert x_t.std().item() == pytest.approx(1 / found.input_scale[0, 0].item(), rel=0.02)


def test_times():
    random = torch.Generator().manual_seed(0)
    beta, uniform = (sample_times(name, 50_000, random) for name in ("beta", "uniform"))
    for t in (beta, uniform):
        assert t.min() >= 0
        assert t.max() <= LATEST_TIME
    assert beta.mean().item() == pytest.approx(LATEST_TIME / 3, abs=0.01)
    assert uniform.mean().item() == pytest.approx(LATEST_TIME / 2, abs=0.01)


def test_diagonal_weights_do_not_move_the_minimizer():
    geometry, random = EuclideanGeometry(flat_manifold(ARCHITECTURE)), torch.Generator().manual_seed(0)
    x_1 = torch.randn(500, 6, generator=random, dtype=torch.float64)
    weight = torch.rand(6, generator=random, dtype=torch.float64) + 0.1
    constant = x_1.mean(0, keepdim=True).clone().requires_grad_()
    loss = weighted_mean_square(
        flow_matching_error(geometry, torch.zeros_like(x_1), x_1, constant.expand(500, -1)), None, weight
    )
    assert torch.autograd.grad(loss, constant)[0].abs().max() < 1e-12
    moved = weighted_mean_square(
        flow_matching_error(geometry, torch.zeros_like(x_1), x_1, (constant + 0.1).expand(500, -1)), None, weight
    )
    assert moved > loss


@pytest.mark.parametrize("kind", [EuclideanGeometry, Normalized, Geometric])
def test_geometries_agree_with_themselves(kind):
    manifold = flat_manifold(ARCHITECTURE) if kind is EuclideanGeometry else weight_manifold(CANONICAL)
    geometry, random = kind(manifold), torch.Generator().manual_seed(0)
    x_0, x_1 = (manifold.projx(torch.randn(8, manifold.n_elements, generator=random, dtype=torch.float64)) for _ in range(2))
    t = torch.rand(8, generator=random, dtype=torch.float64) * 0.9
    x_t = geometry.interpolate(x_0, x_1, t)
    velocity = geometry.conditional_velocity(x_0, x_1, t)
    assert torch.allclose(geometry.displacement(x_t, x_1) / (1 - t)[:, None], velocity, atol=1e-8)
    assert torch.allclose(geometry.step(x_t, (1 - t)[:, None] * velocity), x_1, atol=1e-8)
    assert torch.allclose(geometry.interpolate(x_0, x_1, torch.zeros(8, dtype=torch.float64)), x_0, atol=1e-12)
    on_manifold = (manifold.projx(x_t) - x_t).abs().max() < 1e-10
    assert on_manifold == (kind is not Normalized)


def test_normalized_flows_end_on_the_manifold():
    manifold = weight_manifold(CANONICAL)
    goal = manifold.projx(torch.randn(4, manifold.n_elements, generator=torch.Generator().manual_seed(0)))
    for kind in (Normalized, Geometric):
        geometry = kind(manifold)
        flow = SimpleNamespace(
            geometry=geometry, velocity=lambda x, t, g=geometry: g.displacement(x, goal) / (1 - t[:, None])
        )
        start = manifold.projx(torch.randn(4, manifold.n_elements, generator=torch.Generator().manual_seed(1)))
        end = integrate(flow, start, 9)
        assert torch.allclose(end, goal, atol=1e-5)
        assert (manifold.projx(end) - end).abs().max() < 1e-6


@pytest.mark.parametrize("kind", [EuclideanGeometry, Geometric])
def test_assignments_are_bijective_and_cheapest(kind):
    from itertools import permutations

    manifold = flat_manifold(ARCHITECTURE) if kind is EuclideanGeometry else weight_manifold(CANONICAL)
    geometry, random = kind(manifold), torch.Generator().manual_seed(3)
    x_0, x_1 = (manifold.projx(torch.randn(6, manifold.n_elements, generator=random)) for _ in range(2))
    chosen = optimal_assignment(geometry, x_0, x_1)
    assert sorted(chosen.tolist()) == list(range(6))
    cost = geometry.squared_distances(x_1, x_0)
    best = min(sum(cost[i, p].item() for i, p in enumerate(order)) for order in permutations(range(6)))
    found = cost[torch.arange(6), chosen].sum().item()
    assert found == pytest.approx(best, rel=1e-5)
    assert found < cost.diagonal().sum().item()
    with pytest.raises(ValueError, match="as many x_0"):
        optimal_assignment(geometry, x_0[:5], x_1)
