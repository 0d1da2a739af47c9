"""How good predictions are, per network, and the average of networks that a Bayesian would predict with.

All functions take natural log-probabilities of shape (networks, examples, classes) from
:func:`~wflib.networks.predict` and class indices of shape (examples,). A model average is scored like one
network: ``accuracy(bayesian_model_average(p)[None], targets)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wflib.networks.scoring import check_predictions, wrong_predictions

__all__ = [
    "bayesian_model_average",
    "brier_score",
    "brier_terms",
    "calibration_terms",
    "confidence_bins",
    "expected_calibration_error",
    "mean_and_std",
]


def brier_terms(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Σ_c (p(c | x_i) − 1[c = y_i])² of every example, (networks, examples); as :func:`brier_score`."""
    check_predictions(log_probabilities, targets)
    truth = torch.nn.functional.one_hot(targets.to(log_probabilities.device), log_probabilities.shape[-1])
    return (log_probabilities.exp() - truth).square().sum(-1)


def brier_score(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """mean_i Σ_c (p(c | x_i) − 1[c = y_i])², between 0 and 2 (Brier 1950, the original two-sided form).

    Args:
        log_probabilities: (networks, examples, classes).
        targets: (examples,) class indices.

    Returns:
        (networks,).

    Raises:
        ValueError: Shapes do not fit.
    """
    return brier_terms(log_probabilities, targets).mean(1)


def confidence_bins(log_probabilities: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Probability of the most probable class, and which of the bins ((b − 1)/B, b/B] it is in, from 0; (…, examples) each.

    Args:
        log_probabilities: (…, examples, classes).
        bins: B, at least one.
    """
    confidence = log_probabilities.amax(-1).exp()
    return confidence, ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)


def calibration_terms(log_probabilities: Tensor, targets: Tensor, bins: int) -> Tensor:
    """sign(Σ_{j in b(i)} g_j) g_i of every example, whose mean is the calibration error, (networks, examples).

    g_i = confidence − correctness, b(i) the bin of the confidence; arguments of :func:`expected_calibration_error`.

    Raises:
        ValueError: As there.
    """
    wrong = wrong_predictions(log_probabilities, targets)
    if bins < 1:
        raise ValueError(f"expected_calibration_error: bins must be at least 1, got {bins}.")
    confidence, index = confidence_bins(log_probabilities, bins)
    # n_b (confidence_b − accuracy_b) is a plain sum over the bin, so empty bins need no case of their own.
    gaps = confidence - (~wrong).to(confidence.dtype)
    sums = gaps.new_zeros(len(gaps), bins).scatter_add_(1, index, gaps)
    return sums.sign().gather(1, index) * gaps


def expected_calibration_error(log_probabilities: Tensor, targets: Tensor, bins: int) -> Tensor:
    """Σ_b (n_b / n) |accuracy_b − confidence_b| over equal-width bins ((b−1)/B, b/B] of the top-class probability.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (2017), equation 3. The estimate is biased
    upwards when bins hold few examples: compare values at equal numbers of examples and bins only.

    Args:
        log_probabilities: (networks, examples, classes).
        targets: (examples,) class indices.
        bins: Number of bins B.

    Returns:
        (networks,), between 0 and 1.

    Raises:
        ValueError: Shapes do not fit, or ``bins`` is below one.
    """
    return calibration_terms(log_probabilities, targets, bins).mean(1)


def bayesian_model_average(log_probabilities: Tensor) -> Tensor:
    """Logarithm of 1/N Σ_n p_n: the average of probabilities, never of logits, which would be a geometric mean.

    Args:
        log_probabilities: (networks, examples, classes).

    Returns:
        (examples, classes), normalized log-probabilities; float32 of half precision, in which sums of many lose digits.

    Raises:
        ValueError: There is no network, or the network axis is missing.
    """
    if log_probabilities.ndim != 3 or len(log_probabilities) == 0:
        raise ValueError(
            "Shape mismatch: bayesian_model_average expected (networks, examples, classes) with at least one network, "
            f"got {tuple(log_probabilities.shape)}."
        )
    precise = log_probabilities.to(torch.promote_types(log_probabilities.dtype, torch.float32))
    return precise.logsumexp(0) - math.log(len(log_probabilities))


def mean_and_std(values: Tensor) -> tuple[float, float]:
    """Mean and sample standard deviation (divisor N − 1) over networks; the latter is NaN for one network."""
    std = values.std().item() if len(values) > 1 else math.nan
    return values.mean().item(), std
