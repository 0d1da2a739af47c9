"""The product manifold of a canonical network's weights: laws over whole flat vectors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wflib.architecture import mlp
from wflib.manifold import StableSphere, WeightManifold, flat_manifold, sphere_blocks, weight_manifold

SMALL = mlp([5, 4, 3, 2]).with_log_scale()
WDBC = mlp([30, 16, 16, 2]).with_log_scale()
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]


def points(manifold: WeightManifold, seed: int, dtype: torch.dtype = torch.float64, count: int = 12) -> Tensor:
    random = torch.randn(count, manifold.n_elements, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return manifold.projx(random).to(dtype)


@pytest.mark.parametrize("architecture", [SMALL, WDBC], ids=["small", "wdbc"])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_exp_and_log_are_inverse(dtype, tolerance, architecture):
    manifold = weight_manifold(architecture)
    x = points(manifold, 0, dtype)
    free = torch.randn(x.shape, generator=torch.Generator().manual_seed(5)).to(x)
    tangent = 0.3 * manifold.proju(x, free)
    y = manifold.expmap(x, tangent)
    log = manifold.logmap(x, y)
    assert (manifold.expmap(x, log) - y).abs().max() < tolerance
    assert (log - tangent).abs().max() < tolerance
    assert (log.norm(dim=-1) / manifold.dist(x, y) - 1).abs().max() < tolerance
    assert (log - (y - x)).abs().max() > 1e-2


def test_tangents_are_orthogonal_to_every_sphere():
    manifold = weight_manifold(WDBC)
    x, y = points(manifold, 0), points(manifold, 1)
    free = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    spheres = [index for index, (_, sphere, _, _) in enumerate(manifold.parts) if sphere]
    assert len(spheres) == 3

    def radial(vector: Tensor) -> float:
        pairs = [(manifold.take_submanifold_value(x, i), manifold.take_submanifold_value(vector, i)) for i in spheres]
        return max((point * along).sum(-1).abs().max().item() for point, along in pairs)

    assert radial(manifold.proju(x, free)) < 1e-12
    assert radial(manifold.logmap(x, y)) < 1e-12
    assert radial(free) > 0.1


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_coincident_and_antipodal_points(dtype, tolerance):
    manifold = weight_manifold(WDBC)
    x = points(manifold, 0, dtype)
    assert manifold.logmap(x, x).abs().max() == 0
    assert manifold.dist(x, x).abs().max() < 1e-7  # geoopt adds a little below its square root
    log = manifold.logmap(x, -x)
    assert torch.isfinite(log).all()
    assert (manifold.expmap(x, log) + x).abs().max() < tolerance
    for index, (_, sphere, _, _) in enumerate(manifold.parts):
        if sphere:
            assert (manifold.take_submanifold_value(log, index).norm(dim=-1) - math.pi).abs().max() < tolerance


def test_geodesics_have_the_velocity_they_say():
    manifold = weight_manifold(SMALL)
    x, y = points(manifold, 0), points(manifold, 1)
    t = 0.1 + 0.8 * torch.rand(len(x), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    along, velocity, step = manifold.geodesic_point(x, y, t), manifold.geodesic_velocity(x, y, t), 1e-6
    assert (along - manifold.expmap(x, t[:, None] * manifold.logmap(x, y))).abs().max() < 1e-10
    difference = (manifold.geodesic_point(x, y, t + step) - manifold.geodesic_point(x, y, t - step)) / (2 * step)
    assert (velocity - difference).abs().max() < 1e-7
    assert (velocity.norm(dim=-1) - manifold.dist(x, y)).abs().max() < 1e-9
    assert (y - x - difference).abs().max() > 1e-2


def test_velocity_in_float32_near_the_end():
    manifold = weight_manifold(WDBC)
    x, y = points(manifold, 0), points(manifold, 1)
    t = torch.full((len(x),), 0.999, dtype=torch.float64)
    exact = manifold.geodesic_velocity(x, y, t)
    single = [value.float() for value in (x, y, t)]
    error = (manifold.geodesic_velocity(*single) - exact).abs().max()
    naive = manifold.logmap(manifold.geodesic_point(*single), single[1]) / (1 - single[2])[:, None]
    assert error < 1e-3
    assert (naive - exact).abs().max() > 10 * error


def test_random_steps_in_float32_stay_on_the_manifold():
    manifold, random = weight_manifold(SMALL), torch.Generator().manual_seed(3)
    x = points(manifold, 0, torch.float32, count=2)
    unprojected = x.clone()
    for _ in range(1000):
        tangent = manifold.proju(x, 0.05 * torch.randn(x.shape, generator=random))
        x, unprojected = manifold.expmap(x, tangent), unprojected + tangent
    assert (manifold.projx(x) - x).abs().max() < 1e-6
    assert (manifold.projx(unprojected) - unprojected).abs().max() > 1e-2


@pytest.mark.parametrize("make", [weight_manifold, flat_manifold])
def test_squared_distances_are_those_of_all_pairs(make):
    manifold = make(SMALL)
    x, y = points(manifold, 0, count=5), points(manifold, 1, count=7)
    pairs = torch.stack([manifold.dist(x[i].expand_as(y), y).square() for i in range(len(x))])
    assert (manifold.squared_distances(x, y) - pairs).abs().max() < 1e-8
    assert (manifold.squared_distances(y, x).T - pairs).abs().max() < 1e-8
    chords = torch.cdist(x, y).square()
    assert (chords - pairs).abs().max() < 1e-8 if make is flat_manifold else (chords - pairs).abs().max() > 0.1


def test_description_and_dimensions():
    manifold = weight_manifold(WDBC)
    facts = manifold.describe()
    assert sum(fact["spheres"] for fact in facts if fact["kind"] == "sphere") == 16 + 16 + 1
    assert [fact["tensor"] for fact in facts] == [spec.name for spec in WDBC.tensors]
    assert manifold.n_elements == 803
    assert manifold.intrinsic_dimension == 770 == 803 - 33
    assert sphere_blocks(WDBC) == {
        "linear1.weight": (16, 30),
        "linear2.weight": (16, 16),
        "linear3.weight": (1, 32),
    }
    assert manifold.has_spheres
    assert not flat_manifold(WDBC).has_spheres
    assert [isinstance(factor, StableSphere) for factor in manifold.manifolds] == [
        sphere for _, sphere, _, _ in manifold.parts
    ]
