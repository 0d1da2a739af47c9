"""How near an average of networks comes to a reference posterior, in predictions (Izmailov et al. 2021, section 8)."""

from __future__ import annotations

from torch import Tensor

__all__ = ["agreement", "total_variation"]


def check_pair(log_probabilities: Tensor, reference: Tensor) -> None:
    """Refuse what are no averaged predictions of the same examples.

    Raises:
        ValueError: Shapes differ, or have a network axis.
    """
    if log_probabilities.ndim != 2 or log_probabilities.shape != reference.shape or not len(reference):
        raise ValueError(
            "Shape mismatch: expected averaged log-probabilities (examples, classes) and a reference's of the same shape, "
            f"got {tuple(log_probabilities.shape)} and {tuple(reference.shape)}; bayesian_model_average makes them."
        )


def agreement(log_probabilities: Tensor, reference: Tensor) -> float:
    """1/n Σ_i 1[argmax_c p(c | x_i) = argmax_c q(c | x_i)]: the share of examples with the same most probable class.

    Args:
        log_probabilities: Averaged predictions log p, (examples, classes).
        reference: Those of the reference, log q.

    Raises:
        ValueError: Shapes do not fit.
    """
    check_pair(log_probabilities, reference)
    return (log_probabilities.argmax(-1) == reference.to(log_probabilities.device).argmax(-1)).double().mean().item()


def total_variation(log_probabilities: Tensor, reference: Tensor) -> float:
    """1/n Σ_i ½ Σ_c |p(c | x_i) − q(c | x_i)|, between 0 (equal) and 1 (disjoint); as :func:`agreement`.

    Raises:
        ValueError: Shapes do not fit.
    """
    check_pair(log_probabilities, reference)
    difference = log_probabilities.double().exp() - reference.to(log_probabilities.device).double().exp()
    return difference.abs().sum(-1).mean().item() / 2
