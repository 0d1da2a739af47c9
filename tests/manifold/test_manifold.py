"""Spheres and their product: laws over whole batches, and how far float32 can be trusted."""

from __future__ import annotations

import math

import pytest
import torch

from wflib.architecture import mlp
from wflib.manifold import StableSphere, flat_manifold, weight_manifold

ARCHITECTURE = mlp([30, 16, 16, 2]).with_log_scale()


def points(count: int, seed: int, dtype=torch.float64, dimension: int = 5) -> torch.Tensor:
    random = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (random / random.norm(dim=-1, keepdim=True)).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_exp_undoes_log(dtype, tolerance):
    sphere, x, y = StableSphere(), points(200, 0, dtype), points(200, 1, dtype)
    log = sphere.logmap(x, y)
    assert torch.allclose(sphere.expmap(x, log), y, atol=tolerance)
    assert torch.allclose(log.norm(dim=-1), sphere.dist(x, y), atol=tolerance)
    assert torch.allclose((log * x).sum(-1), torch.zeros(200, dtype=dtype), atol=tolerance)
    assert not torch.allclose(x + log, y, atol=0.1)


def test_log_undoes_exp():
    sphere, x = StableSphere(), points(200, 0)
    tangent = sphere.proju(x, points(200, 1))
    assert torch.allclose(sphere.logmap(x, sphere.expmap(x, tangent)), tangent, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coincident_and_antipodal_points(dtype):
    sphere, x = StableSphere(), points(50, 0, dtype)
    assert sphere.logmap(x, x).abs().max() == 0
    away = sphere.logmap(x, -x)
    assert torch.allclose(away.norm(dim=-1), torch.full((50,), math.pi, dtype=dtype), atol=1e-5)
    assert torch.allclose(sphere.expmap(x, away), -x, atol=1e-5)
    assert torch.isfinite(sphere.geodesic_point(x, x, torch.rand(50, 1, dtype=dtype))).all()


def test_distance_of_near_points_keeps_its_digits_where_acos_does_not():
    sphere, x = StableSphere(), points(100, 0, torch.float32)
    tangent = sphere.proju(x, points(100, 1, torch.float32))
    tangent = tangent / tangent.norm(dim=-1, keepdim=True) * 1e-4
    y = sphere.expmap(x, tangent)
    assert torch.allclose(sphere.dist(x, y), torch.full((100,), 1e-4), rtol=2e-3)
    naive = torch.acos((x * y).sum(-1).clamp(-1, 1))
    assert not torch.allclose(naive, torch.full((100,), 1e-4), rtol=2e-2)


def test_geodesics_are_exponentials_of_scaled_logs():
    sphere, x, y = StableSphere(), points(100, 0), points(100, 1)
    t = torch.rand(100, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    along = sphere.geodesic_point(x, y, t)
    assert torch.allclose(along, sphere.expmap(x, t * sphere.logmap(x, y)), atol=1e-10)
    step = 1e-6
    difference = (sphere.geodesic_point(x, y, t + step) - sphere.geodesic_point(x, y, t - step)) / (2 * step)
    velocity = sphere.geodesic_velocity(x, y, t)
    assert torch.allclose(velocity, difference, atol=1e-7)
    assert torch.allclose(velocity, sphere.logmap(along, y) / (1 - t), atol=1e-8)
    assert torch.allclose(velocity.norm(dim=-1), sphere.dist(x, y), atol=1e-10)


def test_geodesic_velocity_in_float32_near_the_end():
    sphere, x, y, t = StableSphere(), points(500, 0), points(500, 1), torch.full((500, 1), 0.999, dtype=torch.float64)
    exact = sphere.geodesic_velocity(x, y, t)
    single = [value.float() for value in (x, y, t)]
    assert (sphere.geodesic_velocity(*single) - exact).abs().max() < 1e-3
    assert (sphere.geodesic_velocity(x, y, t - 0.01) - exact).abs().max() > 1e-3


def test_points_stay_on_the_manifold():
    manifold = weight_manifold(ARCHITECTURE)
    random = torch.Generator().manual_seed(0)
    x = manifold.projx(torch.randn(4, manifold.n_elements, generator=random))
    free = x.clone()
    for _ in range(1000):
        tangent = manifold.proju(x, 0.05 * torch.randn(x.shape, generator=random))
        x, free = manifold.expmap(x, tangent), free + tangent
    assert (manifold.projx(x) - x).abs().max() < 1e-6
    assert (manifold.projx(free) - free).abs().max() > 1e-2


def test_product_is_its_factors():
    manifold = weight_manifold(ARCHITECTURE)
    random = torch.Generator().manual_seed(0)
    x, y = (manifold.projx(torch.randn(6, 803, generator=random, dtype=torch.float64)) for _ in range(2))
    assert torch.allclose(manifold.expmap(x, manifold.logmap(x, y)), y, atol=1e-10)
    pairs = manifold.squared_distances(x, y)
    assert torch.allclose(pairs.diagonal(), manifold.dist(x, y).square(), atol=1e-8)
    assert torch.allclose(pairs[1, 4], manifold.dist(x[1:2], y[4:5]).square()[0], atol=1e-8)
    t = torch.rand(6, generator=random, dtype=torch.float64)
    along = manifold.geodesic_point(x, y, t)
    assert torch.allclose(manifold.geodesic_velocity(x, y, t), manifold.logmap(along, y) / (1 - t)[:, None], atol=1e-8)
    assert torch.allclose(manifold.expmap(along, (1 - t)[:, None] * manifold.geodesic_velocity(x, y, t)), y, atol=1e-9)


def test_description_counts_spheres():
    manifold = weight_manifold(ARCHITECTURE)
    kinds = {part["tensor"]: part for part in manifold.describe()}
    assert kinds["linear1.weight"] == {"tensor": "linear1.weight", "kind": "sphere", "spheres": 16, "ambient_dimension": 30}
    assert kinds["linear3.weight"]["ambient_dimension"] == 32
    assert kinds["log_scale"] == {"tensor": "log_scale", "kind": "euclidean", "dimension": 1}
    assert manifold.intrinsic_dimension == 803 - 16 - 16 - 1
    assert flat_manifold(ARCHITECTURE).intrinsic_dimension == 803
