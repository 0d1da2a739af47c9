"""Functional diversity: how differently networks predict on the same inputs."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["jensen_shannon_diversity"]


@torch.no_grad()
def jensen_shannon_diversity(log_probabilities: Tensor, elements: int = 2**22) -> float:
    """Mean over unordered pairs of distinct networks and over inputs of the Jensen–Shannon divergence, in nats.

    JSD(p, q) = H((p + q)/2) − (H(p) + H(q))/2, between 0 (equal predictions) and ln 2 (disjoint ones), thesis equation 7.1
    with the class probabilities themselves as p and q. Zero probabilities contribute 0 log 0 = 0. The work grows with the
    square of the networks; for many networks and inputs, a random subset of the networks estimates the same mean.

    Args:
        log_probabilities: (networks, examples, classes), natural logarithms; −∞ is allowed.
        elements: Numbers held at once; pairs are processed in chunks of about this size.

    Returns:
        The diversity; snapshots of one trajectory count as distinct networks and lower it.

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
    total = 0.0
    for a, b in zip(first.split(size), second.split(size), strict=True):
        mixed = torch.special.entr((probabilities[a] + probabilities[b]) / 2).sum(-1)
        divergence = mixed - (entropy[a] + entropy[b]) / 2
        total += divergence.clamp_min(0).sum().item()  # rounding must not make a divergence negative
    return total / (len(first) * examples)
