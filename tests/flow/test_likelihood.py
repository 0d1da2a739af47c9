"""Likelihoods: closed forms in flat space and on spheres, Hutchinson's mean and deviation, integrals that are one."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.flow.test_solvers import FLAT, MEAN, SIGMA_0, SIGMA_1, SPHERE, gaussian, turning
from wflib.flow import divergence, draw_probes, log_likelihood
from wflib.rng import generator

CONCENTRATION = 3.0


def normal(x: Tensor, mean: float, deviation: float) -> Tensor:
    return torch.distributions.Normal(mean, deviation).log_prob(x).sum(-1)


def base(x: Tensor) -> Tensor:
    return normal(x, 0.0, SIGMA_0)


def uniform_on_sphere(x: Tensor) -> Tensor:
    return x.new_full((len(x),), -math.log(4 * math.pi))


def points(count: int = 40, dimension: int = 3) -> Tensor:
    return MEAN + SIGMA_1 * torch.randn(count, dimension, generator=generator(0, "points"), dtype=torch.float64)


# -- flat space -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("solver", "steps"), [("heun", 256), ("rk4", 32), ("dopri5", 1)])
def test_a_gaussian_has_its_closed_form(solver, steps):
    x, field = points(), SimpleNamespace(geometry=FLAT, velocity=gaussian)
    found = log_likelihood(field, base, x, steps, solver)
    tolerance = 1e-4 if solver != "dopri5" else 1e-3
    assert (found - normal(x, MEAN, SIGMA_1)).abs().max() < tolerance
    assert (found - normal(x, 0.0, SIGMA_1)).abs().max() > 0.1


WEIGHTS, MEANS, WIDTHS = (torch.tensor(v, dtype=torch.float64) for v in ([0.3, 0.7], [-1.5, 1.0], [0.4, 0.7]))


def mixture_velocity(x: Tensor, t: Tensor) -> Tensor:
    """Marginal velocity from N(0, σ_0²) to a mixture of two Gaussians in each coordinate."""
    t = t[:, None, None]
    variance = (1 - t).square() * SIGMA_0**2 + t.square() * WIDTHS.square()
    centred = x[..., None] - t * MEANS
    responsibility = (WEIGHTS.log() - variance.log() / 2 - centred.square() / (2 * variance)).softmax(-1)
    component = MEANS + (t * WIDTHS.square() - (1 - t) * SIGMA_0**2) / variance * centred
    return (responsibility * component).sum(-1)


def test_a_gaussian_mixture_has_its_closed_form():
    x = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)[:, None]
    found = log_likelihood(SimpleNamespace(geometry=FLAT, velocity=mixture_velocity), base, x, 256, "rk4")
    parts = torch.distributions.Normal(MEANS, WIDTHS).log_prob(x) + WEIGHTS.log()
    assert (found - parts.logsumexp(1)).abs().max() < 1e-4
    grid = torch.linspace(-6, 6, 2001, dtype=torch.float64)[:, None]
    density = log_likelihood(SimpleNamespace(geometry=FLAT, velocity=mixture_velocity), base, grid, 64, "rk4").exp()
    assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1, abs=1e-3)


MIXING = torch.randn(6, 6, generator=generator(0, "mixing"), dtype=torch.float64)


def coupled(x: Tensor, t: Tensor) -> Tensor:
    """A nonlinear field whose Jacobian has large entries off its diagonal."""
    return torch.tanh(x @ MIXING.T) * (1 + t[:, None])


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased_and_varies_as_predicted(kind):
    x, t = torch.randn(1, 6, generator=generator(0, "x"), dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda p: coupled(p[None], t)[0])(x[0])
    count = 20_000
    probes = draw_probes(x, count, generator(0, "probes"), kind)[:, 0]
    found = torch.stack([divergence(coupled, FLAT, x, t, probe[None, None])[1][0] for probe in probes[:50]])
    torch.testing.assert_close(found, torch.einsum("ni,ij,nj->n", probes[:50], jacobian, probes[:50]))
    estimates = torch.einsum("ni,ij,nj->n", probes, jacobian, probes)
    square = jacobian * (jacobian + jacobian.T)
    variance = square.sum() - (square.diagonal().sum() if kind == "rademacher" else 0)
    assert abs(estimates.mean() - jacobian.trace()) < 4 * (variance / count).sqrt()
    assert estimates.var().item() == pytest.approx(variance.item(), rel=0.05)
    exact = divergence(coupled, FLAT, x, t)[1]
    torch.testing.assert_close(exact[0], jacobian.trace())


def test_hutchinson_is_unbiased_along_whole_trajectories():
    x, field = points(1, 6).repeat(4_000, 1), SimpleNamespace(geometry=FLAT, velocity=coupled)
    exact = log_likelihood(field, base, x[:1], 16)
    found = log_likelihood(field, base, x, 16, probes=draw_probes(x, 1, generator(0, "probes")))
    assert abs(found.mean() - exact[0]) < 4 * found.std() / math.sqrt(len(found))
    assert found.std() > 0.1


def test_a_density_on_the_plane_integrates_to_one():
    """A field that mixes both coordinates nonlinearly, over a grid that holds all its mass."""
    mixing = torch.tensor([[0.4, -1.1], [0.9, 0.6]], dtype=torch.float64)

    def field(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x @ mixing.T) * (1 + t[:, None])

    side = torch.linspace(-5, 5, 161, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    density = log_likelihood(SimpleNamespace(geometry=FLAT, velocity=field), base, grid, 16, "rk4").exp().view(161, 161)
    assert torch.trapezoid(torch.trapezoid(density, side), side).item() == pytest.approx(1, abs=1e-3)
    centre = density[80, 80].item()
    assert abs(centre / base(torch.zeros(1, 2)).exp().item() - 1) > 0.5  # far from the prior's


# -- the sphere -----------------------------------------------------------------------------------------------------------


def von_mises_fisher(x: Tensor) -> Tensor:
    """log density of concentration κ about the third axis: κ / (4π sinh κ) exp(κ x_3)."""
    return math.log(CONCENTRATION / (4 * math.pi * math.sinh(CONCENTRATION))) + CONCENTRATION * x[:, 2]


def von_mises_fisher_velocity(x: Tensor, t: Tensor) -> Tensor:
    """The field along meridians whose marginals are von Mises–Fisher of concentration κ t.

    Heights are carried along their quantiles F(z; κ) = (e^{κz} − e^{−κ}) / (e^{κ} − e^{−κ}): dz/dt = −∂_t F / ∂_z F.
    """
    z = x[:, 2]

    def quantile(height: Tensor, time: Tensor) -> Tensor:
        k = CONCENTRATION * time
        return torch.expm1(k * (height + 1)) / torch.expm1(2 * k)

    t = t.clamp_min(1e-6)
    along_t = torch.func.jvp(lambda time: quantile(z, time), (t,), (torch.ones_like(t),))[1]
    along_z = torch.func.jvp(lambda height: quantile(height, t), (z,), (torch.ones_like(z),))[1]
    axis = torch.zeros_like(x)
    axis[:, 2] = 1
    return (-along_t / along_z / (1 - z.square()).clamp_min(1e-12))[:, None] * SPHERE.tangent(x, axis)


def quadrature(rows: int = 24, columns: int = 48) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre in height times equal angles: points (n, 3) and weights that sum to 4π."""
    heights, weights = (torch.tensor(v) for v in np.polynomial.legendre.leggauss(rows))
    angles = torch.arange(columns, dtype=torch.float64) * (2 * math.pi / columns)
    z, angle = (v.flatten() for v in torch.meshgrid(heights, angles, indexing="ij"))
    radius = (1 - z.square()).sqrt()
    x = torch.stack([radius * angle.cos(), radius * angle.sin(), z], 1)
    return x, (weights[:, None] * (2 * math.pi / columns)).expand(-1, columns).flatten()


def test_the_von_mises_fisher_flow_has_its_density():
    x, weights = quadrature()
    field = SimpleNamespace(geometry=SPHERE, velocity=von_mises_fisher_velocity)
    found = log_likelihood(field, uniform_on_sphere, x, 200)
    assert (found - von_mises_fisher(x)).abs().max() < 1e-3
    assert (weights * found.exp()).sum().item() == pytest.approx(1, abs=1e-3)


def test_with_order_four_twenty_steps_are_enough_for_the_von_mises_fisher_flow():
    x, field = quadrature()[0], SimpleNamespace(geometry=SPHERE, velocity=von_mises_fisher_velocity)
    counts, exact = [5, 10, 20], von_mises_fisher(x)
    four, two = (
        [(log_likelihood(field, uniform_on_sphere, x, count, solver) - exact).abs().max().item() for count in counts]
        for solver in ("rk4", "heun")
    )
    assert four[-1] < 1e-5
    assert two[-1] > 1e-3
    assert -np.polyfit(np.log2(counts), np.log2(four), 1)[0] == pytest.approx(4, abs=0.25)


def test_densities_on_the_sphere_integrate_to_one_and_an_ambient_divergence_would_not():
    x, weights = quadrature()
    field = SimpleNamespace(geometry=SPHERE, velocity=turning)
    assert (weights * log_likelihood(field, uniform_on_sphere, x, 100).exp()).sum().item() == pytest.approx(1, abs=1e-3)

    class Ambient:
        """The sphere's steps, but derivatives in all directions of the space around it."""

        curved = True
        step, project_prediction = SPHERE.step, SPHERE.project_prediction
        tangent = staticmethod(lambda x, vector: vector)

    wrong = log_likelihood(SimpleNamespace(geometry=Ambient(), velocity=turning), uniform_on_sphere, x, 100)
    assert abs((weights * wrong.exp()).sum().item() - 1) > 0.05


def test_hutchinson_agrees_with_the_exact_divergence_on_the_sphere():
    x = quadrature(2, 4)[0]
    t = torch.full((len(x),), 0.4, dtype=torch.float64)
    probes = draw_probes(x, 4_000, generator(0, "probes"), "gaussian")
    exact = divergence(turning, SPHERE, x, t)[1]
    assert (divergence(turning, SPHERE, x, t, probes)[1] - exact).abs().max() < 0.15
    assert exact.abs().max() > 0.5


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_hutchinson_varies_as_predicted_on_the_sphere(kind):
    x, t = quadrature(2, 4)[0][:1], torch.tensor([0.4], dtype=torch.float64)
    projection = torch.eye(3, dtype=torch.float64) - x.T @ x
    matrix = projection @ torch.func.jacrev(lambda p: turning(p[None], t)[0])(x[0]) @ projection
    count = 20_000
    probes = draw_probes(x, count, generator(0, "probes"), kind)
    many = divergence(turning, SPHERE, x.repeat(count, 1), t.repeat(count), probes.transpose(0, 1))[1]
    square = matrix * (matrix + matrix.T)
    variance = square.sum() - (square.diagonal().sum() if kind == "rademacher" else 0)
    assert abs(many.mean() - matrix.trace()) < 4 * (variance / count).sqrt()
    assert many.var().item() == pytest.approx(variance.item(), rel=0.06)
    torch.testing.assert_close(divergence(turning, SPHERE, x, t)[1][0], matrix.trace())


def test_unknown_probes_are_refused():
    with pytest.raises(ValueError, match="rademacher or gaussian"):
        draw_probes(points(2), 1, generator(0, "p"), "cauchy")
    with pytest.raises(ValueError, match="at least one"):
        draw_probes(points(2), 0, generator(0, "p"))


def test_no_steps_and_solvers_of_flat_space_are_refused():
    with pytest.raises(ValueError, match="steps must be at least 1"):
        log_likelihood(SimpleNamespace(geometry=FLAT, velocity=gaussian), base, points(2), 0)
    with pytest.raises(ValueError, match="choose rk4, heun or euler"):
        log_likelihood(SimpleNamespace(geometry=SPHERE, velocity=turning), uniform_on_sphere, points(2), 4, "dopri5")


def test_probes_see_coordinates_in_their_own_sizes():
    # u = A x of a chain in coordinates that differ by orders of magnitude: the entries of D⁻¹ A D are of one size.
    random = generator(0, "sizes")
    width = torch.logspace(-6, 0, 6, dtype=torch.float64)
    matrix = width[:, None] * torch.randn(6, 6, generator=random, dtype=torch.float64) / width
    x, t = torch.randn(4, 6, generator=random, dtype=torch.float64) * width, torch.zeros(4, dtype=torch.float64)

    def field(point: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return point @ matrix.T

    probes = draw_probes(x, 400, generator(1, "probes"))
    exact = divergence(field, FLAT, x, t)[1]
    torch.testing.assert_close(exact, matrix.trace().expand(4))
    torch.testing.assert_close(divergence(field, FLAT, x, t, width=width)[1], exact)
    scaled, plain = (divergence(field, FLAT, x, t, probes, width=some)[1] for some in (width, None))
    assert (scaled - exact).abs().max() < 2
    assert (plain - exact).abs().max() > 100
