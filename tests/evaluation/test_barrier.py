"""Loss barriers of networks with known midpoints."""

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import loss_barriers
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations, weight_matching
from wflib.tasks import Split


def confident_network_and_permuted_copy():
    """A network with small loss on its own labels, and the same function in another neuron order."""
    architecture = mlp([4, 8, 2])
    weights = architecture.unflatten(3 * torch.randn(1, architecture.dimension, generator=generator(0, "weights")))
    inputs = torch.randn(60, 4, generator=generator(0, "inputs"))
    split = Split(inputs, architecture.forward(weights, inputs)[0].argmax(-1))
    copy = permute(Networks(architecture, weights), random_permutations(architecture, 1, generator(0, "order"))).weights
    return architecture, {name: torch.cat([weights[name], copy[name]]) for name in weights}, split


def test_a_permuted_copy_is_behind_a_barrier_until_it_is_matched():
    architecture, pair, split = confident_network_and_permuted_copy()
    barriers = loss_barriers(Networks(architecture, pair), split)
    assert barriers.excess[0, 1] > 0.1
    reference = {name: tensor[:1] for name, tensor in pair.items()}
    matched = permute(
        Networks(architecture, pair),
        weight_matching(Networks(architecture, reference), Networks(architecture, pair), generator(0, "match")),
    )
    assert loss_barriers(matched, split).excess.abs().max() < 1e-6


def test_matrices_are_symmetric_with_the_networks_own_losses_on_the_diagonal():
    architecture, pair, split = confident_network_and_permuted_copy()
    barriers = loss_barriers(Networks(architecture, pair), split)
    assert torch.equal(barriers.midpoint, barriers.midpoint.T)
    assert torch.equal(barriers.excess.diagonal(), torch.zeros(2))
    torch.testing.assert_close(barriers.midpoint.diagonal(), network_losses(Networks(architecture, pair), split))


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_every_pair_agrees_with_its_midpoint_computed_alone(chunk):
    architecture = mlp([3, 5, 2])
    weights = architecture.unflatten(torch.randn(4, architecture.dimension, generator=generator(1, "weights")))
    split = Split(torch.randn(9, 3, generator=generator(1, "x")), torch.arange(9) % 2)
    barriers = loss_barriers(Networks(architecture, weights), split, chunk=chunk)
    own = network_losses(Networks(architecture, weights), split)
    for a in range(4):
        for b in range(4):
            middle = {name: (tensor[a : a + 1] + tensor[b : b + 1]) / 2 for name, tensor in weights.items()}
            loss = network_losses(Networks(architecture, middle), split)[0]
            torch.testing.assert_close(barriers.midpoint[a, b], loss)
            torch.testing.assert_close(barriers.excess[a, b], loss - (own[a] + own[b]) / 2, atol=1e-6, rtol=1e-5)


def test_a_convex_loss_has_no_barrier():
    # Linear regression is convex in θ: midpoints are at most the mean of the ends.
    architecture = mlp([3, 1], task_type="regression")
    weights = architecture.unflatten(torch.randn(5, architecture.dimension, generator=generator(2, "weights")))
    split = Split(torch.randn(20, 3, generator=generator(2, "x")), torch.randn(20, 1, generator=generator(2, "y")))
    excess = loss_barriers(Networks(architecture, weights), split).excess
    assert excess.max() <= 1e-6
    assert excess.min() < -0.01


def test_a_valley_between_two_networks_is_no_barrier():
    architecture = mlp([1, 1], task_type="regression", bias=False)
    weights = {"linear1.weight": torch.tensor([0.0, 4.0]).view(2, 1, 1)}
    split = Split(torch.ones(1, 1), torch.ones(1, 1))
    barriers = loss_barriers(Networks(architecture, weights), split, points=3)
    # L(w) = (w − 1)² / 2 is convex: its largest excess over the chord is at the ends, which have none.
    assert float(barriers.maximal.max()) == 0
    assert float(barriers.excess[0, 1]) == pytest.approx(0.5 - (0.5 + 4.5) / 2)


def test_the_maximum_is_at_least_the_midpoint_and_grows_with_points():
    architecture, pair, split = confident_network_and_permuted_copy()
    lopsided = {name: tensor * torch.tensor([1.0, 0.5]).view(2, *[1] * (tensor.ndim - 1)) for name, tensor in pair.items()}
    few, many = (loss_barriers(Networks(architecture, lopsided), split, points) for points in (1, 15))
    assert torch.equal(few.maximal, few.excess.clamp_min(0))
    assert float(many.maximal[0, 1]) > float(few.maximal[0, 1]) > 0
    assert torch.allclose(many.midpoint, few.midpoint)


@pytest.mark.parametrize("points", [9, 13, 25, 29])
def test_the_midpoint_is_there_for_any_odd_number_of_points(points):
    architecture, pair, split = confident_network_and_permuted_copy()
    found, alone = (loss_barriers(Networks(architecture, pair), split, count) for count in (points, 1))
    assert torch.equal(found.midpoint, alone.midpoint)
    assert (found.maximal >= alone.excess - 1e-6).all()


@pytest.mark.parametrize("wrong", [{"chunk": 0}, {"points": 2}, {"points": 0}])
def test_arguments_are_checked(wrong):
    architecture, pair, split = confident_network_and_permuted_copy()
    with pytest.raises(ValueError, match="chunk of at least 1 and an odd number of points"):
        loss_barriers(Networks(architecture, pair), split, **wrong)
