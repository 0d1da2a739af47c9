"""Two-sample tests beside their definitions, with the right share of false alarms, and power where distributions differ."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from tests.evaluation.families import ARCHITECTURE, examples, runs, zoo
from wflib.evaluation import (
    Features,
    classifier_test,
    density_coverage,
    kernel_test,
    loss_test,
    network_features,
    norm_test,
    one_per_cluster,
)
from wflib.evaluation.classifier import delong, principal_scores, scored
from wflib.evaluation.features import log_odds
from wflib.evaluation.two_sample import standardized
from wflib.networks import Networks, predict
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations


def points(count: int, *names: str | int, shift: float = 0.0) -> Features:
    """Gaussian features."""
    flat = torch.randn(count, 6, generator=generator(0, "points", *names)) + shift
    return Features(flat[:, :4], flat[:, 4:])


def test_features_ignore_the_order_of_neurons_and_know_every_probability():
    weights = ARCHITECTURE.unflatten(runs(9, 0))
    moved = permute(Networks(ARCHITECTURE, weights), random_permutations(ARCHITECTURE, 9, generator(0, "p"))).weights
    ours, theirs = (network_features(Networks(ARCHITECTURE, side), examples()) for side in (weights, moved))
    torch.testing.assert_close(ours.function, theirs.function, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.summaries, theirs.summaries, atol=1e-4, rtol=1e-4)
    assert ours.function.shape == (9, 100)
    assert ours.summaries.shape == (9, 12 + 6 + 4 + 6 + 2)
    assert network_features(Networks(ARCHITECTURE, weights), examples(), with_weights=False).summaries.shape == (9, 12)
    probability = predict(Networks(ARCHITECTURE, weights), examples().inputs).exp()[..., 1]
    torch.testing.assert_close((2 * ours.function).sigmoid(), probability)
    three = torch.randn(2, 5, 3, generator=generator(0, "three")).log_softmax(-1)
    torch.testing.assert_close(log_odds(three).view(2, 5, 3).log_softmax(-1), three)


def test_delong_is_the_area_and_its_variance_that_of_repetitions():
    random = np.random.default_rng(0)
    positive, negative = np.round(random.normal(1, 1, 80), 1), np.round(random.normal(0, 1, 50), 1)
    area, variance = delong(positive, negative)
    assert area == pytest.approx(roc_auc_score([1] * 80 + [0] * 50, [*positive, *negative]))
    again = [delong(random.normal(1, 1, 80), random.normal(0, 1, 50))[0] for _ in range(2000)]
    assert variance == pytest.approx(np.var(again), rel=0.3)


def test_a_classifier_tells_shifted_points_and_not_equal_ones():
    shifted = classifier_test(points(200, "a", shift=0.7), points(300, "b"), generator(0, "c"), rounds=20)
    assert shifted.p_value < 1e-6
    assert 0.5 < shifted.low < shifted.auc < shifted.high < 1
    assert shifted.error == pytest.approx((shifted.high - shifted.low) / (2 * 1.96))
    equal = [
        classifier_test(points(60, "e", seed), points(90, "f", seed), generator(seed, "c"), rounds=4) for seed in range(30)
    ]
    assert sum(found.p_value <= 0.05 for found in equal) <= 5  # more with a probability of 0.3 %
    assert abs(np.mean([found.auc for found in equal]) - 0.5) < 0.03
    assert sum(found.low <= 0.5 <= found.high for found in equal) >= 25


def test_a_classifier_of_more_answers_than_networks_needs_no_matrix_of_all_their_pairs():
    """2,000 images of ten classes are 20,000 answers: their covariance alone would be 3 GB, its eigenvectors hours."""
    answers = 4000
    turned = torch.linalg.qr(torch.randn(answers, 4, generator=generator(0, "turn")))[0].T
    ours, theirs = points(30, "a", shift=2), points(40, "b")
    label, learned = np.repeat([1, 0], [30, 40]), np.arange(70) % 5 != 0
    function, summaries = (
        torch.cat([getattr(side, name) for side in (ours, theirs)]).double() for name in ("function", "summaries")
    )
    tracemalloc.start()
    wide = scored((function @ turned.double()).numpy(), summaries.numpy(), label, 4, 20, learned, ~learned)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * answers**2 / 4
    narrow = scored(function.numpy(), summaries.numpy(), label, 4, 20, learned, ~learned)
    assert delong(*wide)[0] == pytest.approx(delong(*narrow)[0], abs=0.1)  # components have either sign


@pytest.mark.parametrize("answers", [20, 200])
@pytest.mark.parametrize("kind", ["any", "of low rank", "one far away", "alike"])
def test_principal_scores_are_those_of_the_decomposition(kind, answers):
    random, learned = np.random.default_rng(0), np.arange(60) < 45
    function = random.normal(size=(60, 8)) @ random.normal(size=(8, answers)) + 3
    if kind != "of low rank":
        function += random.normal(size=(60, answers))
    function[7] *= 1e9 if kind == "one far away" else 1
    function = np.ones((60, answers)) if kind == "alike" else function
    found, solver = principal_scores(function, learned, 12), "covariance_eigh" if answers == 20 else "full"
    with np.errstate(invalid="ignore"):
        expected = PCA(12, svd_solver=solver).fit(function[learned]).transform(function)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_principal_components_are_those_of_learned_networks_alone():
    """Of all would be a leak."""
    function, learned = np.random.default_rng(0).normal(size=(60, 200)), np.arange(60) < 45
    assert np.abs(principal_scores(function, learned, 12) - principal_scores(function, learned | True, 12)).max() > 0.1


def test_mmd_is_its_definition_and_keeps_its_level():
    ours, theirs = points(7, "a"), points(5, "b", shift=1)
    both = standardized(ours, theirs)
    squared = torch.cdist(both, both).square()
    kernel = torch.exp(-squared / (2 * squared[*torch.triu_indices(12, 12, 1)].median()))
    first, second = kernel[:7, :7].fill_diagonal_(0), kernel[7:, 7:].fill_diagonal_(0)
    expected = first.sum() / 42 + second.sum() / 20 - 2 * kernel[:7, 7:].mean()
    assert kernel_test(ours, theirs, generator(0, "k"), 9).statistic == pytest.approx(expected.item(), abs=1e-6)
    levels = [kernel_test(points(20, "c", s), points(31, "d", s), generator(s, "k"), 99).p_value for s in range(200)]
    assert 3 <= sum(p <= 0.05 for p in levels) <= 20
    assert kernel_test(points(60, "e", shift=0.5), points(60, "f"), generator(0, "k"), 199).p_value == 1 / 200


def test_snapshots_taken_for_independent_networks_raise_false_alarms_and_one_of_each_does_not():
    naive, right = 0, 0
    for seed in range(200):
        random = generator(seed, "ks")
        theirs = (torch.randn(40, 1, generator=random) + 0.2 * torch.randn(40, 6, generator=random)).flatten()
        ours, clusters = torch.randn(60, generator=random) * 1.04**0.5, torch.arange(40).repeat_interleave(6)
        naive += loss_test(ours, theirs).p_value <= 0.05
        right += loss_test(ours, theirs[one_per_cluster(clusters, random)]).p_value <= 0.05
    assert naive > 30
    assert right <= 18


def test_norms_by_tensor():
    part = zoo(40, 40, 3, 0)
    training, held_out = part.training_part, part.held_out_part
    wide = training.networks.map(torch.clone)
    wide.weights["linear2.weight"] *= 1.2
    found = norm_test(wide, held_out.networks, training.trajectory, held_out.trajectory)
    assert found.largest == "linear2.weight"
    assert found.p_value == found.p_values["linear2.weight"] < 1e-4
    ours, theirs = (side.weights["linear2.weight"].flatten(1).norm(dim=1).mean().item() for side in (wide, held_out))
    assert found.relative["linear2.weight"] == pytest.approx(ours / theirs - 1, rel=1e-4)
    assert min(p for name, p in found.p_values.items() if name != "linear2.weight") > 0.01


def test_density_and_coverage_are_their_definitions():
    ours, theirs = points(40, "a", shift=0.3), points(40, "b")
    found = density_coverage(ours, theirs, generator(0, "d"), neighbours=3, permutations=20)
    within = torch.cdist(theirs.function, theirs.function)
    radius = within.sort(1).values[:, 3]
    inside = torch.cdist(theirs.function, ours.function) <= radius[:, None]
    assert found.density == pytest.approx(inside.sum().item() / (3 * 40))
    assert found.coverage == pytest.approx(inside.any(1).double().mean().item())


def test_equal_distributions_have_the_coverage_of_the_formula_and_collapsed_ones_less():
    found = density_coverage(points(200, "a"), points(200, "b"), generator(0, "d"))
    formula = 1 - math.prod((199 - i) / (399 - i) for i in range(5))
    assert found.expected_coverage == pytest.approx(formula, abs=0.003)
    assert found.expected_density == pytest.approx(1, abs=0.02)
    assert found.p_value > 0.05
    ours = points(200, "c")
    narrow = Features(0.5 * ours.function, ours.summaries)
    collapsed = density_coverage(narrow, points(200, "d"), generator(0, "d"), permutations=199)
    assert collapsed.density > 1.2
    assert collapsed.coverage < 0.9
    assert collapsed.p_value == 1 / 200


def test_too_few_networks_are_refused():
    with pytest.raises(ValueError, match=r"got 5 folds and 9 networks of theirs"):
        classifier_test(points(20, "a"), points(9, "b"), generator(0, "c"))
    with pytest.raises(ValueError, match=r"the same features of both sides"):
        classifier_test(points(20, "a"), Features(torch.zeros(20, 3), torch.zeros(20, 2)), generator(0, "c"))
    with pytest.raises(ValueError, match=r"density_coverage: expected at least 6 networks of both sides, got 5 and 20"):
        density_coverage(points(5, "a"), points(20, "b"), generator(0, "d"))
