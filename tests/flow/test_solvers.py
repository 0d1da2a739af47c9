"""Solvers: orders by the slope of their errors, evaluations, trajectories, and what they refuse."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from wflib.architecture import mlp
from wflib.flow import build_geometry, integrate
from wflib.flow.solvers import EVALUATIONS
from wflib.manifold import Factor, WeightManifold, flat_manifold
from wflib.rng import generator

MEAN, SIGMA_0, SIGMA_1 = 0.8, 0.6, 1.3
FLAT = build_geometry("euclidean", flat_manifold(mlp([3, 4, 2])))
SPHERE = build_geometry("geometric", WeightManifold([Factor(("direction",), True, slice(0, 3), (1, 3))]))
PRODUCT = build_geometry(
    "geometric",
    WeightManifold(
        [Factor(("direction",), True, torch.tensor([0, 2, 4]), (1, 3)), Factor(("bias",), False, torch.tensor([1, 3]), (2,))]
    ),
)
AXES = torch.tensor([[0.0, -2.0, 1.0], [2.0, 0.0, -0.5], [-1.0, 0.5, 0.0]], dtype=torch.float64)
BEND = torch.tensor([0.7, -0.4, 1.1], dtype=torch.float64)


def gaussian(x: Tensor, t: Tensor) -> Tensor:
    """Marginal velocity from N(0, σ_0²) to N(μ, σ_1²); its flow map is μ + (σ_1/σ_0) x_0."""
    t = t[:, None]
    variance = (1 - t).square() * SIGMA_0**2 + t.square() * SIGMA_1**2
    slope = (t * SIGMA_1**2 - (1 - t) * SIGMA_0**2) / variance
    return MEAN + slope * (x - t * MEAN)


def turning(x: Tensor, t: Tensor) -> Tensor:
    """A tangent field on the sphere that turns and pulls to a moving point."""
    pull = BEND * torch.cos(3 * t)[:, None] + torch.sin(2 * t)[:, None] * BEND.roll(1)
    return x @ AXES.T + SPHERE.tangent(x, pull)


def flat_starts() -> Tensor:
    return SIGMA_0 * torch.randn(200, 3, generator=generator(0, "starts"), dtype=torch.float64)


def sphere_starts() -> Tensor:
    x = torch.randn(50, 3, generator=generator(0, "sphere"), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def slope(field, x_0: Tensor, exact: Tensor, solver: str, counts: list[int]) -> float:
    errors = [(integrate(field, x_0, count, solver=solver) - exact).square().mean().sqrt().item() for count in counts]
    return -np.polyfit(np.log2(counts), np.log2(errors), 1)[0]


@pytest.mark.parametrize(
    ("solver", "order", "counts"),
    [("euler", 1, [32, 64, 128]), ("multistep", 2, [64, 128, 256]), ("heun", 2, [16, 32, 64]), ("rk4", 4, [32, 64, 128])],
)
def test_orders_in_flat_space(solver, order, counts):
    x_0, field = flat_starts(), SimpleNamespace(geometry=FLAT, velocity=gaussian)
    assert abs(slope(field, x_0, MEAN + SIGMA_1 / SIGMA_0 * x_0, solver, counts) - order) < 0.25


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("multistep", 2), ("heun", 2), ("rk4", 4)])
def test_orders_on_the_sphere(solver, order):
    x_0, field = sphere_starts(), SimpleNamespace(geometry=SPHERE, velocity=turning)
    exact = integrate(field, x_0, 1024, solver="rk4")
    torch.testing.assert_close(exact, integrate(field, x_0, 2048, solver="heun"), rtol=0, atol=1e-5)
    assert abs(slope(field, x_0, exact, solver, [32, 64, 128]) - order) < 0.2
    assert (exact.norm(dim=1) - 1).abs().max() < 1e-12


def spiral(x: Tensor, t: Tensor) -> Tensor:
    """Turns about the third axis at the rate 2 + 3 t and pulls to its pole by the rate 1 + t."""
    turn, pole = torch.zeros_like(x), torch.zeros_like(x)
    turn[:, 0], turn[:, 1], pole[:, 2] = -x[:, 1], x[:, 0], 1
    return (2 + 3 * t)[:, None] * turn + (1 + t)[:, None] * SPHERE.tangent(x, pole)


def spiral_end(x: Tensor) -> Tensor:
    """Where it is at t = 1: turned by ∫ (2 + 3 t) dt, at the height tanh(artanh z + ∫ (1 + t) dt)."""
    angle, z = torch.atan2(x[:, 1], x[:, 0]) + 3.5, torch.tanh(torch.atanh(x[:, 2]) + 1.5)
    radius = (1 - z.square()).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], 1)


def woven(x: Tensor, t: Tensor) -> Tensor:
    """A field on the sphere times the plane, either part of which moves with the other."""
    pull = torch.stack([x[:, 1] + t, x[:, 0], torch.sin(x[:, 3] * t), x[:, 2] - x[:, 1] * t, torch.cos(2 * t)], 1)
    return PRODUCT.tangent(x, pull)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("multistep", 2), ("heun", 2), ("rk4", 4)])
def test_orders_on_a_product_of_a_sphere_and_flat_space(solver, order):
    field = SimpleNamespace(geometry=PRODUCT, velocity=woven)
    x_0 = PRODUCT.project_prediction(torch.randn(50, 5, generator=generator(0, "product"), dtype=torch.float64))
    exact = integrate(field, x_0, 1024, solver="rk4")
    torch.testing.assert_close(exact, integrate(field, x_0, 2048, solver="heun"), rtol=0, atol=1e-5)
    assert abs(slope(field, x_0, exact, solver, [32, 64, 128]) - order) < 0.2
    assert (PRODUCT.project_prediction(exact) - exact).abs().max() < 1e-12


def test_stages_off_the_sphere_lose_the_order():
    """The classical method without putting stages back: the field off the sphere is whatever its formula says there."""
    x_0 = sphere_starts()
    exact = integrate(SimpleNamespace(geometry=SPHERE, velocity=turning), x_0, 1024, solver="rk4")

    class Steps:
        """The sphere's geometry but for its stages, which follow tangents of other points by the exponential."""

        curved = True
        step, project_prediction, tangent = SPHERE.step, SPHERE.project_prediction, SPHERE.tangent
        nearby = SPHERE.step

    found = slope(SimpleNamespace(geometry=Steps(), velocity=turning), x_0, exact, "rk4", [32, 64, 128])
    assert found < 3.5


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("multistep", 2), ("heun", 2), ("rk4", 4)])
def test_orders_on_the_sphere_against_a_closed_form(solver, order):
    x_0, field = sphere_starts(), SimpleNamespace(geometry=SPHERE, velocity=spiral)
    assert abs(slope(field, x_0, spiral_end(x_0), solver, [32, 64, 128]) - order) < 0.15
    turned_less = spiral_end(x_0) @ torch.linalg.matrix_exp(torch.tensor([[0, 0.01, 0], [-0.01, 0, 0], [0, 0, 0]]).double())
    assert slope(field, x_0, turned_less, "heun", [32, 64, 128]) < 0.5  # a wrong limit has no order


def test_on_the_sphere_a_second_stage_at_the_wrong_time_loses_the_order():
    x_0 = sphere_starts()
    exact = integrate(SimpleNamespace(geometry=SPHERE, velocity=turning), x_0, 2048, solver="heun")

    def errors(count: int) -> float:
        asked = []

        def late(x: Tensor, t: Tensor) -> Tensor:  # the second stage sees the time of the first
            asked.append(t)
            return turning(x, asked[-1] if len(asked) % 2 else asked[-2])

        end = integrate(SimpleNamespace(geometry=SPHERE, velocity=late), x_0, count, solver="heun")
        return (end - exact).square().mean().sqrt().item()

    assert np.log2(errors(64) / errors(128)) < 1.3


def test_the_adaptive_solver_meets_its_tolerance():
    x_0 = flat_starts()
    end = integrate(SimpleNamespace(geometry=FLAT, velocity=gaussian), x_0, 1, solver="dopri5")
    assert (end - MEAN - SIGMA_1 / SIGMA_0 * x_0).abs().max() < 1e-3


@pytest.mark.parametrize("solver", ["euler", "multistep", "heun", "rk4"])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_steps_are_so_many_evaluations(solver, steps):
    times = []

    def counted(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t[0]))
        return gaussian(x, t)

    integrate(SimpleNamespace(geometry=FLAT, velocity=counted), flat_starts(), steps, solver=solver)
    assert len(times) == {"euler": 1, "multistep": 1, "heun": 2, "rk4": 4}[solver] * steps == EVALUATIONS[solver] * steps
    assert max(times) <= 1
    times.clear()
    integrate(SimpleNamespace(geometry=SPHERE, velocity=counted), sphere_starts(), steps, solver=solver)
    assert len(times) == EVALUATIONS[solver] * steps


@pytest.mark.parametrize("solver", ["heun", "multistep"])
@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
def test_every_geometry_has_a_second_order_step(make_flow, randomized, geometry, solver):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    x_0 = flow.prior.sample(4, generator(0, "start"))
    fine = integrate(flow, x_0, 256, solver="heun")
    coarse, crude = (integrate(flow, x_0, 32, solver=solver) for solver in (solver, "euler"))
    assert torch.isfinite(fine).all()
    assert (coarse - fine).norm() < (crude - fine).norm()


@pytest.mark.parametrize("solver", ["euler", "multistep", "heun", "dopri5"])
def test_trajectories_can_be_kept(solver):
    x_0, field = flat_starts(), SimpleNamespace(geometry=FLAT, velocity=gaussian)
    path = integrate(field, x_0, 5, solver=solver, keep=True)
    assert path.shape == (6, *x_0.shape)
    assert torch.equal(path[0], x_0)
    torch.testing.assert_close(path[-1], integrate(field, x_0, 5, solver=solver), rtol=1e-4, atol=1e-4)
    assert (path.diff(dim=0).norm(dim=-1) > 0).all()


def test_the_adaptive_solver_is_refused_on_the_manifold():
    with pytest.raises(ValueError, match="choose rk4, heun or euler"):
        integrate(SimpleNamespace(geometry=SPHERE, velocity=turning), sphere_starts(), 4, solver="dopri5")


def test_unknown_solvers_are_refused():
    with pytest.raises(ValueError, match=r"expected one of euler, heun, rk4, multistep, dopri5, got .leapfrog."):
        integrate(SimpleNamespace(geometry=FLAT, velocity=gaussian), flat_starts(), 4, solver="leapfrog")
