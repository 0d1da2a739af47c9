"""Functional diversity: how differently networks predict on the same inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wflib.evaluation.clusters import clustered_mean

__all__ = ["jensen_shannon_divergences", "jensen_shannon_diversity", "kernel_divergences", "mean_over_pairs", "over_pairs"]


def check_networks(log_probabilities: Tensor, who: str) -> None:
    """Refuse what has no pairs of networks.

    Raises:
        ValueError: Fewer than two networks, no examples, or the shape is not (networks, examples, classes).
    """
    if log_probabilities.ndim != 3 or len(log_probabilities) < 2 or not log_probabilities.numel():
        raise ValueError(
            f"Shape mismatch: {who} expected (networks, examples, classes) with two networks at least and an example, "
            f"got {tuple(log_probabilities.shape)}."
        )


def jensen_shannon_diversity(log_probabilities: Tensor, elements: int = 2**22) -> float:
    """Mean of :func:`jensen_shannon_divergences` over pairs; snapshots of one trajectory lower it."""
    return mean_over_pairs(jensen_shannon_divergences(log_probabilities, elements))[0]


def over_pairs(values: Tensor) -> Tensor:
    """Entries of (networks, networks) above the diagonal, in the order of ``torch.triu_indices``."""
    first, second = torch.triu_indices(len(values), len(values), offset=1, device=values.device)
    return values[first, second]


def mean_over_pairs(values: Tensor, clusters: Tensor | None = None) -> tuple[float, float]:
    """Mean over pairs of distinct networks, and its standard error over networks.

    Of a mean over pairs the error is 2 s / √n to first order, s the deviation of each network's mean over its pairs
    (Hoeffding 1948): pairs share networks, so that n networks count and not n (n − 1) / 2 pairs. Networks of one cluster
    count once, as :func:`~wflib.evaluation.clusters.clustered_mean` says.

    Args:
        values: (networks, networks), symmetric; the diagonal does not count.
        clusters: Trajectory of each network, (networks,); None where they are independent.

    Returns:
        Mean and error, which is NaN for networks of one cluster.
    """
    each = (values.sum(1) - values.diagonal()) / (len(values) - 1)
    if clusters is not None and len(clusters.unique()) < 2:
        return each.mean().item(), math.nan
    mean, error, _ = clustered_mean(each[:, None], clusters)
    return mean.item(), 2 * error.item()


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
    """
    check_networks(log_probabilities, "jensen_shannon_divergences")
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


@torch.no_grad()
def kernel_divergences(log_probabilities: Tensor, bandwidth: float = 1.0, elements: int = 2**24) -> Tensor:
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
        (networks, networks) float64 in nats, symmetric, zero on the diagonal.

    Raises:
        ValueError: A bandwidth that is not positive.
    """
    check_networks(log_probabilities, "kernel_divergences")
    if not bandwidth > 0:
        raise ValueError(f"kernel_divergences: bandwidth expected a positive number, got {bandwidth}.")
    points = log_probabilities.double().exp() / bandwidth
    networks, examples, _ = points.shape

    def log_densities(at: Tensor) -> Tensor:
        """Of every network's estimate at some points, up to one constant, (points, networks)."""
        squares = torch.cdist(at, points).square()
        return (torch.logsumexp(-squares / 2, -1) - math.log(examples)).T

    size = max(1, elements // (networks * examples))
    found = torch.cat([log_densities(some) for some in points.flatten(0, 1).split(size)])
    density = found.view(networks, examples, networks).transpose(1, 2)  # [i, j, x]: p_j at the outputs x of i
    own = density.diagonal(dim1=0, dim2=1).T[:, None]
    one_sided = (math.log(2) + own - torch.logaddexp(own, density)).mean(-1)
    return (one_sided + one_sided.T) / 2
