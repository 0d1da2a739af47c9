"""Regression: errors and likelihoods against known distributions, averages against their parts."""

import math

import pytest
import torch

from wflib.evaluation import gaussian_nll, mixture_nll, noise_deviation, root_mean_squared_error
from wflib.rng import generator


def test_errors_are_in_units_of_the_targets():
    targets = torch.randn(50, 1, generator=generator(0, "targets"))
    predictions = torch.stack([targets, targets + 2, targets - 3])
    assert root_mean_squared_error(predictions, targets).tolist() == pytest.approx([0, 2, 3])
    assert noise_deviation(predictions, targets) == pytest.approx(math.sqrt(13 / 3))


def test_likelihoods_are_those_of_the_normal_distribution():
    targets = torch.randn(50, 1, generator=generator(0, "targets"), dtype=torch.float64)
    predictions = torch.randn(4, 50, 1, generator=generator(0, "predictions"), dtype=torch.float64)
    expected = -torch.distributions.Normal(predictions, 0.7).log_prob(targets).mean((1, 2))
    assert gaussian_nll(predictions, targets, 0.7).tolist() == pytest.approx(expected.tolist())
    density = torch.distributions.Normal(predictions, 0.7).log_prob(targets).exp().mean(0)
    assert mixture_nll(predictions, targets, 0.7) == pytest.approx(-density.log().mean().item())


def test_the_best_noise_is_the_measured_one():
    targets = torch.zeros(4000, 1)
    predictions = 0.5 * torch.randn(3, 4000, 1, generator=generator(0, "noise"))
    best = noise_deviation(predictions, targets)
    found = [gaussian_nll(predictions, targets, factor * best).mean().item() for factor in (0.9, 1.0, 1.1)]
    assert found[1] < min(found[0], found[2])
    assert found[1] == pytest.approx(math.log(0.5) + math.log(2 * math.pi) / 2 + 0.5, abs=0.02)


def test_a_mixture_is_never_worse_than_the_mean_of_its_networks():
    targets = torch.randn(20, 1, generator=generator(0, "targets"))
    predictions = torch.randn(6, 20, 1, generator=generator(0, "predictions"))
    assert mixture_nll(predictions, targets, 1.0) < gaussian_nll(predictions, targets, 1.0).mean().item()
    same = predictions[:1].expand(6, -1, -1)
    assert mixture_nll(same, targets, 1.0) == pytest.approx(gaussian_nll(same, targets, 1.0)[0].item())


@pytest.mark.parametrize("shapes", [((3, 5), (5, 1)), ((3, 5, 1), (5,)), ((3, 5, 1), (6, 1)), ((0, 5, 1), (5, 1))])
def test_other_shapes_and_no_noise_are_refused(shapes):
    predictions, targets = (torch.zeros(shape) for shape in shapes)
    for measure in (root_mean_squared_error, noise_deviation):
        with pytest.raises(ValueError, match="Shape mismatch"):
            measure(predictions, targets)
    with pytest.raises(ValueError, match="positive deviation"):
        mixture_nll(torch.zeros(1, 2, 1), torch.zeros(2, 1), 0.0)
