"""Quality measures against closed forms."""

import math

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import bayesian_model_average, brier_score, expected_calibration_error, mean_and_std
from wflib.networks import Networks, accuracy, negative_log_likelihood, predict, wrong_predictions
from wflib.rng import generator


def log_of(*networks: list[list[float]]) -> torch.Tensor:
    return torch.tensor(networks, dtype=torch.float64).log()


def test_scores_of_two_networks_by_hand():
    p = log_of([[0.8, 0.2], [0.6, 0.4]], [[0.5, 0.5], [0.0, 1.0]])
    targets = torch.tensor([0, 1])
    assert accuracy(p, targets).tolist() == [0.5, 1.0]
    assert wrong_predictions(p, targets).tolist() == [[False, True], [False, False]]
    expected_nll = [-(math.log(0.8) + math.log(0.4)) / 2, math.log(2) / 2]
    assert negative_log_likelihood(p, targets).tolist() == pytest.approx(expected_nll)
    assert brier_score(p, targets).tolist() == pytest.approx([(2 * 0.2**2 + 2 * 0.6**2) / 2, (2 * 0.5**2) / 2])


def test_certain_and_wrong_has_the_worst_scores():
    p = log_of([[1.0, 0.0]])
    targets = torch.tensor([1])
    assert negative_log_likelihood(p, targets).item() == math.inf
    assert brier_score(p, targets).item() == 2
    assert expected_calibration_error(p, targets, bins=15).item() == 1


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibrated_predictions_have_no_calibration_error_and_overconfident_ones_do(bins):
    # Confidence 0.8 and right 4 times in 5; confidence 0.6 and right 3 times in 5.
    calibrated = [[0.8, 0.2]] * 5 + [[0.6, 0.4]] * 5
    overconfident = [[0.99, 0.01]] * 10
    targets = torch.tensor([0, 0, 0, 0, 1, 0, 0, 0, 1, 1])
    ece = expected_calibration_error(log_of(calibrated, overconfident), targets, bins)
    assert ece.tolist() == pytest.approx([0, 0.99 - 0.7], abs=1e-12)


def test_calibration_error_agrees_with_a_loop_over_networks_and_bins():
    random, bins = generator(0, "ece"), 7
    p = torch.randn(4, 50, 3, generator=random, dtype=torch.float64).log_softmax(-1)
    targets = torch.randint(3, (50,), generator=random)
    for network, found in zip(p.exp(), expected_calibration_error(p, targets, bins), strict=True):
        confidence, predicted = network.max(-1)
        expected = 0.0
        for index in range(bins):
            inside = (confidence > index / bins) & (confidence <= (index + 1) / bins)
            if inside.any():
                gap = (predicted == targets)[inside].double().mean() - confidence[inside].mean()
                expected += inside.double().mean().item() * abs(gap.item())
        assert found.item() == pytest.approx(expected)


def test_model_average_averages_probabilities_and_not_logits():
    p = log_of([[0.9, 0.1]], [[0.2, 0.8]])
    average = bayesian_model_average(p)
    assert average.exp().flatten().tolist() == pytest.approx([0.55, 0.45])
    of_logits = p.mean(0).log_softmax(-1)
    assert not torch.allclose(average, of_logits, atol=0.01)


def test_model_average_is_stable_for_tiny_probabilities():
    p = torch.tensor([[[0.0, -2000.0]], [[0.0, -2000.0]]])
    assert bayesian_model_average(p).tolist() == [[0.0, -2000.0]]


def test_model_averages_of_half_precision_are_probabilities():
    p = torch.randn(50, 20, 10, generator=generator(0, "half")).log_softmax(-1).bfloat16()
    average = bayesian_model_average(p)
    torch.testing.assert_close(average, bayesian_model_average(p.double()).float())
    assert not torch.allclose(average.bfloat16().float().exp().sum(-1), average.exp().sum(-1), atol=1e-3)


def test_model_average_is_never_worse_than_the_mean_loss():
    random = generator(1, "bma")
    p = torch.randn(8, 30, 4, generator=random).log_softmax(-1)
    targets = torch.randint(4, (30,), generator=random)
    averaged = negative_log_likelihood(bayesian_model_average(p)[None], targets)
    assert averaged.item() < negative_log_likelihood(p, targets).mean().item()


def test_mean_and_std():
    assert mean_and_std(torch.tensor([1.0, 3.0])) == (2.0, pytest.approx(math.sqrt(2)))
    mean, std = mean_and_std(torch.tensor([1.0]))
    assert mean == 1
    assert math.isnan(std)


def test_predict_equals_softmax_of_single_modules_for_any_chunk():
    architecture = mlp([3, 4, 2])
    weights = architecture.unflatten(torch.randn(5, architecture.dimension, generator=generator(0, "w")))
    inputs = torch.randn(7, 3, generator=generator(0, "x"))
    found = predict(Networks(architecture, weights), inputs)
    for index in range(5):
        module = architecture.module()
        module.load_state_dict({name: tensor[index] for name, tensor in weights.items()})
        torch.testing.assert_close(found[index], module(inputs).log_softmax(-1))
    torch.testing.assert_close(predict(Networks(architecture, weights), inputs, chunk=2), found)
    assert predict(Networks(architecture, {name: w[:0] for name, w in weights.items()}), inputs).shape == (0, 7, 2)
    assert not predict(
        Networks(architecture, {name: w.requires_grad_() for name, w in weights.items()}), inputs
    ).requires_grad


def test_caller_mistakes_are_errors():
    p, targets = log_of([[0.8, 0.2], [0.6, 0.4]]), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="expected targets \\(2,\\)"):
        accuracy(p, targets[:1])
    with pytest.raises(ValueError, match="add the network axis"):
        negative_log_likelihood(p[0], targets)
    with pytest.raises(ValueError, match="bins must be at least 1"):
        expected_calibration_error(p, targets, 0)
    with pytest.raises(ValueError, match="at least one network"):
        bayesian_model_average(p[:0])
    regression = mlp([3, 4, 1], task_type="regression")
    with pytest.raises(ValueError, match="expected a classification"):
        predict(Networks.from_flat(regression, torch.zeros(1, regression.dimension)), torch.zeros(2, 3))
    classifier = mlp([3, 2])
    with pytest.raises(ValueError, match="expected inputs \\(examples, 3\\)"):
        predict(Networks.from_flat(classifier, torch.zeros(1, classifier.dimension)), torch.zeros(2, 4))
