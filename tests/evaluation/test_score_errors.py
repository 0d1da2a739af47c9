"""Errors of scores: terms whose means are the scores, and spreads that other networks and examples would have."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wflib.evaluation import bayesian_model_average, brier_score, expected_calibration_error
from wflib.evaluation.score_errors import SCORE_ERRORS, mean_error, score_errors, score_terms
from wflib.networks import accuracy, negative_log_likelihood
from wflib.rng import generator

BINS = 10


def predictions(networks: int, examples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Networks that are overconfident by what differs between them, on examples of differing difficulty."""
    random = generator(seed, "predictions")
    difficulty = torch.randn(1, examples, 3, generator=random, dtype=torch.float64)
    own = 0.5 * torch.randn(networks, 1, 3, generator=random, dtype=torch.float64)
    truth = difficulty[0].softmax(-1)
    targets = torch.multinomial(truth, 1, generator=random)[:, 0]
    return (2.0 * difficulty + own).log_softmax(-1), targets


def errors(log_probabilities: Tensor, targets: Tensor, trajectory: Tensor | None = None) -> dict[str, float]:
    average = bayesian_model_average(log_probabilities)[None]
    terms = [score_terms(each, targets, BINS) for each in (log_probabilities, average)]
    return score_errors(*terms, trajectory)


def test_means_of_terms_are_the_scores():
    log_probabilities, targets = predictions(7, 50, 0)
    terms = score_terms(log_probabilities, targets, BINS)
    scores = {
        "accuracy": accuracy(log_probabilities, targets),
        "nll": negative_log_likelihood(log_probabilities, targets),
        "ece": expected_calibration_error(log_probabilities, targets, BINS),
        "brier": brier_score(log_probabilities, targets),
    }
    assert list(terms) == list(scores)
    for name, values in terms.items():
        torch.testing.assert_close(values.mean(1), scores[name].to(values.dtype))


def test_errors_are_the_spread_over_other_networks_and_examples():
    found, means = [], []
    for seed in range(300):
        log_probabilities, targets = predictions(8, 200, seed)
        found.append(errors(log_probabilities, targets))
        means.append([values.mean().item() for values in score_terms(log_probabilities, targets, BINS).values()])
    spread = torch.tensor(means).std(0)
    for place, name in enumerate(("accuracy", "nll", "ece", "brier")):
        mean = sum(one[f"{name}_error"] for one in found) / len(found)
        assert mean == pytest.approx(spread[place].item(), rel=0.3), name
    assert set(found[0]) == set(SCORE_ERRORS)


def test_one_trajectory_has_errors_over_examples_alone_and_one_example_none():
    log_probabilities, targets = predictions(5, 60, 1)
    one_run = errors(log_probabilities, targets, torch.zeros(5))
    several = errors(log_probabilities, targets)
    expected = score_terms(log_probabilities, targets, BINS)["nll"].mean(0).std().item() / math.sqrt(60)
    assert one_run["nll_error"] == pytest.approx(expected)
    assert several["nll_error"] > one_run["nll_error"]
    single = errors(log_probabilities[:, :1], targets[:1])
    assert all(math.isnan(value) for value in single.values())


def test_the_error_of_a_mean_leaves_out_what_is_undefined_and_counts_runs_once():
    values = torch.tensor([1.0, 2.0, 4.0, math.nan])
    assert mean_error(values) == pytest.approx(values[:3].std().item() / math.sqrt(3))
    assert mean_error(values.repeat(2), torch.arange(4).repeat(2)) == pytest.approx(mean_error(values))
    assert math.isnan(mean_error(values, torch.zeros(4)))
