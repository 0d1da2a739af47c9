"""Whether an average of networks knows what it does not know: strange inputs, doubtful predictions, intervals of values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wflib.evaluation.density import ranking_quality

__all__ = ["interval_coverage", "out_of_distribution_auroc", "predictive_entropy", "selective_accuracy"]


def check_average(log_probabilities: Tensor) -> None:
    """Refuse what is no averaged prediction.

    Raises:
        ValueError: Another shape.
    """
    if log_probabilities.ndim != 2 or not len(log_probabilities):
        raise ValueError(
            f"Shape mismatch: expected averaged log-probabilities (examples, classes), got "
            f"{tuple(log_probabilities.shape)}; bayesian_model_average makes them."
        )


def predictive_entropy(log_probabilities: Tensor) -> Tensor:
    """−Σ_c p(c | x_i) log p(c | x_i) of averaged predictions, in nats, (examples,).

    Args:
        log_probabilities: (examples, classes); −∞ is allowed.

    Raises:
        ValueError: Another shape.
    """
    check_average(log_probabilities)
    entropies: Tensor = torch.special.entr(log_probabilities.exp()).sum(-1)
    return entropies


def out_of_distribution_auroc(inside: Tensor, outside: Tensor) -> float:
    """Share of pairs of a strange and a known input of which the strange one has the larger predictive entropy.

    Args:
        inside: Averaged log-probabilities on inputs of the task's kind, (examples, classes).
        outside: Likewise on inputs of another kind.

    Returns:
        One where entropy tells all apart, a half for a coin; ties count half.

    Raises:
        ValueError: Other shapes.
    """
    return ranking_quality(predictive_entropy(outside), predictive_entropy(inside))


def selective_accuracy(log_probabilities: Tensor, targets: Tensor, coverages: Sequence[float]) -> Tensor:
    """Accuracy on the ⌈c n⌉ examples of n whose most probable class is the most probable, for each coverage c.

    Args:
        log_probabilities: Averaged, (examples, classes).
        targets: Class indices, (examples,).
        coverages: Shares of examples that are answered, above 0 and up to 1.

    Returns:
        (coverages,); rising as c falls where confidence knows which predictions are right.

    Raises:
        ValueError: Shapes do not fit, or a coverage outside its range.
    """
    check_average(log_probabilities)
    if targets.shape != log_probabilities.shape[:1]:
        raise ValueError(f"Shape mismatch: expected targets ({len(log_probabilities)},), got {tuple(targets.shape)}.")
    if not coverages or not all(0 < coverage <= 1 for coverage in coverages):
        raise ValueError(f"selective_accuracy: expected coverages above 0 and up to 1, got {list(coverages)}.")
    order = log_probabilities.amax(-1).argsort(descending=True, stable=True)
    right = (log_probabilities.argmax(-1) == targets.to(log_probabilities.device))[order].double()
    counts = (torch.tensor(coverages, dtype=torch.float64) * len(targets) - 1e-9).ceil().long().clamp_min(1)
    return (right.cumsum(0)[counts.to(right.device) - 1].cpu() / counts).cpu()


def interval_coverage(predictions: Tensor, targets: Tensor, levels: Sequence[float], noise: float) -> Tensor:
    """Share of targets in the central interval of the predictive mixture 1/N Σ_n N(f(x_i; θ_n), noise²), for each level.

    A target y lies in the interval of level ℓ where (1 − ℓ) / 2 ≤ F(y) ≤ (1 + ℓ) / 2, F the mixture's distribution
    function: no quantile has to be searched.

    Args:
        predictions: Of regressions, (networks, examples, 1).
        targets: (examples, 1).
        levels: Probabilities that intervals shall hold, between 0 and 1.
        noise: Deviation of observations around a network's prediction; 1 is what half the squared error stands for.

    Returns:
        (levels,); each the level itself where the mixture is calibrated.

    Raises:
        ValueError: Shapes do not fit, a level outside its range, or noise that is not positive.
    """
    if predictions.ndim != 3 or predictions.shape[2] != 1 or targets.shape != predictions.shape[1:] or not len(predictions):
        raise ValueError(
            "Shape mismatch: expected predictions (networks, examples, 1) and targets (examples, 1), got "
            f"{tuple(predictions.shape)} and {tuple(targets.shape)}."
        )
    if not levels or not all(0 < level < 1 for level in levels) or not noise > 0:
        raise ValueError(f"interval_coverage: expected levels between 0 and 1 and positive noise, got {levels}, {noise}.")
    below = torch.special.ndtr((targets.to(predictions) - predictions).double() / noise).mean(0)
    distance = (below - 0.5).abs() * 2
    return torch.stack([(distance <= level).double().mean() for level in levels]).cpu()
