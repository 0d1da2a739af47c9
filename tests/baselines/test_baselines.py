"""Baselines reproduce the moments they promise, and only those."""

import pytest
import torch

from wflib.architecture import mlp
from wflib.baselines import (
    BASELINES,
    average_network,
    sample_diagonal_gaussian,
    sample_full_gaussian,
    sample_training_noise,
)
from wflib.networks import Networks
from wflib.rng import generator
from wflib.zoo import Zoo

ARCHITECTURE = mlp([2, 2, 2])  # 12 coordinates


def zoo_of(flat: torch.Tensor) -> Zoo:
    count = len(flat)
    nothing = torch.zeros(count, dtype=torch.bool)
    return Zoo(Networks.from_flat(ARCHITECTURE, flat), torch.arange(count), torch.ones(count).long(), nothing, "aligned")


@pytest.fixture
def correlated() -> Zoo:
    """Six networks in twelve dimensions: correlated, and of rank five only."""
    random = generator(0, "zoo")
    return zoo_of(torch.randn(6, 12, generator=random, dtype=torch.float64) + torch.arange(12))


def test_full_gaussian_reproduces_mean_and_covariance_and_the_diagonal_one_only_variances(correlated):
    target, count = correlated.networks.flat.T.cov(), 40_000
    full = sample_full_gaussian(correlated, count, generator(0, "full")).flat
    diagonal = sample_diagonal_gaussian(correlated, count, generator(0, "diagonal")).flat
    assert (full.T.cov() - target).abs().max() < 0.1
    for drawn in (full, diagonal):
        torch.testing.assert_close(drawn.mean(0), correlated.networks.flat.mean(0), atol=0.05, rtol=0)
        torch.testing.assert_close(drawn.var(0), target.diagonal(), atol=0.05, rtol=0.05)
    off_diagonal = diagonal.T.cov() - diagonal.T.cov().diagonal().diag()
    assert off_diagonal.abs().max() < 0.1
    assert (diagonal.T.cov() - target).abs().max() > 0.5


def test_full_gaussian_stays_in_the_span_of_the_zoo_and_the_diagonal_one_leaves_it(correlated):
    centered = correlated.networks.flat - correlated.networks.flat.mean(0)
    directions = torch.linalg.svd(centered, full_matrices=False).Vh[:5]

    def outside(drawn: dict[str, torch.Tensor]) -> float:
        offset = ARCHITECTURE.flatten(drawn) - correlated.networks.flat.mean(0)
        return (offset - offset @ directions.T @ directions).abs().max().item()

    assert outside(sample_full_gaussian(correlated, 20, generator(0, "full")).weights) < 1e-10
    assert outside(sample_diagonal_gaussian(correlated, 20, generator(0, "diagonal")).weights) > 0.5


def test_noise_has_the_promised_deviation_in_every_tensor_around_training_networks():
    random = generator(1, "zoo")
    sizes = torch.tensor([where.stop - where.start for where in ARCHITECTURE.slices.values()])
    scales = (10.0 ** torch.arange(len(sizes))).repeat_interleave(sizes)
    # Coordinates far apart from each other must not count as spread of the zoo.
    zoo = zoo_of(torch.randn(400, 12, generator=random) * scales + 100 * torch.arange(12) * scales)
    drawn = sample_training_noise(zoo, 4000, generator(0, "noise"), noise=0.01).weights
    nearest = torch.cdist(ARCHITECTURE.flatten(drawn).double() / scales, zoo.networks.flat.double() / scales).min(1).indices
    for index, (name, tensor) in enumerate(zoo.weights.items()):
        deviation = (drawn[name] - tensor[nearest]).std().item()
        assert deviation == pytest.approx(0.01 * 10.0**index, rel=0.1), name
    assert len(nearest.unique()) > 390


def test_noise_zero_gives_copies(correlated):
    drawn = sample_training_noise(correlated, 10, generator(0, "noise"), noise=0.0).flat
    assert torch.cdist(drawn, correlated.networks.flat).min(1).values.max() == 0


def test_average_is_one_network(correlated):
    average = average_network(correlated).flat
    torch.testing.assert_close(average, correlated.networks.flat.mean(0, keepdim=True))


@pytest.mark.parametrize("name", BASELINES)
def test_all_share_one_signature_keep_shapes_and_repeat_with_the_seed(name, correlated):
    first, again, other = (BASELINES[name](correlated, 7, generator(seed, name), 0.05) for seed in (0, 0, 1))
    assert first.architecture == ARCHITECTURE
    assert first.flat.shape == (1 if name == "average" else 7, 12)
    assert first.dtype == torch.float64
    assert torch.equal(first.flat, again.flat)
    assert torch.equal(first.flat, other.flat) == (name == "average")


@pytest.mark.parametrize("name", BASELINES)
def test_zoos_too_small_to_fit_are_errors(name, correlated):
    with pytest.raises(ValueError, match=r"expected at least (one network|two networks)"):
        BASELINES[name](correlated[: 0 if name == "average" else 1], 3, generator(0), 0.05)


def test_negative_noise_is_an_error(correlated):
    with pytest.raises(ValueError, match="must not be negative"):
        sample_training_noise(correlated, 3, generator(0), -0.1)
