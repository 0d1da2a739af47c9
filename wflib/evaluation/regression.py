"""How good predictions of a regression are, per network and of averages.

Networks predict the mean of y ~ N(f(x; θ), σ²) with one σ for all, which a validation part says. An average of networks is
the mixture of these, never the mean of the densities' logarithms.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gaussian_nll", "mixture_nll", "noise_deviation", "root_mean_squared_error"]


def check_values(predictions: Tensor, targets: Tensor) -> Tensor:
    """Errors of every network on every example, (networks, examples).

    Raises:
        ValueError: Shapes do not fit.
    """
    if predictions.ndim != 3 or predictions.shape[2] != 1 or targets.shape != predictions.shape[1:] or not len(predictions):
        raise ValueError(
            "Shape mismatch: expected predictions (networks, examples, 1) and targets (examples, 1), got "
            f"{tuple(predictions.shape)} and {tuple(targets.shape)}."
        )
    return (predictions - targets.to(predictions))[..., 0].double()


def root_mean_squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """√(mean_i (f(x_i; θ_n) − y_i)²) in units of the targets, (networks,).

    Args:
        predictions: (networks, examples, 1).
        targets: (examples, 1).
    """
    return check_values(predictions, targets).square().mean(1).sqrt()


def noise_deviation(predictions: Tensor, targets: Tensor) -> float:
    """σ of all networks together by maximum likelihood: the root of their mean squared error.

    Args:
        predictions: Of validation inputs, (networks, examples, 1).
        targets: (examples, 1).
    """
    return check_values(predictions, targets).square().mean().sqrt().item()


def log_densities(predictions: Tensor, targets: Tensor, noise: float) -> Tensor:
    """Log N(y_i; f(x_i; θ_n), noise²), (networks, examples).

    Raises:
        ValueError: Noise that is not positive.
    """
    if not noise > 0:
        raise ValueError(f"expected a positive deviation of the noise, got {noise}.")
    errors = check_values(predictions, targets) / noise
    return -errors.square() / 2 - math.log(noise) - math.log(2 * math.pi) / 2


def gaussian_nll(predictions: Tensor, targets: Tensor, noise: float) -> Tensor:
    """−mean_i log N(y_i; f(x_i; θ_n), noise²) in nats, (networks,); arguments of :func:`mixture_nll`."""
    return -log_densities(predictions, targets, noise).mean(1)


def mixture_nll(predictions: Tensor, targets: Tensor, noise: float) -> float:
    """−mean_i log 1/N Σ_n N(y_i; f(x_i; θ_n), noise²) in nats: of the networks' average.

    Args:
        predictions: (networks, examples, 1).
        targets: (examples, 1).
        noise: Deviation of observations around a network's prediction.
    """
    found = log_densities(predictions, targets, noise)
    return -(torch.logsumexp(found, 0) - math.log(len(found))).mean().item()
