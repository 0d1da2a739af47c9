"""What averages know of their own doubt: closed forms, and averages that know nothing."""

from __future__ import annotations

import math

import pytest
import torch

from wflib.evaluation import interval_coverage, out_of_distribution_auroc, predictive_entropy, selective_accuracy
from wflib.rng import generator


def sure(share: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (examples, 2) with this probability of the first class."""
    return torch.stack([share, 1 - share], -1).log()


def test_entropy_of_coins_and_of_certainty():
    found = predictive_entropy(sure(torch.tensor([0.5, 1.0, 0.25])))
    expected = torch.tensor([math.log(2), 0.0, -0.25 * math.log(0.25) - 0.75 * math.log(0.75)])
    torch.testing.assert_close(found, expected)


def test_strange_inputs_are_told_by_entropy_and_not_where_it_says_nothing():
    inside, outside = sure(torch.tensor([0.9, 0.99, 0.2])), sure(torch.tensor([0.5, 0.6, 0.15]))
    # Entropies by distance from one half: inside .4, .49, .3; outside 0, .1, .35: 8 of 9 pairs.
    assert out_of_distribution_auroc(inside, outside) == pytest.approx(8 / 9)
    assert out_of_distribution_auroc(outside, inside) == pytest.approx(1 / 9)
    assert out_of_distribution_auroc(inside, inside) == 0.5
    with pytest.raises(ValueError, match=r"expected averaged log-probabilities \(examples, classes\)"):
        out_of_distribution_auroc(inside[None], outside)


def test_selective_accuracy_answers_the_surest_first():
    log_probabilities = sure(torch.tensor([0.99, 0.05, 0.8, 0.6]))  # confidences .99, .95, .8, .6
    targets = torch.tensor([0, 1, 1, 0])
    found = selective_accuracy(log_probabilities, targets, [0.25, 0.5, 0.75, 1.0])
    assert found.tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert selective_accuracy(log_probabilities, targets, [0.26])[0] == 1  # two of four
    # An average whose confidence is the other way round is worst where it is surest.
    assert selective_accuracy(log_probabilities, torch.tensor([1, 0, 0, 0]), [0.25, 1.0]).tolist() == [0.0, 0.5]
    for coverages in ([0.0], [1.1], []):
        with pytest.raises(ValueError, match="coverages above 0 and up to 1"):
            selective_accuracy(log_probabilities, targets, coverages)
    with pytest.raises(ValueError, match=r"expected targets \(4,\)"):
        selective_accuracy(log_probabilities, targets[:2], [1.0])


def test_intervals_of_the_true_mixture_hold_their_level_and_of_narrower_or_wider_ones_do_not():
    random, examples = generator(0, "targets"), 20_000
    networks = torch.tensor([-1.0, 0.0, 2.0])
    predictions = networks[:, None, None].expand(3, examples, 1)
    chosen = torch.randint(3, (examples, 1), generator=random)
    targets = networks[chosen] + 0.7 * torch.randn(examples, 1, generator=random)
    levels = [0.5, 0.8, 0.95]
    assert interval_coverage(predictions, targets, levels, 0.7).tolist() == pytest.approx(levels, abs=0.012)
    alone = interval_coverage(predictions[1:2], targets, levels, 0.7)  # one network, which knows of no other
    assert (alone < torch.tensor(levels) - 0.15).all()
    assert (interval_coverage(predictions, targets, levels, 3.0) > torch.tensor(levels) + 0.03).all()


def test_the_interval_of_one_gaussian_is_the_textbooks():
    edge = 1.959963984540054
    targets = torch.tensor([[edge - 1e-6], [edge + 1e-6], [-edge + 1e-6], [0.0]])
    assert interval_coverage(torch.zeros(1, 4, 1), targets.double(), [0.95], 1.0).tolist() == [0.75]
    with pytest.raises(ValueError, match="levels between 0 and 1 and positive noise"):
        interval_coverage(torch.zeros(1, 4, 1), targets, [0.95], 0.0)
    with pytest.raises(ValueError, match="Shape mismatch"):
        interval_coverage(torch.zeros(1, 4, 2), targets, [0.95], 1.0)
