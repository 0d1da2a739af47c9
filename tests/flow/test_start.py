"""Choosing where a flow starts: gradients through the solver against closed forms and finite differences."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from wflib.flow import carried, integrate, optimize_start
from wflib.flow.geometry import EuclideanGeometry
from wflib.networks import network_losses
from wflib.rng import generator


@dataclass(frozen=True)
class Linear:
    """The field u_t(x) = a x, whose Euler steps multiply by 1 + a / K."""

    rate: float
    geometry: EuclideanGeometry

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        return self.rate * x


@pytest.fixture
def linear(make_flow) -> Linear:
    return Linear(0.8, make_flow()[0].geometry)


def test_the_gradient_of_a_linear_flow_has_a_closed_form(linear):
    x_0 = torch.randn(5, 4, generator=generator(0, "x"), dtype=torch.float64).requires_grad_()
    target = torch.ones(4, dtype=torch.float64)
    for steps in (1, 3, 10):
        gain = (1 + 0.8 / steps) ** steps
        x_1 = carried(linear, x_0, steps)
        torch.testing.assert_close(x_1, gain * x_0)
        (gradient,) = torch.autograd.grad((x_1 - target).square().sum(), x_0)
        torch.testing.assert_close(gradient, 2 * gain * (gain * x_0 - target))
        assert not torch.allclose(gradient, 2 * (gain * x_0 - target))  # as without the way


def test_a_linear_flow_starts_where_its_end_is_the_target(linear):
    x_0 = torch.randn(5, 4, generator=generator(0, "x"), dtype=torch.float64)
    target, gain = torch.full((4,), 2.0, dtype=torch.float64), (1 + 0.8 / 4) ** 4
    found = optimize_start(linear, lambda x: (x - target).square().sum(1), x_0, 4, 400, 0.05)
    torch.testing.assert_close(found.x_0, (target / gain).expand(5, 4), rtol=1e-2, atol=1e-2)
    assert found.losses.shape == (401, 5)
    assert bool((found.losses[-1] < 1e-2 * found.losses[0]).all())


@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
@pytest.mark.parametrize(("solver", "seen"), [("euler", 0), ("heun", 0), ("euler", 8)])
def test_the_gradient_of_a_flow_is_that_of_finite_differences(make_flow, randomized, geometry, solver, seen):
    flow = randomized(make_flow(geometry, gradient_examples=seen)[0]).double()
    x_0 = flow.prior.sample(2, generator(0, "x")).double()
    weights = torch.randn(x_0.shape[1], generator=generator(0, "w"), dtype=torch.float64)
    direction = flow.geometry.tangent(x_0, torch.randn(x_0.shape, generator=generator(0, "d"), dtype=torch.float64))

    def value(x: Tensor) -> Tensor:
        return (carried(flow, x, 3, solver) * weights).sum(1)

    point = x_0.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(point).sum(), point)
    h = 1e-5
    with torch.no_grad():
        difference = (value(x_0 + h * direction) - value(x_0 - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(1), difference, rtol=1e-4, atol=1e-5)
    assert bool((difference.abs() > 1e-3).any())


@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
def test_it_goes_the_samplers_way_and_lowers_a_networks_loss(make_flow, randomized, dataset, geometry):
    flow = randomized(make_flow(geometry)[0])
    x_0 = flow.prior.sample(3, generator(0, "x"))
    torch.testing.assert_close(carried(flow, x_0, 4).detach(), integrate(flow, x_0, 4))

    def loss(x: Tensor) -> Tensor:
        return network_losses(flow.coordinates.decode_state(x), dataset.train)

    found = optimize_start(flow, loss, x_0, 4, 10, 0.05, flow.prior)
    assert bool((loss(found.x_1).detach() <= found.losses[0]).all())
    assert loss(found.x_1).mean() < found.losses[0].mean() - 1e-3
    torch.testing.assert_close(found.x_0, flow.prior.manifold.projx(found.x_0))
    torch.testing.assert_close(carried(flow, found.x_0, 4).detach(), found.x_1)
    same = optimize_start(flow, loss, x_0, 4, 0, 0.05, flow.prior)
    assert torch.equal(same.x_0, x_0)


def test_a_weight_on_the_prior_keeps_starts_likely(linear, make_flow):
    prior = make_flow()[0].prior
    x_0 = prior.sample(4, generator(0, "x"))
    free, held = (
        optimize_start(linear, lambda x: (x - 9).square().mean(1), x_0, 2, 60, 0.1, prior, weight) for weight in (0.0, 50.0)
    )
    assert bool((prior.log_density(held.x_0) > prior.log_density(free.x_0)).all())


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_points_whose_objective_is_never_finite_are_named(linear, value, iterations):
    x_0, added = torch.ones(3, 4), torch.tensor([1.0, value, value])
    for objective in (lambda x: 0 * x.sum(1) + added, lambda x: x.square().sum(1) * added):
        with pytest.raises(ValueError, match=r"NaN or infinite for 2 of 3 points \(the first: 1\)"):
            optimize_start(linear, objective, x_0, 2, iterations, 0.1)
        kept = optimize_start(linear, lambda x, f=objective: f(torch.cat([x, x, x]))[:1], x_0[:1], 2, iterations, 0.1)
        torch.testing.assert_close(kept.x_1, carried(linear, kept.x_0, 2).detach())


def test_points_that_become_finite_or_cease_to_be_are_not_refused(linear):
    x_0 = torch.ones(2, 4)

    def late(x: Tensor) -> Tensor:
        total = x.sum(1)
        return total + torch.where(total > 7.5, torch.inf, 0.0)

    def early(x: Tensor) -> Tensor:
        total = x.sum(1)
        return total + torch.where(total < 5, torch.nan, 0.0)

    carried_by = carried(linear, x_0, 2).sum(1)
    assert carried_by[0] > 7.5
    for objective in (early, late):
        found = optimize_start(linear, objective, x_0, 2, 40, 0.1)
        assert found.x_0.isfinite().all()
        torch.testing.assert_close(found.x_1, carried(linear, found.x_0, 2).detach())
        assert bool((objective(found.x_1) == found.losses.nan_to_num(torch.inf).min(0).values).all())


def test_what_does_not_go_together_is_refused(linear):
    x_0 = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        carried(linear, x_0, 0)
    with pytest.raises(ValueError, match="solver of fixed steps"):
        carried(linear, x_0, 2, "dopri5")
    with pytest.raises(ValueError, match="needs a prior"):
        optimize_start(linear, lambda x: x.sum(1), x_0, 2, 1, 0.1, prior_weight=1.0)
    with pytest.raises(ValueError, match="one number for each of 2 points"):
        optimize_start(linear, lambda x: x.sum(), x_0, 2, 1, 0.1)
    with pytest.raises(ValueError, match="iterations of at least 0"):
        optimize_start(linear, lambda x: x.sum(1), x_0, 2, -1, 0.1)
