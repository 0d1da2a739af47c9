"""Priors: where their draws lie, how wide they are, and that initial weights can stand in for draws."""

from __future__ import annotations

import math

import pytest
import torch

from tests.architecture.cases import CASES, traced
from tests.cases import incoming
from wflib.architecture import NORMS, mlp
from wflib.flow.prior import canonical_prior, flat_prior
from wflib.manifold import flat_manifold, weight_manifold
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import canonicalize

STD = 0.3
ORDINARY = mlp([20, 16, 12, 2])
CANONICAL = {norm: ORDINARY.canonical_form(norm) for norm in NORMS}


@pytest.fixture(params=NORMS)
def norm(request) -> str:
    return request.param


@pytest.fixture
def prior(norm):
    return canonical_prior(weight_manifold(CANONICAL[norm]), CANONICAL[norm], STD)


def initial(count: int) -> torch.Tensor:
    return STD * torch.randn(count, ORDINARY.dimension, generator=generator(0, "initial"))


def test_flat_priors_are_the_initialization():
    prior = flat_prior(flat_manifold(ORDINARY), ORDINARY.dimension, STD)
    drawn = prior.sample(4_000, generator(0, "prior"))
    assert drawn.mean().item() == pytest.approx(0, abs=0.01)
    assert drawn.std().item() == pytest.approx(STD, rel=0.01)
    start = initial(5)
    assert torch.allclose(prior.from_initialization(start, STD, generator(0, "fresh")), start, atol=1e-6)
    assert torch.allclose(prior.from_initialization(start, 2 * STD, generator(0, "fresh")), start / 2, atol=1e-6)


def test_spheres_are_covered_uniformly(prior, norm):
    drawn = CANONICAL[norm].unflatten(prior.sample(4_000, generator(0, "prior")))
    first = incoming(CANONICAL[norm].layers[0], drawn, norm)
    size = first.shape[-1]
    assert size == (21 if norm == "weights-and-bias" else 20)
    assert (first.norm(dim=-1) - 1).abs().max() < 1e-5
    assert first.mean(0).abs().max() < 0.02
    rows = first.reshape(-1, size)
    assert (rows.T @ rows / len(rows) - torch.eye(size) / size).abs().max() < 0.003
    lopsided = torch.nn.functional.normalize(rows.abs(), dim=-1)
    assert (lopsided.T @ lopsided / len(rows) - torch.eye(size) / size).abs().max() > 0.01


def test_flat_coordinates_have_the_widths_of_canonical_initializations(prior, norm):
    result = canonicalize(Networks.from_flat(ORDINARY, initial(3_000)), norm)
    expected, found = result.networks.weights, CANONICAL[norm].unflatten(prior.sample(3_000, generator(0, "prior")))
    for name in ("linear1.bias", "linear2.bias", "linear3.bias") if norm == "weights" else ():
        assert 0.8 < (found[name].std() / expected[name].std()).item() < 1.25, name
    assert found["log_scale"].mean().item() == pytest.approx(expected["log_scale"].mean().item(), abs=0.15)
    plain = 24  # weights of the last layer
    assert found["log_scale"].std().item() == pytest.approx(1 / math.sqrt(2 * plain), rel=0.1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("std", [0.1, 0.3, 1.0])
def test_the_output_scale_is_that_of_canonical_initializations(std, bias, norm):
    """By simulation where upstream norms concentrate: wide layers."""
    ordinary = mlp([400, 200, 3], bias=bias)
    canonical = ordinary.canonical_form(norm)
    start = std * torch.randn(400, ordinary.dimension, generator=generator(0, "initial"))
    expected = canonicalize(Networks.from_flat(ordinary, start), norm).networks.weights["log_scale"]
    prior = canonical_prior(weight_manifold(canonical), canonical, std)
    assert prior.mean[-1].item() == pytest.approx(expected.mean().item(), abs=0.01)
    assert prior.std[-1].item() == pytest.approx(expected.std().item(), rel=0.15)


def test_initial_weights_are_draws(prior):
    ours = prior.from_initialization(initial(6_000), STD, generator(0, "fresh"))
    theirs = prior.sample(6_000, generator(0, "prior"))
    assert ((ours.mean(0) - theirs.mean(0)) / theirs.std(0)).abs().max() < 0.1
    assert (ours.std(0) / theirs.std(0) - 1).abs().max() < 0.06
    other = ORDINARY.unflatten(initial(6_000).clone())
    other["linear2.bias"] *= 3
    wrong = prior.from_initialization(ORDINARY.flatten(other), STD, generator(0, "fresh"))
    assert (wrong.std(0) / theirs.std(0) - 1).abs().max() > 0.5


def test_only_the_output_scale_is_drawn_anew(prior, norm):
    start = initial(4)
    a, b = (CANONICAL[norm].unflatten(prior.from_initialization(start, STD, generator(seed, "fresh"))) for seed in (0, 1))
    assert [name for name in a if not torch.equal(a[name], b[name])] == ["log_scale"]
    weights = ORDINARY.unflatten(start)
    for layer in ORDINARY.layers[:-1]:
        expected = torch.nn.functional.normalize(incoming(layer, weights, norm), dim=-1)
        assert torch.allclose(incoming(layer, a, norm), expected, atol=1e-6)


@pytest.mark.parametrize("renewal", [0.0, 0.3, 0.9])
def test_renewed_initial_weights_are_draws_that_stay_related(prior, renewal):
    """Moments of the prior whatever the share that is renewed; √(1 − r) of the standardized weights are left."""
    start, random = initial(6_000), generator(0, "fresh")
    flat = flat_prior(flat_manifold(ORDINARY), ORDINARY.dimension, STD)
    ours = flat.from_initialization(start, STD, random, renewal=renewal)
    assert ((ours * start).mean() / STD**2).item() == pytest.approx(math.sqrt(1 - renewal), abs=0.01)
    assert ours.std().item() == pytest.approx(STD, rel=0.01)
    on_spheres, theirs = prior.from_initialization(start, STD, random, renewal=renewal), prior.sample(6_000, random)
    assert ((on_spheres.mean(0) - theirs.mean(0)) / theirs.std(0)).abs().max() < 0.1
    assert (on_spheres.std(0) / theirs.std(0) - 1).abs().max() < 0.06
    assert torch.allclose(prior.manifold.projx(on_spheres), on_spheres, atol=1e-6)
    again = flat.from_initialization(start, STD, random, renewal=renewal)
    assert torch.equal(ours, again) == (renewal == 0)


DRAWN = [name for name in CASES if name != "rms-norm" and not traced(name)[1].statistics]
"""Networks without statistics; but for one whose factors alone are ±1, of which no Gaussian has the width."""


@pytest.mark.parametrize("case", DRAWN)
def test_networks_of_every_kind_have_the_widths_of_their_canonical_initializations(case, norm):
    """Widths by medians, as quotients of norms of few weights have heavy tails."""
    ordinary = traced(case)[1]
    canonical = ordinary.canonical_form(norm)
    start = STD * torch.randn(1_000, ordinary.dimension, generator=generator(0, "initial"))
    result = canonicalize(Networks.from_flat(ordinary, start), norm)
    expected = canonical.flatten(result.networks.weights)
    prior = canonical_prior(weight_manifold(canonical), canonical, STD)
    drawn = prior.sample(1_000, generator(0, "prior"))
    plain = STD * torch.randn(drawn.shape, generator=generator(0, "plain"))
    ratios, unscaled = [], []
    for part in prior.manifold.parts:
        wide, found, other = (
            (x - x.mean()).abs().median().item() for x in (side[:, part.places] for side in (expected, drawn, plain))
        )
        ratios.append(abs(math.log(found / wide)))
        unscaled.append(abs(math.log(other / wide)))
    assert max(ratios) < 0.6
    assert sum(ratios) < 0.8 * sum(unscaled)
    shift = (drawn[:, -1].mean() - expected[:, -1].mean()).item()
    assert abs(shift) < 0.2
    wrong = canonical_prior(prior.manifold, canonical, 2 * STD)
    assert abs((wrong.mean[-1] - expected[:, -1].mean()).item()) > 0.4


def test_networks_with_statistics_are_refused():
    canonical = traced("batch-norm")[1].canonical_form()
    with pytest.raises(ValueError, match=r"without running statistics.*running_mean"):
        canonical_prior(weight_manifold(canonical), canonical, STD)


def test_seeds(prior):
    first, again, other = (prior.sample(3, generator(seed, "prior")) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
