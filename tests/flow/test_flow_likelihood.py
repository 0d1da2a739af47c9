"""Densities of flows over networks: closed forms, traces of Jacobians, permutations, widths, and what has none."""

from __future__ import annotations

import math

import pytest
import torch

from wflib.flow import (
    divergence,
    draw_networks,
    input_basis,
    log_likelihood,
    log_likelihood_of_coordinates,
    log_likelihood_of_networks,
)
from wflib.flow.prior import Prior
from wflib.manifold import Factor, WeightManifold
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations


def test_the_prior_of_spheres_and_gaussians_has_its_closed_form():
    manifold = WeightManifold([Factor(("w",), True, slice(0, 6), (2, 3)), Factor(("b",), False, slice(6, 8), (2,))])
    prior = Prior(
        manifold, torch.tensor([0.0] * 6 + [0.5, -1.0]), torch.tensor([1.0] * 6 + [0.3, 2.0]), torch.zeros(8).bool()
    )
    x = prior.sample(5, generator(0, "x"))
    flat = torch.distributions.Normal(torch.tensor([0.5, -1.0]), torch.tensor([0.3, 2.0])).log_prob(x[:, 6:]).sum(1)
    torch.testing.assert_close(prior.log_density(x), flat - 2 * math.log(4 * math.pi))


@pytest.mark.parametrize("rotated", [False, True])
def test_a_flow_of_the_gaussian_model_alone_has_the_closed_form(make_flow, dataset, rotated):
    """With a network that says zero, a flow carries its prior to the Gaussian of the preconditioner's moments."""
    flow, zoo = make_flow(basis=input_basis(dataset.train.inputs)[0] if rotated else None)
    x_1 = flow.coordinates.encode(zoo.networks)
    x_0 = flow.prior.sample(len(x_1), generator(0, "x_0"))
    flow.preconditioner.fit(x_0, x_1, torch.zeros(x_1.shape[1]))
    flow.preconditioner.mean_0.zero_()
    flow.preconditioner.covariance.zero_()
    flow.preconditioner.deviation_0.fill_(flow.initialization)
    torch.nn.utils.vector_to_parameters(
        torch.zeros(sum(p.numel() for p in flow.network.parameters())), flow.network.parameters()
    )
    flow.double()
    index = flow.preconditioner.index
    mean, deviation = flow.preconditioner.mean_1[index], flow.preconditioner.deviation_1[index]
    exact = torch.distributions.Normal(mean, deviation).log_prob(x_1.double()).sum(1)[:4]
    found = log_likelihood(flow, flow.prior, x_1[:4].double(), 64, "rk4")
    assert (found - exact).abs().max() < 1e-3
    assert (flow.prior.log_density(x_1[:4].double()) - exact).abs().mean() > 0.1  # which the prior alone does not have


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_the_divergence_of_a_flow_is_the_trace_of_its_projected_jacobian(make_flow, randomized, geometry):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    x, t = flow.prior.sample(2, generator(0, "x")), torch.full((2,), 0.3)
    found, later = (divergence(flow.velocity, flow.geometry, x, time)[1] for time in (t, t + 0.3))
    for point, trace in zip(x, found, strict=True):
        jacobian = torch.func.jacrev(lambda p: flow.velocity(p[None], t[:1])[0])(point)
        axes = torch.eye(len(point))
        projection = flow.geometry.tangent(point.expand_as(axes), axes)
        assert trace.item() == pytest.approx((projection @ jacobian @ projection).trace().item(), abs=1e-4)
    assert (later - found).abs().min() > 0.1
    chunked = divergence(flow.velocity, flow.geometry, x, t, chunk=7)[1]
    torch.testing.assert_close(chunked, found)


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_wide_and_double_networks_have_a_density(make_flow, randomized, zoo, geometry):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    wide = flow.with_widths({"hidden1": 9})
    found = log_likelihood_of_networks(wide, draw_networks(wide, 3, steps=2), steps=2)
    assert torch.isfinite(found).all()
    networks = draw_networks(flow, 3, steps=2)
    double = networks.to(torch.float64)
    torch.testing.assert_close(
        log_likelihood_of_networks(flow, double, steps=2), log_likelihood_of_networks(flow, networks, steps=2)
    )
    with pytest.raises(ValueError, match=r"Shape mismatch: linear1\.weight"):
        log_likelihood_of_networks(flow, draw_networks(wide, 3, steps=2), steps=2)


def test_coordinates_have_the_density_of_their_networks(make_flow, randomized):
    flow, zoo = make_flow("geometric")
    randomized(flow.network)
    x, done = flow.coordinates.encode(zoo.networks)[:5], []
    networks = flow.coordinates.decode(x)
    found = log_likelihood_of_coordinates(flow, x, steps=2, chunk=2, progress=done.append)
    torch.testing.assert_close(found, log_likelihood_of_networks(flow, networks, steps=2), rtol=1e-3, atol=1e-2)
    assert done == [2, 4, 5]


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_networks_keep_their_density_when_permuted(make_flow, randomized, zoo, geometry):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    networks = zoo.networks[:3]
    moved = permute(networks, random_permutations(zoo.architecture, 3, generator(0, "p")))
    before, after = (log_likelihood_of_networks(flow, side, probes=None, steps=4) for side in (networks, moved))
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-2)
    other = networks.map(lambda tensor: tensor + 0.1)
    assert (log_likelihood_of_networks(flow, other, probes=None, steps=4) - before).abs().max() > 0.1


def test_a_state_dict_has_a_density(make_flow, randomized, zoo):
    flow, _ = make_flow()
    randomized(flow.network)
    module = zoo.architecture.module()
    module.load_state_dict({name: tensor[0] for name, tensor in zoo.weights.items()})
    alone = log_likelihood_of_networks(flow, module.state_dict(), steps=4)
    assert alone.shape == (1,)
    both = log_likelihood_of_networks(flow, Networks(zoo.architecture, {n: w[:2] for n, w in zoo.weights.items()}), steps=4)
    torch.testing.assert_close(both[:1], alone)
    assert not torch.equal(both[1:], alone)


def test_the_normalized_flow_has_no_density(make_flow, zoo):
    flow, _ = make_flow("normalized")
    with pytest.raises(ValueError, match="no density"):
        log_likelihood_of_networks(flow, {name: tensor[0] for name, tensor in zoo.weights.items()})
