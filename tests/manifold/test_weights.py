"""The product manifold of a canonical network's weights: laws over whole flat vectors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wflib.architecture import mlp
from wflib.manifold import StableSphere, WeightManifold, flat_manifold, weight_manifold

SMALL = mlp([5, 4, 3, 2]).canonical_form()
WDBC = mlp([30, 16, 16, 2]).canonical_form()
THESIS = mlp([30, 16, 16, 2]).canonical_form("weights")
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]


def points(manifold: WeightManifold, seed: int, dtype: torch.dtype = torch.float64, count: int = 12) -> Tensor:
    random = torch.randn(count, manifold.n_elements, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return manifold.projx(random).to(dtype)


@pytest.mark.parametrize("architecture", [SMALL, WDBC, THESIS], ids=["small", "wdbc", "thesis"])
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


@pytest.mark.parametrize("architecture", [WDBC, THESIS], ids=["wdbc", "thesis"])
def test_tangents_are_orthogonal_to_every_sphere(architecture):
    manifold = weight_manifold(architecture)
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


@pytest.mark.parametrize(
    ("architecture", "spheres"),
    [
        (WDBC, {("linear1.weight", "linear1.bias"): (16, 31), ("linear2.weight", "linear2.bias"): (16, 17)}),
        (THESIS, {("linear1.weight",): (16, 30), ("linear2.weight",): (16, 16)}),
    ],
    ids=["wdbc", "thesis"],
)
def test_description_and_dimensions(architecture, spheres):
    manifold = weight_manifold(architecture)
    facts = manifold.describe()
    assert sum(fact["spheres"] for fact in facts if fact["kind"] == "sphere") == 16 + 16 + 1
    described = " ".join(fact["tensors"] for fact in facts).split()
    assert sorted(described) == sorted(spec.name for spec in architecture.tensors)
    assert manifold.n_elements == 803
    assert manifold.intrinsic_dimension == 770 == 803 - 33
    found = {part.tensors: part.shape for part in manifold.parts if part.sphere}
    last = found.pop(next(tensors for tensors in found if tensors[0] == "linear3.weight"))
    assert found == spheres
    assert last == ((1, 34) if architecture is WDBC else (1, 32))
    assert manifold.has_spheres
    assert not weight_manifold(architecture.ordinary_form()).has_spheres
    assert [isinstance(factor, StableSphere) for factor in manifold.manifolds] == [part.sphere for part in manifold.parts]


def test_every_sphere_holds_one_neurons_weights_and_bias():
    """A neuron's own coordinates, scaled, come back; with another neuron's bias they do not."""
    manifold, random = weight_manifold(SMALL), torch.Generator().manual_seed(4)
    x = points(manifold, 0)
    factor = 0.5 + torch.rand(len(x), 4, generator=random, dtype=torch.float64)
    weights = SMALL.unflatten(x)
    longer = weights | {"linear1.weight": weights["linear1.weight"] * factor[..., None]}
    scaled = longer | {"linear1.bias": weights["linear1.bias"] * factor}
    wrong = longer | {"linear1.bias": weights["linear1.bias"] * factor.roll(1, 1)}
    assert (manifold.projx(SMALL.flatten(scaled)) - x).abs().max() < 1e-12
    assert (manifold.projx(SMALL.flatten(wrong)) - x).abs().max() > 1e-2


def test_what_geoopt_defines_by_other_operations_goes_by_ours():
    manifold = weight_manifold(SMALL)
    x, u, v = points(manifold, 0), *(manifold.proju(points(manifold, 0), points(manifold, seed)) for seed in (1, 2))
    y, carried = manifold.expmap_transp(x, u, v)
    assert torch.equal(y, manifold.expmap(x, u))
    assert torch.equal(carried, manifold.transp(x, y, v))
    assert torch.equal(manifold.transp_follow_expmap(x, u, v), carried)
    assert (manifold.proju(y, carried) - carried).abs().max() < 1e-12
    assert (manifold.proju(y, v) - v).abs().max() > 1e-3
    assert torch.equal(manifold.pack_point(*manifold.unpack_tensor(x)), x)
    assert (manifold.egrad2rgrad(x, v + x) - manifold.proju(x, v + x)).abs().max() < 1e-12
    ok, reason = manifold.check_point_on_manifold(y, explain=True)
    assert ok, reason
    assert not manifold.check_point_on_manifold(y + 0.01)
