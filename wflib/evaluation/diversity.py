"""Functional diversity: how differently networks predict on the same inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["jensen_shannon_diversity", "jensen_shannon_pairs", "kernel_divergence_pairs"]


def check_networks(log_probabilities: Tensor, who: str) -> None:
    """Refuse what has no pairs of networks.

    Raises:
        ValueError: Fewer than two networks, or the shape is not (networks, examples, classes).
    """
    if log_probabilities.ndim != 3 or len(log_probabilities) < 2:
        raise ValueError(
            f"Shape mismatch: {who} expected (networks, examples, classes) with two networks at least, "
            f"got {tuple(log_probabilities.shape)}."
        )


def jensen_shannon_diversity(log_probabilities: Tensor, elements: int = 2**22) -> float:
    """Mean of :func:`jensen_shannon_pairs`; snapshots of one trajectory count as distinct networks and lower it."""
    return jensen_shannon_pairs(log_probabilities, elements).mean().item()


@torch.no_grad()
def jensen_shannon_pairs(log_probabilities: Tensor, elements: int = 2**22) -> Tensor:
    """Mean over inputs of the Jensen–Shannon divergence, in nats, of every pair of networks.

    JSD(p, q) = H((p + q)/2) − (H(p) + H(q))/2, between 0 (equal predictions) and ln 2 (disjoint ones), thesis equation 7.1
    with the class probabilities themselves as p and q. Zero probabilities contribute 0 log 0 = 0. The work grows with the
    square of the networks; for many networks and inputs, a random subset of the networks estimates the same mean.

    Args:
        log_probabilities: (networks, examples, classes), natural logarithms; −∞ is allowed.
        elements: Numbers held at once; pairs are processed in chunks of about this size.

    Returns:
        (networks (networks − 1) / 2,) float64, pairs in the order of ``torch.triu_indices``.
    """
    check_networks(log_probabilities, "jensen_shannon_pairs")
    networks, examples, classes = log_probabilities.shape
    probabilities = log_probabilities.exp()
    # entr(p) = −p log p with entr(0) = 0: safe where p log p would be 0 · −∞.
    entropy = torch.special.entr(probabilities).sum(-1)
    first, second = torch.triu_indices(networks, networks, offset=1, device=log_probabilities.device)
    size, found = max(1, elements // (examples * classes)), []
    for a, b in zip(first.split(size), second.split(size), strict=True):
        mixed = torch.special.entr((probabilities[a] + probabilities[b]) / 2).sum(-1)
        divergence = mixed - (entropy[a] + entropy[b]) / 2
        found.append(divergence.clamp_min(0).double().mean(1))  # rounding must not make a divergence negative
    return torch.cat(found)


@torch.no_grad()
def kernel_divergence_pairs(log_probabilities: Tensor, bandwidth: float = 1.0, elements: int = 2**24) -> Tensor:
    """The thesis' divergence (equation 7.2) of every pair of networks: of the sets of their outputs, not of one input's.

    With A and B the class probabilities that two networks give to the same inputs, as sets, and p_A, p_B Gaussian kernel
    density estimates of them,

        JSD(A, B) = 1/(2|A|) Σ_{x∈A} log(2 p_A(x) / (p_A(x) + p_B(x))) + 1/(2|B|) Σ_{x∈B} log(2 p_B(x) / (p_A(x) + p_B(x))).

    It does not see which input an output belongs to: networks that confuse two classes may have a divergence of zero. The
    thesis does not say its bandwidth; one, scikit-learn's default, gives values of the size of its table 7.2.

    Args:
        log_probabilities: (networks, examples, classes), natural logarithms; −∞ is allowed.
        bandwidth: Deviation of the kernels.
        elements: Numbers held at once.

    Returns:
        (networks (networks − 1) / 2,) float64 in nats, pairs in the order of ``torch.triu_indices``.

    Raises:
        ValueError: A bandwidth that is not positive.
    """
    check_networks(log_probabilities, "kernel_divergence_pairs")
    if not bandwidth > 0:
        raise ValueError(f"kernel_divergence_pairs: bandwidth expected a positive number, got {bandwidth}.")
    points = log_probabilities.double().exp() / bandwidth
    networks, examples, _ = points.shape
    size = max(1, elements // (networks * examples**2))

    def log_densities(at: Tensor) -> Tensor:
        """Of every network's estimate at points of some networks, up to one constant, (some, networks, examples)."""
        squares = torch.cdist(at[:, None], points[None]).square()
        return torch.logsumexp(-squares / 2, -1) - math.log(examples)

    density = torch.cat([log_densities(some) for some in points.split(size)])  # [i, j, x]: p_j at the outputs x of i
    own = density.diagonal(dim1=0, dim2=1).T[:, None]
    one_sided = (math.log(2) + own - torch.logaddexp(own, density)).mean(-1)
    both = (one_sided + one_sided.T) / 2
    first, second = torch.triu_indices(networks, networks, offset=1, device=both.device)
    return both[first, second]
