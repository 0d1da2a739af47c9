"""Laws of one sphere in both precisions, at coincident and antipodal points, and along geodesics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wflib.manifold import StableSphere

SPHERE = StableSphere()
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]
DIMENSIONS = [2, 3, 16, 30]


def points(seed: int, dimension: int, dtype: torch.dtype = torch.float64, count: int = 200) -> Tensor:
    random = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return SPHERE.projx(random).to(dtype)


def tangents(x: Tensor, longest: float, seed: int = 9) -> Tensor:
    """Tangent vectors of lengths spread over (0, longest)."""
    random = torch.Generator().manual_seed(seed)
    direction = SPHERE.proju(x, torch.randn(x.shape, generator=random, dtype=torch.float64).to(x))
    length = longest * torch.rand(len(x), 1, generator=random, dtype=torch.float64).to(x)
    return direction / direction.norm(dim=-1, keepdim=True) * length


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_exp_and_log_are_inverse(dtype, tolerance, dimension):
    x = points(0, dimension, dtype)
    tangent = tangents(x, 2.5)  # shorter than π, where the logarithm is unique
    y = SPHERE.expmap(x, tangent)
    log = SPHERE.logmap(x, y)
    assert (SPHERE.expmap(x, log) - y).abs().max() < tolerance
    assert (log - tangent).abs().max() < tolerance * (1 if dtype is torch.float64 else 2)
    assert (log.norm(dim=-1) - SPHERE.dist(x, y)).abs().max() < tolerance
    assert (log - (y - x)).abs().max() > 0.1  # the chord is not the logarithm


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_tangents_are_orthogonal(dimension):
    x, y = points(0, dimension), points(1, dimension)
    free = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for tangent in (SPHERE.proju(x, free), SPHERE.logmap(x, y)):
        assert (tangent * x).sum(-1).abs().max() < 1e-12
    projected = SPHERE.proju(x, free)
    assert torch.allclose(SPHERE.proju(x, projected), projected, atol=1e-12)
    assert (free * x).sum(-1).abs().max() > 0.1


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_coincident_points(dtype, tolerance):
    x = points(0, 5, dtype)
    t = torch.rand(len(x), 1, generator=torch.Generator().manual_seed(1)).to(x)
    assert SPHERE.dist(x, x).abs().max() == 0
    assert SPHERE.logmap(x, x).abs().max() == 0
    assert (SPHERE.expmap(x, torch.zeros_like(x)) - x).abs().max() < tolerance
    assert (SPHERE.geodesic_point(x, x, t) - x).abs().max() < tolerance
    assert SPHERE.geodesic_velocity(x, x, t).abs().max() < tolerance


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_antipodal_points(dtype, tolerance, dimension):
    x = points(0, dimension, dtype)
    log = SPHERE.logmap(x, -x)
    assert torch.isfinite(log).all()
    assert (SPHERE.dist(x, -x) - math.pi).abs().max() < tolerance
    assert (log.norm(dim=-1) - math.pi).abs().max() < tolerance
    assert (SPHERE.expmap(x, log) + x).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_antipodal_logarithms_are_tangent(dtype):
    x = points(0, 16, dtype)
    assert (SPHERE.logmap(x, -x) * x).sum(-1).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_geodesics_between_antipodes_have_no_nan(dtype):
    x = points(0, 16, dtype)
    for time in (0.0, 0.25, 0.5, 1.0):
        t = torch.full((len(x), 1), time, dtype=dtype)
        assert torch.isfinite(SPHERE.geodesic_point(x, -x, t)).all()
        assert torch.isfinite(SPHERE.geodesic_velocity(x, -x, t)).all()


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_geodesics_are_exponentials_of_scaled_logarithms(dtype, tolerance, dimension):
    x = points(0, dimension, dtype)
    y = SPHERE.expmap(x, tangents(x, 2.8))
    t = torch.rand(len(x), 1, generator=torch.Generator().manual_seed(1)).to(x)
    along = SPHERE.geodesic_point(x, y, t)
    assert (along - SPHERE.expmap(x, t * SPHERE.logmap(x, y))).abs().max() < tolerance
    assert (SPHERE.geodesic_point(x, y, torch.zeros_like(t)) - x).abs().max() < tolerance
    assert (SPHERE.geodesic_point(x, y, torch.ones_like(t)) - y).abs().max() < tolerance
    assert (along - SPHERE.projx(torch.lerp(x, y, t))).abs().max() > 1e-2  # the normalized chord runs at another speed


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_projection_of_zero_is_no_nan(dtype):
    x = torch.zeros(2, 5, dtype=dtype)
    x[1, 3] = 1e-10
    x.requires_grad_()
    found = SPHERE.projx(x)
    assert torch.equal(found[0], torch.zeros(5, dtype=dtype))
    assert found[1].tolist() == pytest.approx([0, 0, 0, 1, 0], abs=1e-5)
    assert torch.isfinite(torch.autograd.grad(found.sum(), x)[0][0]).all()
    assert torch.isfinite(SPHERE.logmap(points(0, 5, dtype)[:1], found[:1])).all()


def test_velocity_is_the_derivative_of_the_geodesic():
    x, y = points(0, 6), points(1, 6)
    t = 0.05 + 0.9 * torch.rand(len(x), 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    velocity, step = SPHERE.geodesic_velocity(x, y, t), 1e-6
    difference = (SPHERE.geodesic_point(x, y, t + step) - SPHERE.geodesic_point(x, y, t - step)) / (2 * step)
    assert (velocity - difference).abs().max() < 1e-7
    assert (velocity.norm(dim=-1) - SPHERE.dist(x, y)).abs().max() < 1e-10
    assert (velocity * SPHERE.geodesic_point(x, y, t)).sum(-1).abs().max() < 1e-10
    assert (SPHERE.logmap(x, y) - difference).abs().max() > 1e-2  # the velocity turns on the way


def test_velocity_keeps_its_digits_near_the_end_where_the_logarithm_does_not():
    x, y = points(0, 16, count=500), points(1, 16, count=500)
    t = torch.full((len(x), 1), 0.999, dtype=torch.float64)
    exact = SPHERE.geodesic_velocity(x, y, t)
    assert (exact - SPHERE.logmap(SPHERE.geodesic_point(x, y, t), y) / (1 - t)).abs().max() < 1e-9
    single = [value.float() for value in (x, y, t)]
    error = (SPHERE.geodesic_velocity(*single) - exact).abs().max()
    naive = SPHERE.logmap(SPHERE.geodesic_point(*single), single[1]) / (1 - single[2])
    assert error < 1e-3
    assert (naive - exact).abs().max() > 10 * error


def near_points(seed: int) -> torch.Tensor:
    random = torch.randn(100, 5, generator=torch.Generator().manual_seed(seed))
    return random / random.norm(dim=-1, keepdim=True)


def test_distance_of_near_points_keeps_its_digits_where_acos_does_not():
    sphere, x = StableSphere(), near_points(0)
    tangent = sphere.proju(x, near_points(1))
    tangent = tangent / tangent.norm(dim=-1, keepdim=True) * 1e-4
    y = sphere.expmap(x, tangent)
    assert torch.allclose(sphere.dist(x, y), torch.full((100,), 1e-4), rtol=2e-3)
    naive = torch.acos((x * y).sum(-1).clamp(-1, 1))
    assert not torch.allclose(naive, torch.full((100,), 1e-4), rtol=2e-2)


def test_paths_to_a_neuron_without_direction_stay():
    sphere = StableSphere()
    x = sphere.projx(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    nothing, t = torch.zeros_like(x), torch.full((50, 1), 0.4)
    assert torch.equal(sphere.logmap(x, nothing), nothing)
    assert (sphere.geodesic_point(x, nothing, t) - x).abs().max() < 1e-6
    assert sphere.geodesic_velocity(x, nothing, t).abs().max() < 1e-6
    assert (sphere.logmap(x, -x).norm(dim=-1) - torch.pi).abs().max() < 1e-5  # antipodes, lost too, keep a direction
