"""The preconditioner with F = 0 is the posterior mean of Gaussians, whatever their coupling."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from wflib.architecture import mlp
from wflib.rng import generator
from wflib.symmetry import pooling_index
from wflib.velocity import Preconditioner
from wflib.velocity.preconditioning import without_outliers

ARCHITECTURE = mlp([3, 4, 2])
DIMENSION = ARCHITECTURE.dimension
MEAN_0, MEAN_1, STD_0, STD_1 = -0.4, 1.2, 0.7, 1.5
TIMES = torch.tensor([0.0, 0.1, 0.35, 0.7, 0.95, 0.99], dtype=torch.float64)


def model(correlation: float, noise: float = 0.0, angle: float = 0.0) -> Preconditioner:
    """With moments set by hand, the same for all pools, of pairs both of whose ends the same noise has moved."""
    found = Preconditioner(ARCHITECTURE).double()
    std_0, std_1 = (math.hypot(std, noise) for std in (STD_0, STD_1))
    values = (MEAN_0, MEAN_1, std_0, std_1, correlation * STD_0 * STD_1 + noise**2, angle)
    for name, value in zip(Preconditioner.STATISTICS, values, strict=True):
        getattr(found, name).fill_(value)
    return found


def pairs(correlation: float, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    random = generator(0, "pairs")
    a, b = (torch.randn(count, DIMENSION, generator=random, dtype=torch.float64) for _ in range(2))
    return MEAN_0 + STD_0 * a, MEAN_1 + STD_1 * (correlation * a + (1 - correlation**2) ** 0.5 * b)


def conditioned(t: torch.Tensor, x_t: torch.Tensor, correlation: float, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """E and Var of x_1 + σ ε given x_t = (1−t) x_0 + t x_1 + σ ε, by conditioning the joint covariance of (x_0, x_1, ε)."""
    s_01 = correlation * STD_0 * STD_1
    joint = torch.tensor([[STD_0**2, s_01, 0], [s_01, STD_1**2, 0], [0, 0, 1]], dtype=torch.float64)
    means = torch.tensor([MEAN_0, MEAN_1, 0], dtype=torch.float64)
    row = torch.stack([1 - t, t, torch.full_like(t, noise)])
    end = torch.tensor([0, 1, noise], dtype=torch.float64)
    gain = (end @ joint @ row) / (row @ joint @ row)
    return MEAN_1 + gain * (x_t - row @ means), end @ joint @ end - gain * (end @ joint @ row)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95, -0.5])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_no_field_is_the_posterior_mean(correlation, noise):
    preconditioner = model(correlation, noise)
    x_t = 2 * torch.randn(len(TIMES), DIMENSION, generator=generator(0, "x"), dtype=torch.float64)
    found = preconditioner(TIMES)
    prediction = preconditioner.data_mean + found.skip * (x_t - found.centre)
    for row, t in enumerate(TIMES):
        mean, variance = conditioned(t, x_t[row], correlation, noise)
        assert torch.allclose(prediction[row], mean, atol=1e-10)
        assert torch.allclose(found.output_scale[row].square(), variance.expand(DIMENSION), atol=1e-10)
    if correlation:  # who ignores the coupling is wrong
        independent = model(0.0, noise)(TIMES)
        assert ((independent.skip - found.skip) * x_t).abs().max() > 0.05


def test_independent_gaussians_in_closed_form():
    preconditioner = model(0.0)
    x_t = torch.randn(len(TIMES), DIMENSION, generator=generator(0, "x"), dtype=torch.float64)
    found, t = preconditioner(TIMES), TIMES[:, None]
    variance = (1 - t).square() * STD_0**2 + t.square() * STD_1**2
    expected = MEAN_1 + t * STD_1**2 / variance * (x_t - (1 - t) * MEAN_0 - t * MEAN_1)
    assert torch.allclose(preconditioner.data_mean + found.skip * (x_t - found.centre), expected, atol=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_fit_finds_the_moments(correlation):
    preconditioner, exact = Preconditioner(ARCHITECTURE).double(), model(correlation)
    preconditioner.fit(*pairs(correlation), torch.zeros(DIMENSION, dtype=torch.float64))
    for name in Preconditioner.STATISTICS:
        assert torch.allclose(getattr(preconditioner, name), getattr(exact, name), atol=0.05), name


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_inputs_and_what_is_left_have_unit_variance(correlation):
    preconditioner, (x_0, x_1) = model(correlation), pairs(correlation)
    for time in (0.0, 0.4, 0.9):
        x_t, found = torch.lerp(x_0, x_1, torch.tensor(time).double()), preconditioner(torch.tensor([time]).double())
        centred = x_t - found.centre
        assert (centred * found.input_scale).std().item() == pytest.approx(1, abs=0.02)
        left = (x_1 - preconditioner.data_mean - found.skip * centred) / found.output_scale
        assert left.std().item() == pytest.approx(1, abs=0.02)
        assert (left * centred * found.input_scale).mean().abs() < 0.02  # nothing linear is left to predict
        assert ((x_1 - MEAN_1) / found.output_scale).std().item() > (1.02 if time else 0.9)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_with_path_noise_it_is_the_regression_of_the_moved_end(correlation):
    """Fitted to moved ends, by least squares of these pairs; not of the zoo's own ends, whose k stays below one."""
    sigma, (x_0, x_1) = 0.5, pairs(correlation)
    noise = sigma * torch.randn(x_1.shape, generator=generator(1, "noise"), dtype=torch.float64)
    preconditioner = Preconditioner(ARCHITECTURE).double()
    preconditioner.fit(x_0 + noise, x_1 + noise, torch.zeros(DIMENSION, dtype=torch.float64))
    for time in (0.3, 0.5, 0.99):
        x_t = torch.lerp(x_0, x_1, torch.tensor(time).double()) + noise
        found, centred = preconditioner(torch.tensor([time]).double()), x_t - x_t.mean()
        variance = centred.square().mean()
        assert found.input_scale.mean().item() == pytest.approx(variance.rsqrt().item(), rel=5e-3)
        gain, own = ((centred * (end - end.mean())).mean() / variance for end in (x_1 + noise, x_1))
        left = (x_1 + noise - x_1.mean() - gain * centred).std().item()
        assert found.skip.mean().item() == pytest.approx(gain.item(), rel=5e-3)
        assert found.output_scale.mean().item() == pytest.approx(left, rel=1e-2)
        assert own < 0.95 * gain


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("angle", [0.0, 1.2])
def test_the_end_is_the_identity(correlation, noise, angle):
    preconditioner = model(correlation, noise, angle)
    gaps = []
    for left in (1e-1, 1e-2, 1e-3, 1e-5):
        found = preconditioner(torch.tensor([1 - left], dtype=torch.float64))
        gaps.append(((found.skip - 1).abs().max().item(), found.output_scale.abs().max().item()))
    for larger, smaller in pairwise(gaps):
        assert smaller[0] < larger[0]
        assert smaller[1] < larger[1]
    assert gaps[-1][0] < 1e-4
    assert gaps[-1][1] < 1e-4


def test_moments_are_shared_by_what_permutations_exchange():
    preconditioner = Preconditioner(ARCHITECTURE).double()
    scale = torch.rand(DIMENSION, generator=generator(0, "scale"), dtype=torch.float64) + 0.5
    x_0, x_1 = pairs(0.3, 200)
    preconditioner.fit(x_0 * scale, x_1 * scale, torch.zeros(DIMENSION, dtype=torch.float64))
    weight = ARCHITECTURE.unflatten(preconditioner.data_mean[None])["linear1.weight"][0]
    assert torch.equal(weight, weight[:1].expand_as(weight))
    assert weight[0].diff().abs().min() > 1e-3


@pytest.mark.parametrize("kind", ["same", "constant", "one beginning", "constant throughout", "zero throughout"])
def test_degenerate_pairs_give_finite_coefficients(kind):
    preconditioner, x_0 = Preconditioner(ARCHITECTURE, identities=True), pairs(0.0, 200)[0].float()
    ones = torch.ones_like(x_0)
    sides = {
        "same": (x_0, x_0),
        "constant": (x_0, ones),
        "one beginning": (x_0[:1].expand_as(x_0), x_0),
        "constant throughout": (ones, ones),
        "zero throughout": (0 * ones, 0 * ones),
    }
    preconditioner.fit(*sides[kind], torch.zeros(DIMENSION))
    found = preconditioner(TIMES.float())
    for name in ("centre", "input_scale", "skip", "output_scale"):
        assert torch.isfinite(getattr(found, name)).all()
    assert (found.output_scale > 0).all()


@pytest.mark.parametrize("identities", [True, False])
def test_values_of_ordinary_networks_are_no_outliers(identities):
    random = generator(0, "heavy")
    index = pooling_index(ARCHITECTURE, identities)
    uniform = torch.rand(2_000, DIMENSION, generator=random) - 0.5
    heavy = -uniform.sign() * (1 - 2 * uniform.abs()).clamp_min(1e-6).log()  # Laplace
    mostly_zero = torch.randn(2_000, DIMENSION, generator=random) * (torch.rand(2_000, 1, generator=random) < 0.05)
    two = torch.randn(2_000, DIMENSION, generator=random) * 0.1 + (torch.rand(2_000, 1, generator=random) < 0.5)
    for values in (torch.randn(2_000, DIMENSION, generator=random), heavy, mostly_zero, two):
        assert torch.equal(without_outliers(values, index), values)


@pytest.mark.parametrize("identities", [True, False])
def test_a_few_outliers_do_not_decide_the_moments(identities):
    x_0, x_1 = (side.float() for side in pairs(0.6, 2_000))
    exact, robust = (Preconditioner(ARCHITECTURE, identities=identities) for _ in range(2))
    exact.fit(x_0, x_1, torch.zeros(DIMENSION))
    spoiled = x_1.clone()
    spoiled[::40] *= 1e5
    robust.fit(x_0, spoiled, torch.zeros(DIMENSION))
    # A fortieth of the values on the edge, 13 deviations away, makes the deviation 2.3 times as large.
    assert (robust.deviation_1 / exact.deviation_1).max() < 4
    assert (spoiled.std(0) / x_1.std(0)).min() > 1e3
    index = pooling_index(ARCHITECTURE, identities)
    kept = without_outliers(spoiled, index)
    ordinary = torch.ones(2_000, dtype=torch.bool)
    ordinary[::40] = False
    assert torch.equal(kept[ordinary], x_1[ordinary])


@pytest.mark.parametrize("share", [0.02, 0.15])
def test_what_pruning_left_is_no_outlier(share):
    random = generator(0, "pruned")
    x_0 = torch.randn(4_000, DIMENSION, generator=random)
    alive = torch.rand(4_000, 1, generator=random) < share
    x_1 = torch.randn(4_000, DIMENSION, generator=random) * torch.where(alive, 1, 1e-7)
    preconditioner = Preconditioner(ARCHITECTURE, identities=True)
    preconditioner.fit(x_0, x_1, torch.zeros(DIMENSION))
    assert (preconditioner.deviation_1 / x_1.std(0) - 1).abs().max() < 1e-3
    assert without_outliers(x_1, preconditioner.index).std() < 1e-2  # by their bulk alone they would be
    far = x_1.where(alive.logical_not(), 1e4 * x_1)
    preconditioner.fit(x_0, far, torch.zeros(DIMENSION))
    assert (preconditioner.deviation_1 < 20).all()


def test_values_too_large_for_single_precision_are_named():
    x_0, x_1 = (side.float() for side in pairs(0.6, 200))
    with pytest.raises(ValueError, match=r"values up to .*e\+1[23]; leave out networks"):
        Preconditioner(ARCHITECTURE).fit(x_0, 1e12 * x_1, torch.zeros(DIMENSION))
    Preconditioner(ARCHITECTURE).fit(x_0, 1e4 * x_1, torch.zeros(DIMENSION))
