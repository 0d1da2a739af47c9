"""Functional diversity: how differently networks predict on the same inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["jensen_shannon_divergences", "jensen_shannon_diversity", "mean_over_pairs"]


@torch.no_grad()
def jensen_shannon_divergences(log_probabilities: Tensor, elements: int = 2**22) -> Tensor:
    """Mean over inputs of the Jensen–Shannon divergence of every two networks' predictions, in nats.

    JSD(p, q) = H((p + q)/2) − (H(p) + H(q))/2, between 0 (equal predictions) and ln 2 (disjoint ones), thesis equation 7.1
    with the class probabilities themselves as p and q. Zero probabilities contribute 0 log 0 = 0. The work grows with the
    square of the networks; for many networks and inputs, a random subset of the networks estimates the same mean.

    Args:
        log_probabilities: (networks, examples, classes), natural logarithms; −∞ is allowed.
        elements: Numbers held at once; pairs are processed in chunks of about this size.

    Returns:
        (networks, networks) float64, symmetric, zero on the diagonal.

    Raises:
        ValueError: Fewer than two networks, or the shape is not (networks, examples, classes).
    """
    if log_probabilities.ndim != 3 or len(log_probabilities) < 2:
        raise ValueError(
            "Shape mismatch: jensen_shannon_diversity expected (networks, examples, classes) with two networks at least, "
            f"got {tuple(log_probabilities.shape)}."
        )
    networks, examples, classes = log_probabilities.shape
    probabilities = log_probabilities.exp()
    # entr(p) = −p log p with entr(0) = 0: safe where p log p would be 0 · −∞.
    entropy = torch.special.entr(probabilities).sum(-1)
    first, second = torch.triu_indices(networks, networks, offset=1, device=log_probabilities.device)
    size = max(1, elements // (examples * classes))
    found = torch.zeros(networks, networks, dtype=torch.float64, device=log_probabilities.device)
    for a, b in zip(first.split(size), second.split(size), strict=True):
        mixed = torch.special.entr((probabilities[a] + probabilities[b]) / 2).sum(-1)
        divergence = mixed - (entropy[a] + entropy[b]) / 2
        found[a, b] = divergence.clamp_min(0).mean(-1).double()  # rounding must not make a divergence negative
    return found + found.T


def jensen_shannon_diversity(log_probabilities: Tensor, elements: int = 2**22) -> float:
    """Mean over unordered pairs of distinct networks of :func:`jensen_shannon_divergences`, in nats.

    Snapshots of one trajectory count as distinct networks and lower it. Arguments and errors are those of the divergences.
    """
    return mean_over_pairs(jensen_shannon_divergences(log_probabilities, elements))[0]


def mean_over_pairs(values: Tensor) -> tuple[float, float]:
    """Mean over pairs of distinct networks, and its standard error over networks.

    Of a mean over pairs the error is 2 s / √n to first order, s the deviation of each network's mean over its pairs
    (Hoeffding 1948): pairs share networks, so that n networks count and not n (n − 1) / 2 pairs.

    Args:
        values: (networks, networks), symmetric; the diagonal does not count.

    Returns:
        Mean and error.
    """
    count = len(values)
    each = (values.sum(1) - values.diagonal()) / (count - 1)
    return each.mean().item(), 2 * each.std().item() / math.sqrt(count)
