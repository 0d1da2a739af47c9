"""Importance weights between Gaussians have closed forms; Pareto k says which proposals are too narrow."""

from __future__ import annotations

import math

import pytest
import torch

from wflib.architecture import mlp
from wflib.config import load_settings
from wflib.evaluation import flow_importance, importance_weights, weighted_average
from wflib.evaluation.importance import TRUSTED
from wflib.flow import Coordinates, Flow, log_likelihood_of_coordinates
from wflib.rng import generator
from wflib.tasks import Split
from wflib.zoo import Posterior

TARGET = torch.distributions.Normal(torch.tensor(0.3, dtype=torch.float64), 1.0)


def weighted(std: float, count: int = 20_000):
    """Draws from N(0, std²) and their weights under the target N(0.3, 1), whose density is given up to a constant."""
    proposal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), std)
    x = std * torch.randn(count, generator=generator(0, "x"), dtype=torch.float64)
    return x, importance_weights(TARGET.log_prob(x) + 700, proposal.log_prob(x) - 3)


def test_a_wider_proposal_gives_the_targets_moments_and_the_closed_forms_effective_size():
    std, count = 1.5, 20_000
    x, found = weighted(std, count)
    w = found.log_weights.exp()
    assert w.sum().item() == pytest.approx(1)
    assert (w * x).sum().item() == pytest.approx(0.3, abs=0.04)
    assert (w * (x - 0.3).square()).sum().item() == pytest.approx(1, abs=0.05)
    assert x.square().mean().item() == pytest.approx(std**2, rel=0.05)  # what equal weights would say
    # E[w²] / E[w]² of N(μ, 1) over N(0, s²): s² / √(2 s² − 1) · exp(μ² / (2 s² − 1)).
    second = std**2 / math.sqrt(2 * std**2 - 1) * math.exp(0.3**2 / (2 * std**2 - 1))
    assert found.effective == pytest.approx(count / second, rel=0.03)
    assert found.pareto_k < 0.5


def test_a_narrow_proposal_is_not_to_be_trusted():
    # The tail of weights of N(0, s²) under N(0, 1) is that of a Pareto with k = 1 − s².
    narrow = weighted(0.3)[1]
    assert narrow.pareto_k > TRUSTED
    assert narrow.effective < 0.1 * weighted(1.5)[1].effective


def test_equal_densities_give_equal_weights():
    found = importance_weights(torch.zeros(100), torch.full((100,), -5.0))
    assert found.effective == pytest.approx(100)
    assert torch.allclose(found.log_weights.exp(), torch.full((100,), 0.01, dtype=torch.float64))


def test_predictions_are_averaged_with_the_weights():
    found = importance_weights(torch.arange(30.0) / 10, torch.zeros(30))
    p = torch.rand(30, 4, 3, generator=generator(0, "p")).softmax(-1)
    expected = (found.log_weights.exp().float()[:, None, None] * p).sum(0)
    average = weighted_average(p.log(), found)
    torch.testing.assert_close(average.exp(), expected)
    torch.testing.assert_close(average.exp().sum(-1), torch.ones(4))
    assert (average.exp() - p.mean(0)).abs().max() > 0.005
    with pytest.raises(ValueError, match="expected log-probabilities of 30 networks"):
        weighted_average(p[:5].log(), found)


def test_too_few_draws_and_infinite_densities_are_errors():
    with pytest.raises(ValueError, match="25 draws at least"):
        importance_weights(torch.zeros(10), torch.zeros(10))
    with pytest.raises(ValueError, match="expected finite log-densities"):
        importance_weights(torch.full((30,), -torch.inf), torch.zeros(30))


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_a_flows_weights_are_posterior_over_its_density(geometry):
    architecture = mlp([2, 3, 2])
    settings = load_settings(
        changes=["velocity.dimension=8", "velocity.layers=1", "velocity.gradient_examples=0", f"flow.geometry={geometry}"]
    )
    settings = settings.model_copy(update={"velocity": settings.velocity.model_copy(update={"gradient_examples": 0})})
    space = Coordinates(architecture if geometry == "euclidean" else architecture.canonical_form())
    flow, random = Flow(settings.flow, settings.velocity, space, 0.5), generator(0, "x")
    train = Split(torch.randn(8, 2, generator=random), torch.arange(8) % 2)
    posterior = Posterior(architecture, train, 0.5)
    if geometry == "geometric":
        with pytest.raises(ValueError, match=r"expected a flow over ordinary weights, got flow\.geometry: geometric"):
            flow_importance(flow, posterior, torch.zeros(30, space.architecture.dimension))
        return
    x = 0.4 * torch.randn(30, architecture.dimension, generator=random)
    found = flow_importance(flow, posterior, x, probes=None, steps=2)
    proposal = log_likelihood_of_coordinates(flow, x, probes=None, steps=2, end=1.0)
    expected = importance_weights(posterior.log_density(x / 0.5), proposal)
    torch.testing.assert_close(found.log_weights, expected.log_weights)
    other = importance_weights(Posterior(architecture, train, 0.1).log_density(x / 0.1), proposal)
    assert (found.log_weights - other.log_weights).abs().max() > 1
    with pytest.raises(ValueError, match="one of another architecture"):
        flow_importance(flow, Posterior(mlp([2, 4, 2]), train, 0.5), x)
