"""Steps in coordinates where a Gaussian model stands still: closed forms, and steps of unequal length."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from wflib.flow import AddedNoise, build_geometry, integrate, sample
from wflib.flow.multistep import Multistep
from wflib.flow.sampling import steps_of
from wflib.manifold import Factor, WeightManifold
from wflib.rng import generator
from wflib.velocity.preconditioning import Preconditioner

GEOMETRIES = ["euclidean", "normalized", "geometric"]


class Silent(torch.nn.Module):
    """A network that adds nothing to the Gaussian model."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return torch.zeros_like(x)


def correlated(flow, correlation: float = 0.6) -> None:
    """Moments of a coupling that moves, narrows and remembers."""
    preconditioner = flow.preconditioner
    pools = len(preconditioner.mean_0)
    random = generator(3, "moments")
    preconditioner.mean_0.copy_(torch.randn(pools, generator=random))
    preconditioner.mean_1.copy_(torch.randn(pools, generator=random))
    preconditioner.deviation_0.copy_(0.3 + torch.rand(pools, generator=random))
    preconditioner.deviation_1.copy_(0.1 + torch.rand(pools, generator=random))
    preconditioner.covariance.copy_(correlation * preconditioner.deviation_0 * preconditioner.deviation_1)


def gaussian_map(preconditioner: Preconditioner, x_0: Tensor) -> Tensor:
    """Where a Gaussian model takes x_0: μ_1 + σ_1 / σ_0 (x_0 − μ_0)."""
    part = {name: getattr(preconditioner, name)[preconditioner.index] for name in Preconditioner.STATISTICS}
    return part["mean_1"] + part["deviation_1"] / part["deviation_0"] * (x_0 - part["mean_0"])


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("last_step", [0.0, 0.4])
def test_a_gaussian_flow_is_exact_whatever_the_steps(make_flow, steps, last_step):
    flow, _ = make_flow("euclidean")
    correlated(flow)
    flow.network = Silent()
    x_0 = flow.prior.sample(50, generator(0, "start"))
    end = integrate(flow, x_0, steps, solver="multistep", last_step=last_step)
    torch.testing.assert_close(end, gaussian_map(flow.preconditioner, x_0), rtol=1e-4, atol=1e-4)
    by_euler = integrate(flow, x_0, steps, last_step=last_step)
    assert (by_euler - gaussian_map(flow.preconditioner, x_0)).abs().max() > 0.02  # the same field, other steps


@pytest.mark.parametrize("time", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_frames_are_what_their_derivatives_say(make_flow, time):
    flow, _ = make_flow("euclidean")
    flow = flow.double()
    correlated(flow)
    h = 1e-5
    before, here, after = (flow.preconditioner.frame(time + way * h) for way in (-1, 0, 1))
    for value, rate in (("mean", here.drift), ("phase", here.pace), ("deviation", here.growth * here.deviation)):
        found = (getattr(after, value) - getattr(before, value)) / (2 * h)
        torch.testing.assert_close(found, rate.expand_as(found), rtol=1e-4, atol=1e-6)
    assert (flow.preconditioner.frame(1.0).phase > flow.preconditioner.frame(0.0).phase).all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_turned_velocities_are_what_the_network_says(make_flow, randomized, geometry):
    """F of the solver is F of the preconditioner, on straight paths whose predictions are not projected."""
    flow, _ = make_flow(geometry, prediction="velocity")
    randomized(flow.network)
    if geometry == "euclidean":
        correlated(flow)
    if geometry == "geometric":  # as a fit finds it
        for _, sphere, where, _ in flow.geometry.manifold.parts:
            flow.preconditioner.angle[flow.preconditioner.index[where]] = 0.8 if sphere else 0.0
    x, time = flow.prior.sample(8, generator(0, "start")), 0.3
    t = torch.full((8,), time)
    solver = Multistep(flow.geometry, flow.preconditioner.frame)
    solver.step(flow.velocity(x, t), x, time, 0.1)
    turned = solver.before[1]
    _, residual, scale = flow.regress(x, t, None, None)
    flat = flow.preconditioner.angle[flow.preconditioner.index] == 0
    torch.testing.assert_close(turned[:, flat], (residual / scale)[:, flat], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(turned[:, ~flat], flow.velocity(x, t)[:, ~flat])  # on spheres as it is
    assert bool((~flat).any()) == (geometry == "geometric")


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("last_step", [0.0, 0.3])
def test_draws_by_few_steps_are_nearer_than_those_of_euler(make_flow, randomized, geometry, last_step):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    x_0 = flow.prior.sample(16, generator(0, "start"))
    fine = integrate(flow, x_0, 512, solver="heun")
    far = {solver: (integrate(flow, x_0, 24, solver=solver) - fine).norm() for solver in ("euler", "multistep")}
    assert far["multistep"] < far["euler"] / 2
    path = integrate(flow, x_0, 6, solver="multistep", keep=True, last_step=last_step)
    assert path.shape == (7, *x_0.shape)
    torch.testing.assert_close(flow.geometry.project_prediction(path[-1]), path[-1])


def test_without_the_step_before_the_order_is_one():
    geometry = build_geometry("geometric", WeightManifold([Factor(("direction",), True, slice(0, 3), (1, 3))]))
    x_0 = torch.nn.functional.normalize(torch.randn(20, 3, generator=generator(0, "x"), dtype=torch.float64), dim=1)

    def turning(x: Tensor, t: Tensor) -> Tensor:
        return geometry.tangent(x, torch.stack([torch.cos(3 * t), x[:, 0], torch.sin(2 * t) - x[:, 1]], 1))

    field = SimpleNamespace(geometry=geometry, velocity=turning)
    exact = integrate(field, x_0, 1024, solver="rk4")

    def order(forgetful: bool) -> float:
        errors, counts = [], [32, 64, 128]
        for count in counts:
            solver, x = Multistep(geometry, still), x_0
            for time, h in steps_of(count, 0.0):
                if forgetful:
                    solver.before = None
                x = geometry.step(x, solver.step(turning(x, x.new_full((len(x),), time)), x, time, h))
            errors.append((x - exact).norm().item())
        return -np.polyfit(np.log2(counts), np.log2(errors), 1)[0]

    def still(t: float):
        one = torch.ones(3, dtype=torch.float64)
        return SimpleNamespace(mean=0 * one, drift=0 * one, deviation=one, growth=0 * one, phase=t * one, pace=one)

    assert abs(order(forgetful=False) - 2) < 0.2
    assert abs(order(forgetful=True) - 1) < 0.2


def test_a_last_step_has_its_length_and_equal_ones_before_it():
    assert steps_of(4, 0.0) == [(0.0, 0.25), (0.25, 0.25), (0.5, 0.25), (0.75, 0.25)]
    steps = steps_of(4, 0.4)
    assert [h for _, h in steps] == pytest.approx([0.2, 0.2, 0.2, 0.4])
    assert all(math.isclose(t + h, following) for (t, h), (following, _) in pairwise(steps))
    assert sum(steps[-1]) == 1
    assert steps_of(1, 0.4) == [(0.0, 1.0)]


def test_euler_with_a_last_step_lands_on_its_prediction_there(make_flow, randomized):
    flow, _ = make_flow("normalized")
    randomized(flow.network)
    x_0 = flow.prior.sample(4, generator(0, "start"))
    path = integrate(flow, x_0, 5, keep=True, last_step=0.3)
    predicted = flow.predict(path[-2], torch.full((4,), 0.7))[0]
    torch.testing.assert_close(path[-1], predicted, rtol=1e-4, atol=1e-5)


def test_guidance_is_not_extrapolated(make_flow):
    flow, _ = make_flow("euclidean")
    flow.network = Silent()
    x_0, kicks = flow.prior.sample(4, generator(0, "start")), []

    def kick(x: Tensor, t: Tensor) -> Tensor:
        kicks.append(1.0 if not kicks else 0.0)
        return torch.full_like(x, kicks[-1])

    plain = integrate(flow, x_0, 4, solver="multistep", keep=True)
    guided = integrate(flow, x_0, 4, kick, solver="multistep", keep=True)
    torch.testing.assert_close(guided[1], plain[1] + 0.25)
    # From there the Gaussian model alone goes on: differences grow with its deviations.
    first, last = (flow.preconditioner.frame(t).deviation for t in (0.25, 1.0))
    torch.testing.assert_close(guided[-1] - plain[-1], 0.25 * (last / first).expand_as(x_0), rtol=1e-3, atol=1e-4)


def test_nothing_is_extrapolated_across_guidance(make_flow, randomized):
    # What a kick does to the network's prediction is no change along the way: seven times it, in a long last step, is ruin.
    flow, _ = make_flow("normalized")
    randomized(flow.network)
    x_0 = flow.prior.sample(4, generator(0, "start"))
    free = integrate(flow, x_0, 4, solver="multistep", keep=True, last_step=0.4)
    path = integrate(flow, x_0, 4, lambda x, t: torch.zeros_like(x), solver="multistep", keep=True, last_step=0.4)
    x = x_0
    for number, (t, h) in enumerate(steps_of(4, 0.4), 1):
        anew = Multistep(flow.geometry, flow.preconditioner.frame)
        x = flow.geometry.step(x, anew.step(flow.velocity(x, x.new_full((4,), t)), x, t, h))
        torch.testing.assert_close(path[number], x if number < 4 else flow.geometry.project_prediction(x))
    torch.testing.assert_close(path[1], free[1])
    assert (path[2:] - free[2:]).abs().amax((1, 2)).min() > 1e-3  # or the network says the same everywhere


@pytest.mark.parametrize("solver", ["euler", "multistep", "heun"])
def test_guidance_goes_no_further_in_a_long_last_step_than_in_others(make_flow, solver):
    flow, _ = make_flow("euclidean")

    def still(x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)

    x_0 = flow.prior.sample(4, generator(0, "start"))
    field = SimpleNamespace(geometry=flow.geometry, velocity=still)
    path = integrate(field, x_0, 5, lambda x, t: torch.ones_like(x), solver=solver, keep=True, last_step=0.6)
    torch.testing.assert_close(path.diff(dim=0), torch.full_like(path[1:], 0.1))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"last_step": 1.0}, "from 0 to below 1, got 1.0"),
        ({"last_step": -0.1}, "from 0 to below 1, got -0.1"),
        ({"last_step": math.nan}, "from 0 to below 1, got nan"),
        ({"last_step": 0.5, "solver": "dopri5"}, "neither noise nor dopri5"),
        ({"last_step": 0.5, "stochastic": AddedNoise(0.1, generator(0, "n"))}, "neither noise nor dopri5"),
        ({"solver": "multistep", "stochastic": AddedNoise(0.1, generator(0, "n"))}, "the path that multistep goes by"),
    ],
)
def test_what_does_not_go_together_is_refused(make_flow, given, match):
    flow, _ = make_flow("euclidean")
    with pytest.raises(ValueError, match=match):
        integrate(flow, flow.prior.sample(2, generator(0, "start")), 4, **given)
    with pytest.raises(ValueError, match=match):
        sample(flow, 2, 4, generator(0, "start"), **given)
