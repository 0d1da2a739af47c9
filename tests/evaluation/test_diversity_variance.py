"""Functional diversity and spread of weights against closed forms."""

import itertools
import math

import pytest
import torch

from wflib.evaluation import jensen_shannon_diversity, kernel_divergences, variance_ratio
from wflib.evaluation.diversity import jensen_shannon_divergences, mean_over_pairs, over_pairs
from wflib.rng import generator


def test_opposite_certain_predictors_differ_by_ln_2_and_equal_ones_by_nothing():
    opposite = torch.tensor([[[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3]).log()
    assert jensen_shannon_diversity(opposite) == pytest.approx(math.log(2))
    assert jensen_shannon_diversity(opposite[[0, 0, 0]]) == 0
    soft = torch.randn(1, 6, 4, generator=generator(0, "p")).log_softmax(-1)
    assert jensen_shannon_diversity(soft.expand(3, -1, -1)) == 0


@pytest.mark.parametrize("elements", [1, 100, 2**22])
def test_diversity_is_the_mean_over_pairs_for_any_chunk(elements):
    p = torch.randn(5, 6, 3, generator=generator(0, "pairs"), dtype=torch.float64).log_softmax(-1)
    expected = []
    for a, b in itertools.combinations(p, 2):
        mixed = ((a.exp() + b.exp()) / 2).log()
        expected.append(((a.exp() * (a - mixed)).sum(-1) / 2 + (b.exp() * (b - mixed)).sum(-1) / 2).mean().item())
    assert jensen_shannon_diversity(p, elements) == pytest.approx(sum(expected) / len(expected))


@pytest.mark.parametrize("shape", [(1, 4, 2), (2, 0, 2)])
def test_diversity_needs_two_networks_and_an_example(shape):
    with pytest.raises(ValueError, match="two networks at least and an example"):
        jensen_shannon_diversity(torch.zeros(shape))


def test_variance_ratio_of_scaled_copies_is_the_square_of_the_factor():
    zoo = torch.randn(20, 6, generator=generator(0, "zoo"), dtype=torch.float64) * torch.arange(1, 7)
    same, half = variance_ratio(zoo + 3, zoo), variance_ratio(zoo / 2, zoo)
    assert (same.mean, same.total) == pytest.approx((1, 1))
    assert (half.mean, half.total, half.constant) == pytest.approx((0.25, 0.25, 0))


def test_the_two_averages_weigh_coordinates_differently():
    zoo = torch.tensor([[-1.0, -10.0], [1.0, 10.0]])
    ratio = variance_ratio(zoo * torch.tensor([2.0, 1.0]), zoo)
    assert ratio.mean == pytest.approx((4 + 1) / 2)
    assert ratio.total == pytest.approx((4 + 100) / (1 + 100))


def test_coordinates_without_variance_are_left_out_and_counted():
    zoo = torch.tensor([[-1.0, 5.0], [1.0, 5.0]])
    assert variance_ratio(zoo, zoo).mean == 1
    assert variance_ratio(zoo, zoo).constant == 1
    with pytest.raises(ValueError, match="copies of one"):
        variance_ratio(zoo, zoo[[0, 0]])


def test_neurons_in_random_order_change_the_ratio():
    # Why alignment comes first: the same networks with shuffled coordinates have another spread.
    random = generator(0, "shuffle")
    zoo = torch.arange(8.0) + 0.1 * torch.randn(200, 8, generator=random)
    shuffled = zoo.gather(1, torch.rand(200, 8, generator=random).argsort(1))
    assert variance_ratio(shuffled, zoo).mean > 100


@pytest.mark.parametrize(("samples", "zoo"), [((1, 3), (4, 3)), ((4, 3), (1, 3)), ((4, 2), (4, 3)), ((4, 3, 1), (4, 3))])
def test_variance_ratio_refuses_shapes(samples, zoo):
    with pytest.raises(ValueError, match="variance_ratio expected"):
        variance_ratio(torch.zeros(samples), torch.zeros(zoo))


def test_pairs_come_in_order_and_their_mean_is_the_diversity():
    p = torch.randn(4, 6, 3, generator=generator(0, "pairs"), dtype=torch.float64).log_softmax(-1)
    pairs = over_pairs(jensen_shannon_divergences(p))
    assert pairs.shape == (6,)
    expected = [jensen_shannon_diversity(torch.stack([a, b])) for a, b in itertools.combinations(p, 2)]
    assert pairs.tolist() == pytest.approx(expected)
    assert pairs.mean().item() == pytest.approx(jensen_shannon_diversity(p))


def test_snapshots_of_one_run_make_no_diversity_surer():
    p = torch.randn(25, 40, 3, generator=generator(0, "runs"), dtype=torch.float64).log_softmax(-1)
    often, runs = p.repeat_interleave(4, 0), torch.arange(25).repeat_interleave(4)
    once = mean_over_pairs(jensen_shannon_divergences(p))[1]
    several = jensen_shannon_divergences(often)
    assert mean_over_pairs(several, runs)[1] == pytest.approx(once, rel=0.05)
    assert mean_over_pairs(several)[1] < 0.6 * once
    assert math.isnan(mean_over_pairs(several[:4, :4], runs[:4])[1])


@pytest.mark.parametrize(("probability", "bandwidth"), [(0.0, 1.0), (0.0, 0.3), (0.4, 0.1)])
def test_kernel_divergence_of_two_points_has_a_closed_form(probability, bandwidth):
    # Sets of one point each, all of them alike: p_B(a) / p_A(a) = exp(−d² / 2 h²).
    p = torch.tensor([[[1.0, 0.0]] * 4, [[probability, 1 - probability]] * 4], dtype=torch.float64).log()
    squared = 2 * (1 - probability) ** 2
    expected = math.log(2 / (1 + math.exp(-squared / (2 * bandwidth**2))))
    assert over_pairs(kernel_divergences(p, bandwidth)).tolist() == pytest.approx([expected])


@pytest.mark.parametrize("elements", [1, 100, 2**24])
def test_kernel_divergence_is_the_thesis_sum(elements):
    from sklearn.neighbors import KernelDensity

    p = torch.randn(4, 9, 3, generator=generator(0, "kernel"), dtype=torch.float64).log_softmax(-1)
    sets, expected = p.exp().numpy(), []
    estimates = [KernelDensity(bandwidth=0.2).fit(outputs) for outputs in sets]
    for a, b in itertools.combinations(range(4), 2):
        sides = []
        for one, other in ((a, b), (b, a)):
            ours, theirs = (estimates[k].score_samples(sets[one]) for k in (one, other))
            sides.append((math.log(2) + ours - torch.logaddexp(*map(torch.from_numpy, (ours, theirs))).numpy()).mean())
        expected.append(sum(sides) / 2)
    assert over_pairs(kernel_divergences(p, 0.2, elements)).tolist() == pytest.approx(expected)


def test_kernel_divergence_does_not_see_which_input_an_output_belongs_to_and_the_other_does():
    p = torch.randn(1, 40, 3, generator=generator(0, "order"), dtype=torch.float64).log_softmax(-1)
    mixed = torch.cat([p, p.flip(1)])
    assert over_pairs(kernel_divergences(mixed)).tolist() == pytest.approx([0], abs=1e-12)
    assert jensen_shannon_diversity(mixed) > 0.05
    with pytest.raises(ValueError, match="bandwidth expected a positive"):
        kernel_divergences(mixed, 0.0)
    with pytest.raises(ValueError, match="two networks at least"):
        kernel_divergences(p)


def test_the_error_of_a_mean_over_pairs_is_its_spread_over_draws_of_networks():
    found = []
    for seed in range(300):
        points = torch.randn(30, 5, 3, generator=generator(seed, "draw"), dtype=torch.float64)
        found.append(mean_over_pairs(jensen_shannon_divergences(points.log_softmax(-1))))
    means, errors = torch.tensor(found).T
    assert errors.mean().item() == pytest.approx(means.std().item(), rel=0.15)


def test_the_error_of_the_variance_ratio_is_its_spread_over_draws_of_samples():
    zoo = torch.randn(4000, 6, generator=generator(0, "zoo"), dtype=torch.float64)
    draws = [torch.randn(40, 6, generator=generator(seed, "draw"), dtype=torch.float64) for seed in range(300)]
    found = [variance_ratio(draw, zoo) for draw in draws]
    spread = torch.tensor([one.mean for one in found]).std().item()
    assert sum(one.error for one in found) / len(found) == pytest.approx(spread, rel=0.15)
    twice = draws[0].repeat(2, 1)
    clusters = torch.arange(40).repeat(2)
    assert variance_ratio(twice, zoo, clusters).error == pytest.approx(found[0].error, rel=0.05)
    assert variance_ratio(twice, zoo).error < 0.8 * found[0].error  # copies taken for draws
    assert math.isnan(variance_ratio(draws[0], zoo, torch.zeros(40)).error)
