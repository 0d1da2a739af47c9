"""Stochastic sampling on Gaussian → Gaussian: the diffusion keeps mean and variance, added noise does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.flow.test_solvers import FLAT, MEAN, SIGMA_0, SIGMA_1, gaussian
from wflib.flow import AddedNoise, Diffusion, diffusion_of, integrate, sample
from wflib.flow.guidance import SCHEDULES
from wflib.rng import generator

FIELD = SimpleNamespace(geometry=FLAT, velocity=gaussian)


def starts(count: int = 30_000) -> Tensor:
    return SIGMA_0 * torch.randn(count, 2, generator=generator(0, "starts"), dtype=torch.float64)


def diffusion(strength: float, schedule: str = "falling", deviation: float = SIGMA_0) -> Diffusion:
    return Diffusion(strength, generator(0, "noise"), torch.zeros(2), torch.full((2,), deviation), SCHEDULES[schedule])


@dataclass(frozen=True)
class Undirected(Diffusion):
    """Noise without the drift that balances it: Euler's step, and the variance ∫ g² dt over it."""

    def step(self, x: Tensor, velocity: Tensor, t: float, h: float) -> Tensor:
        added = self.strength * ((1 - t) ** 2 - (1 - t - h) ** 2) / 2
        return x + h * velocity + added**0.5 * self.deviation * torch.randn(x.shape, generator=self.generator)


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_deterministic_and_diffusion_samples_have_the_right_mean_and_variance(strength):
    end = integrate(FIELD, starts(), 128, stochastic=diffusion(strength) if strength else None)
    assert end.mean().item() == pytest.approx(MEAN, rel=0.05)
    assert end.var().item() == pytest.approx(SIGMA_1**2, rel=0.05)


def moments(
    steps: int, g_squared: Callable[[Tensor], Tensor], times: tuple[float, ...] = (1.0,), field: Callable = gaussian
) -> list[tuple[float, float]]:
    """Mean and variance of the diffusion's draws at some times, without drawing: its steps on Gaussian fields are affine."""
    random, nothing = generator(0, "n"), torch.zeros(1)
    still = Diffusion(1.0, random, nothing, nothing, lambda t: g_squared(t) / SIGMA_0**2)
    mean, variance, found = 0.0, SIGMA_0**2, []
    for index in range(steps):
        t, h = index / steps, 1 / steps
        points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        offset, one = still.step(points, field(points, torch.full((2,), t, dtype=torch.float64)), t, h).flatten().tolist()
        mean = offset + (one - offset) * mean
        variance = (one - offset) ** 2 * variance + still.share(t, h) * SIGMA_0**2
        if any(abs(t + h - time) < 1e-9 for time in times):
            found.append((mean, variance))
    return found


RATES = {
    "one": torch.ones_like,
    "four": lambda t: 4 + 0 * t,
    "rising": lambda t: t,
    "a wave": lambda t: 1 + torch.sin(9 * t),
    "a jump": lambda t: (t > 0.5).double(),
}


@pytest.mark.parametrize("rate", RATES)
def test_any_rate_of_noise_keeps_every_marginal_with_errors_that_fall(rate):
    times = (0.25, 0.5, 0.75, 1.0)
    exact = [(t * MEAN, (1 - t) ** 2 * SIGMA_0**2 + t**2 * SIGMA_1**2) for t in times]
    counts = [32, 64, 128, 256]
    errors = np.array([np.abs(np.array(moments(steps, RATES[rate], times)) - exact).max() for steps in counts])
    assert (errors[1:] < 0.65 * errors[:-1]).all()  # order one
    assert errors[-1] < 0.03
    assert -np.polyfit(np.log2(counts), np.log2(errors), 1)[0] == pytest.approx(1, abs=0.2)


def test_with_a_rate_of_one_draws_are_what_the_moments_say():
    drawn = integrate(FIELD, starts(), 32, stochastic=diffusion(SIGMA_0**-2, "constant"))
    mean, variance = moments(32, RATES["one"])[0]
    assert drawn.mean().item() == pytest.approx(mean, abs=0.03)
    assert drawn.var().item() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("steps", [8, 64, 512])
def test_narrow_data_needs_no_shorter_steps(monkeypatch, steps):
    narrow = 1e-3

    def field(x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        variance = (1 - t).square() * SIGMA_0**2 + t.square() * narrow**2
        return MEAN + (t * narrow**2 - (1 - t) * SIGMA_0**2) / variance * (x - t * MEAN)

    mean, variance = moments(steps, RATES["one"], field=field)[0]
    assert mean == pytest.approx(MEAN, abs=1e-6)
    assert variance < 2 * narrow**2
    monkeypatch.setattr(Diffusion, "share", lambda self, t, h: h / SIGMA_0**2)  # all of it, whatever a step can carry
    assert moments(steps, RATES["one"], field=field)[0][1] > 1e2 * narrow**2


def test_schedules_are_checked(make_flow):
    flow, _ = make_flow()
    assert diffusion_of(flow, 1.0, generator(0, "n"), "constant").schedule is SCHEDULES["constant"]
    with pytest.raises(
        ValueError, match=r"diffusion_schedule: expected a function or one of constant, rising, falling, got"
    ):
        diffusion_of(flow, 1.0, generator(0, "n"), "upwards")
    with pytest.raises(ValueError, match=r"at least 0, got -0\.[0-9]+ between t = 0\.75 and 1|between t = 0\.5 and 0\.75"):
        integrate(FIELD, starts(5), 4, stochastic=replace(diffusion(1.0), schedule=lambda t: 0.5 - t))
    with pytest.raises(ValueError, match=r"finite strength of at least 0, got nan"):
        diffusion(math.nan)


@pytest.mark.parametrize("strength", [0.5, -0.5])
def test_a_field_stronger_than_asked_has_no_diffusion(make_flow, randomized, strength):
    flow, _ = make_flow(condition="loss")
    randomized(flow.network)
    draw = {"stochastic": diffusion_of(flow, 1.0, generator(0, "n")), "condition": 0.3}
    with pytest.raises(ValueError, match=r"condition_strength: -?0\.5 makes a field that has none.*condition_strength: 0"):
        sample(flow, 3, 2, generator(0, "s"), condition_strength=strength, **draw)
    assert torch.isfinite(sample(flow, 3, 2, generator(0, "s"), **draw)).all()


def test_the_diffusion_forgets_where_it_started():
    x_0 = starts(4_000)
    mild, strong = (
        torch.corrcoef(torch.stack([x_0[:, 0], integrate(FIELD, x_0, 128, stochastic=diffusion(strength))[:, 0]]))[
            0, 1
        ].item()
        for strength in (0.5, 4.0)
    )
    assert 0.95 > mild > strong + 0.1


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_guidance_is_added_once_whatever_the_diffusion(strength):
    x_0, push, steps = starts(5), torch.tensor([0.3, -0.2], dtype=torch.float64), 4
    plain, guided = (
        integrate(FIELD, x_0, steps, extra, stochastic=diffusion(strength), keep=True)
        for extra in (None, lambda x, t: push.expand_as(x))
    )
    gap = torch.zeros_like(x_0)  # of the same noise, by the linear equation of the difference
    for index in range(steps):
        t = torch.full((len(x_0),), index / steps, dtype=torch.float64)
        pull = gaussian(plain[index] + gap, t) - gaussian(plain[index], t)
        left = 1 - index / steps
        share = strength * (left**2 - (left - 1 / steps) ** 2) / 2 if index + 1 < steps else 0.0
        gap = gap + (pull + push) / steps + share / 2 * (t[:, None] * pull - gap) / left
        torch.testing.assert_close(guided[index + 1] - plain[index + 1], gap)
    assert gap.abs().min() > 0.05


def test_a_drift_of_another_prior_or_no_drift_gives_a_wrong_variance():
    wrong = integrate(FIELD, starts(), 128, stochastic=diffusion(2.0, deviation=3 * SIGMA_0))
    assert abs(wrong.var().item() / SIGMA_1**2 - 1) > 0.1
    right = diffusion(2.0)
    blind = integrate(FIELD, starts(), 128, stochastic=Undirected(2.0, right.generator, right.mean, right.deviation))
    assert blind.var().item() / SIGMA_1**2 > 1.1


def test_added_noise_widens_by_as_much_as_its_steps_add():
    few, many = (
        integrate(FIELD, starts(), steps, stochastic=AddedNoise(0.1, generator(0, "n"))).var().item() / SIGMA_1**2
        for steps in (16, 128)
    )
    assert many > few
    assert many > 1.2


def test_added_noise_keeps_to_its_interval():
    x_0 = starts(100)
    never = integrate(FIELD, x_0, 10, stochastic=AddedNoise(0.5, generator(0, "n"), (0.93, 0.97)))
    assert torch.equal(never, integrate(FIELD, x_0, 10))
    noise = AddedNoise(0.5, generator(0, "n"), (0.45, 0.75))
    path, plain = (integrate(FIELD, x_0, 10, stochastic=kind, keep=True) for kind in (noise, None))
    assert torch.equal(path[:6], plain[:6])  # the first disturbed step starts at t = 0.5
    assert not torch.allclose(path[6], plain[6])


@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
def test_noise_works_on_every_geometry_and_stays_on_the_manifold(make_flow, randomized, geometry):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    drawn = sample(flow, 6, 8, generator(0, "s"), stochastic=AddedNoise(0.2, generator(0, "n")), keep=True)
    plain = sample(flow, 6, 8, generator(0, "s"), keep=True)
    assert torch.equal(drawn[0], plain[0])
    assert not torch.allclose(drawn[-1], plain[-1], atol=1e-2)
    points = (drawn if geometry == "geometric" else drawn[-1:]).flatten(0, 1)
    assert (flow.geometry.project_prediction(points) - points).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("geometry", "coupling", "reason"),
    [
        ("geometric", "independent", "no function of the velocity"),
        ("normalized", "independent", "no score"),
        ("euclidean", "ot", "no draw from the prior"),
    ],
)
def test_flows_without_a_score_say_why(make_flow, geometry, coupling, reason):
    flow, _ = make_flow(geometry, coupling=coupling)
    with pytest.raises(ValueError, match=f"sample.diffusion: .*{reason}"):
        diffusion_of(flow, 1.0, generator(0, "n"))


def test_noise_on_paths_and_negative_strengths_have_no_diffusion(make_flow):
    with pytest.raises(ValueError, match=r"flow\.path_noise: 0"):
        diffusion_of(make_flow(path_noise=0.1)[0], 1.0, generator(0, "n"))
    with pytest.raises(ValueError, match=r"at least 0, got -0\.5"):
        diffusion_of(make_flow()[0], -0.5, generator(0, "n"))


@pytest.mark.parametrize("steps", [3, 10, 12, 100])
def test_an_interval_ends_with_the_step_at_its_end(steps):
    """0.3 is the time of a step of ten, which sums of 0.1 miss by rounding."""
    x_0, noise = starts(20), AddedNoise(0.5, generator(0, "n"), (0.0, 0.3))
    path, plain = (integrate(FIELD, x_0, steps, stochastic=kind, keep=True) for kind in (noise, None))
    times = torch.arange(steps, dtype=torch.float64) / steps
    before, after = (path[:-1], path[1:])
    quiet = [
        bool(torch.allclose(after[i], before[i] + gaussian(before[i], times[i].expand(20)) / steps)) for i in range(steps)
    ]
    assert quiet == (times > 0.3).tolist()
    assert not torch.equal(path, plain)


def test_a_diffusion_has_the_flows_prior(make_flow):
    flow, _ = make_flow()
    found = diffusion_of(flow, 1.0, generator(0, "n"))
    assert (found.deviation == flow.initialization).all()
    drawn = sample(flow, 6, 8, generator(0, "s"), stochastic=found)
    assert not torch.allclose(drawn, sample(flow, 6, 8, generator(0, "s")), atol=1e-2)


@pytest.mark.parametrize(("solver", "kind"), [("heun", "diffusion"), ("dopri5", "noise"), ("dopri5", "diffusion")])
def test_solvers_that_cannot_be_stochastic_refuse(solver, kind):
    stochastic = diffusion(1.0) if kind == "diffusion" else AddedNoise(0.1, generator(0, "n"))
    with pytest.raises(ValueError, match="choose"):
        integrate(FIELD, starts(5), 4, solver=solver, stochastic=stochastic)
