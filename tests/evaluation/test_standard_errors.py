"""Errors that know trajectories: checked by hand, by duplicated networks and by the share of false alarms."""

from __future__ import annotations

import math

import pytest
import torch

from wflib.evaluation import clustered_difference, compare_means, estimate_mean, holm, one_per_cluster
from wflib.evaluation.clusters import clustered_mean, permutation_p_value
from wflib.networks import example_losses, negative_log_likelihood
from wflib.rng import generator


def clustered(groups: int, size: int, columns: int, *names: str | int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values with half of their variance between clusters, and their clusters."""
    noise = torch.randn(groups, size, columns, generator=generator(0, "values", *names))
    centre = torch.randn(groups, 1, columns, generator=generator(0, "centres", *names))
    return (centre + noise).flatten(0, 1), torch.arange(groups).repeat_interleave(size)


def test_networks_that_are_independent_have_the_usual_error():
    values = torch.randn(30, 4, generator=generator(0, "v"), dtype=torch.float64)
    mean, error, groups = clustered_mean(values)
    torch.testing.assert_close(mean, values.mean(0))
    torch.testing.assert_close(error, values.std(0) / math.sqrt(30))
    assert groups == 30


def test_copies_within_clusters_add_nothing():
    values = torch.randn(20, 3, generator=generator(0, "v"), dtype=torch.float64)
    mean, error, groups = clustered_mean(values.repeat_interleave(5, 0), torch.arange(20).repeat_interleave(5) * 7)
    torch.testing.assert_close(mean, values.mean(0))
    torch.testing.assert_close(error, clustered_mean(values)[1])
    assert groups == 20


def test_false_alarms_are_as_many_as_the_level_says_only_if_clusters_are_known():
    columns = 4000
    ours = torch.randn(60, columns, generator=generator(0, "single")) * 2**0.5
    theirs, clusters = clustered(40, 4, columns, "theirs")
    known = (clustered_difference(ours, theirs, None, clusters).p_value <= 0.05).double().mean()
    assert 0.04 < known < 0.06
    more, others = clustered(30, 3, columns, "more")
    assert 0.04 < (clustered_difference(more, theirs, others, clusters).p_value <= 0.05).double().mean() < 0.06
    assert (clustered_difference(more, theirs).p_value <= 0.05).double().mean() > 0.13


def test_equal_networks_have_a_p_value_of_one_and_other_constants_of_zero():
    same = torch.ones(5, 1)
    assert clustered_difference(same, same).p_value.item() == 1
    assert clustered_difference(same, same + 1).p_value.item() == 0


def test_every_cluster_gives_one_of_its_networks_each_as_often():
    clusters = torch.tensor([3, 9, 3, 3, 1, 9])
    chosen = torch.stack([one_per_cluster(clusters, generator(seed, "one")) for seed in range(600)])
    assert all(sorted(clusters[row].tolist()) == [1, 3, 9] for row in chosen)
    times = torch.bincount(chosen.flatten(), minlength=6) / 600
    torch.testing.assert_close(times, torch.tensor([1 / 3, 1 / 2, 1 / 3, 1 / 3, 1, 1 / 2]), atol=0.07, rtol=0)


def test_holm_by_hand_and_permutations_count_the_observed_one():
    assert holm({"a": 0.04, "b": 0.001, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.003, "c": 0.06})
    assert permutation_p_value(torch.tensor(2.0), torch.tensor([1.0, 2.0, 3.0])) == 3 / 4
    with pytest.raises(ValueError, match=r"p-values between 0 and 1, got .*nan"):
        holm({"a": math.nan, "b": 1e-9})


def test_losses_of_examples_average_to_the_likelihood():
    log_probabilities = torch.randn(3, 8, 4, generator=generator(0, "logits")).log_softmax(-1)
    targets = torch.arange(8) % 4
    losses = example_losses(log_probabilities, targets)
    torch.testing.assert_close(losses.mean(1), negative_log_likelihood(log_probabilities, targets))
    assert losses[1, 2] == -log_probabilities[1, 2, 2]


def test_hard_examples_cancel_in_differences_and_not_in_means():
    hard = 10 * torch.rand(50, generator=generator(0, "hard"), dtype=torch.float64)
    noise = torch.randn(2, 200, 50, generator=generator(0, "noise"), dtype=torch.float64)
    ours, theirs = hard + noise[0] + 0.5, hard + noise[1]
    found = compare_means(ours, theirs)
    assert found.difference == pytest.approx(0.5, abs=0.05)
    assert found.ours == estimate_mean(ours)
    assert found.theirs.error_examples == pytest.approx(theirs.mean(0).std().item() / 50**0.5)
    assert found.error_examples == pytest.approx((ours.mean(0) - theirs.mean(0)).std().item() / 50**0.5)
    assert found.error_examples < found.ours.error_examples / 10
    expected = math.hypot(found.ours.error_networks, found.theirs.error_networks)
    assert found.error_networks == pytest.approx(expected)
    assert found.p_networks < found.p_both < 1e-6


def test_equal_losses_do_not_differ():
    losses = torch.rand(4, 6, generator=generator(0, "l"))
    assert compare_means(losses, losses).p_both == 1


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match=r"at least two clusters, got 1"):
        estimate_mean(torch.rand(4, 6), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"clusters expected \(4,\), got \(3,\)"):
        estimate_mean(torch.rand(4, 6), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"estimate_mean expected losses \(networks, examples >= 2\), got \(4, 1\)"):
        estimate_mean(torch.rand(4, 1))
    with pytest.raises(ValueError, match=r"finite losses, found others in 1 of 4 networks"):
        compare_means(torch.rand(4, 6), torch.rand(4, 6).index_fill_(0, torch.tensor([2]), torch.inf))
    with pytest.raises(ValueError, match=r"the same examples, got \(4, 6\), \(4, 5\)"):
        compare_means(torch.rand(4, 6), torch.rand(4, 5))
