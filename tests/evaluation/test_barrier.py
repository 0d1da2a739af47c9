"""Loss barriers of networks with known midpoints."""

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import BARRIER_SCHEMA, barrier_table, loss_barriers, segment_barriers
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations, weight_matching
from wflib.zoo import Split, network_losses


def confident_network_and_permuted_copy():
    """A network with small loss on its own labels, and the same function in another neuron order."""
    architecture = mlp([4, 8, 2])
    weights = architecture.unflatten(3 * torch.randn(1, architecture.dimension, generator=generator(0, "weights")))
    inputs = torch.randn(60, 4, generator=generator(0, "inputs"))
    split = Split(inputs, architecture.forward(weights, inputs)[0].argmax(-1))
    copy = permute(architecture, weights, random_permutations(architecture, 1, generator(0, "order")))
    return architecture, {name: torch.cat([weights[name], copy[name]]) for name in weights}, split


def test_a_permuted_copy_is_behind_a_barrier_until_it_is_matched():
    architecture, pair, split = confident_network_and_permuted_copy()
    barriers = loss_barriers(architecture, pair, split)
    assert barriers.excess[0, 1] > 0.1
    reference = {name: tensor[:1] for name, tensor in pair.items()}
    matched = permute(architecture, pair, weight_matching(architecture, reference, pair, generator(0, "match")))
    assert loss_barriers(architecture, matched, split).maximal.abs().max() < 1e-6


def test_matrices_are_symmetric_with_the_networks_own_losses_on_the_diagonal():
    architecture, pair, split = confident_network_and_permuted_copy()
    barriers = loss_barriers(architecture, pair, split)
    assert torch.equal(barriers.midpoint, barriers.midpoint.T)
    assert torch.equal(barriers.excess.diagonal(), torch.zeros(2))
    torch.testing.assert_close(barriers.midpoint.diagonal(), network_losses(architecture, pair, split))


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_every_pair_agrees_with_its_midpoint_computed_alone(chunk):
    architecture = mlp([3, 5, 2])
    weights = architecture.unflatten(torch.randn(4, architecture.dimension, generator=generator(1, "weights")))
    split = Split(torch.randn(9, 3, generator=generator(1, "x")), torch.arange(9) % 2)
    barriers = loss_barriers(architecture, weights, split, chunk=chunk)
    own = network_losses(architecture, weights, split)
    for a in range(4):
        for b in range(4):
            middle = {name: (tensor[a : a + 1] + tensor[b : b + 1]) / 2 for name, tensor in weights.items()}
            loss = network_losses(architecture, middle, split)[0]
            torch.testing.assert_close(barriers.midpoint[a, b], loss)
            torch.testing.assert_close(barriers.excess[a, b], loss - (own[a] + own[b]) / 2, atol=1e-6, rtol=1e-5)


def test_a_convex_loss_has_no_barrier():
    # Linear regression is convex in θ: midpoints are at most the mean of the ends.
    architecture = mlp([3, 1], task_type="regression")
    weights = architecture.unflatten(torch.randn(5, architecture.dimension, generator=generator(2, "weights")))
    split = Split(torch.randn(20, 3, generator=generator(2, "x")), torch.randn(20, 1, generator=generator(2, "y")))
    excess = loss_barriers(architecture, weights, split).excess
    assert excess.max() <= 1e-6
    assert excess.min() < -0.01


def test_chunk_is_checked():
    architecture, pair, split = confident_network_and_permuted_copy()
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        loss_barriers(architecture, pair, split, chunk=0)


@pytest.mark.parametrize("points", [3, 5, 11])
def test_a_convex_loss_is_highest_at_the_ends(points):
    # f(x) = w x from w = 1 to w = −1, target 0 at x = 1: L = w²/2, so L(λ) − 1/2 = −2 λ (1 − λ), highest at the ends.
    line = mlp([1, 1], task_type="regression", bias=False)
    start, end = ({"linear1.weight": torch.full((1, 1, 1), value)} for value in (1.0, -1.0))
    found = segment_barriers(line, start, end, Split(torch.ones(1, 1), torch.zeros(1, 1)), points)
    assert (found.midpoint.item(), found.excess.item(), found.maximal.item()) == (0, -0.5, 0)


@pytest.mark.parametrize(("points", "where"), [(3, 0.5), (5, 0.75), (11, 0.7)])
def test_the_maximal_barrier_is_found_off_the_midpoint(points, where):
    # f = relu(w) v at x = 1, target 0, from (w, v) = (−1, 2) to (1, 0): f(λ) = (2λ − 1)⁺ (2 − 2λ), highest at λ = 3/4.
    architecture = mlp([1, 1, 1], task_type="regression", bias=False)
    start, end = (architecture.unflatten(torch.tensor([pair])) for pair in ([-1.0, 2.0], [1.0, 0.0]))
    found = segment_barriers(architecture, start, end, Split(torch.ones(1, 1), torch.zeros(1, 1)), points)
    assert found.excess.item() == 0
    grid = torch.linspace(0, 1, points)
    loss = ((2 * grid - 1).clamp_min(0) * (2 - 2 * grid)) ** 2 / 2
    assert found.maximal.item() == pytest.approx(float(loss.max()), abs=1e-6)
    if points > 3:
        assert found.maximal.item() > 0.01
        assert float(grid[loss.argmax()]) == pytest.approx(where, abs=0.11)


def test_maximal_barriers_are_symmetric_and_no_lower_than_at_the_midpoint():
    architecture, pair, split = confident_network_and_permuted_copy()
    found = loss_barriers(architecture, pair, split)
    assert torch.equal(found.maximal, found.maximal.T)
    assert bool((found.maximal >= found.excess).all())
    assert bool((found.maximal >= 0).all())
    coarse = loss_barriers(architecture, pair, split, points=3)
    torch.testing.assert_close(coarse.maximal, found.excess.clamp_min(0))


def test_the_table_has_a_row_per_ordered_pair():
    architecture, pair, split = confident_network_and_permuted_copy()
    table = barrier_table("unaligned", architecture, pair, split)
    assert list(table.columns) == list(BARRIER_SCHEMA)
    assert table[["i", "j"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert table.maximal.tolist()[0] == 0 < table.maximal.tolist()[1] == table.maximal.tolist()[2]


@pytest.mark.parametrize("points", [1, 2, 4])
def test_points_are_checked(points):
    architecture, pair, split = confident_network_and_permuted_copy()
    with pytest.raises(ValueError, match=f"odd and at least 3, got {points}"):
        loss_barriers(architecture, pair, split, points)
