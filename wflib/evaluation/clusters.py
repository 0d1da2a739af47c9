"""Statistics of networks that come in clusters: snapshots of one trajectory are near-duplicates, not independent networks.

Tests of distributions take one network of every cluster, see :func:`one_per_cluster`, which are independent whatever the
sizes of clusters; means use all networks with errors that know clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.rng import random_order

__all__ = ["ClusteredDifference", "clustered_difference", "clustered_mean", "holm", "one_per_cluster", "permutation_p_value"]

ROUNDING = 1e-12
"""Relative difference of two means of the same number in double precision, at most."""


@dataclass(frozen=True)
class ClusteredDifference:
    """What :func:`clustered_difference` returns, a number for each column of values.

    Attributes:
        difference: Mean of the first networks minus that of the second, (columns,).
        error: Its standard error over networks, (columns,).
        p_value: Of no difference, two-sided, (columns,).
    """

    difference: Tensor
    error: Tensor
    p_value: Tensor


def numbered(clusters: Tensor | None, networks: int) -> Tensor:
    """Clusters as 0 … G − 1; None makes each network its own.

    Raises:
        ValueError: Not one cluster for each network.
    """
    if clusters is None:
        return torch.arange(networks)
    if tuple(clusters.shape) != (networks,):
        raise ValueError(f"Shape mismatch: clusters expected ({networks},), got {tuple(clusters.shape)}.")
    labels: Tensor = clusters.cpu().unique(return_inverse=True)[1]
    return labels


def one_per_cluster(clusters: Tensor, generator: torch.Generator) -> Tensor:
    """A random network of every cluster: independent draws, where clusters are.

    Clusters count alike however many networks they have. Their networks have the distribution of all networks where sizes
    have nothing to do with what is in a cluster, as for trajectories with equally many snapshots.

    Args:
        clusters: Which cluster each network belongs to, (networks,).
        generator: Chooses.

    Returns:
        Indices, (clusters,) int64, increasing.
    """
    label, count = numbered(clusters, len(clusters)), len(clusters)
    order = random_order(count, generator)
    first = torch.full((int(label.max()) + 1 if count else 0,), count)
    place = first.scatter_reduce(0, label[order], torch.arange(count), "amin")
    return order[place].sort().values


def clustered_mean(values: Tensor, clusters: Tensor | None = None) -> tuple[Tensor, Tensor, int]:
    """Mean over networks and its cluster-robust standard error (Liang and Zeger 1986, of a mean).

    With N networks in G clusters, error² = G / (G − 1) Σ_g (Σ_{n in g} (y_n − mean))² / N². With clusters of one it is
    the usual s² / N.

    Args:
        values: (networks, columns).
        clusters: (networks,), None where networks are independent.

    Returns:
        Means and errors, (columns,) float64 each, and the number of clusters.

    Raises:
        ValueError: Fewer than two clusters, or shapes that do not fit.
    """
    label, values = numbered(clusters, len(values)), values.double().cpu()
    groups = len(label.unique())
    if groups < 2:
        raise ValueError(f"clustered_mean: expected networks of at least two clusters, got {groups}.")
    mean = values.mean(0)
    sums = values.new_zeros(groups, values.shape[1]).index_add_(0, label, values - mean)
    return mean, (sums.square().sum(0) * groups / (groups - 1)).sqrt() / len(values), groups


def clustered_difference(
    ours: Tensor, theirs: Tensor, our_clusters: Tensor | None = None, their_clusters: Tensor | None = None
) -> ClusteredDifference:
    """Difference of two means over networks, and Welch's t test of none with cluster-robust errors.

    Degrees of freedom are those of Welch and Satterthwaite, with G − 1 for a side of G clusters.

    Args:
        ours: (networks, columns).
        theirs: (other networks, columns), independent of the first.
        our_clusters: Clusters of the first networks; None where they are independent.
        their_clusters: Of the second ones.

    Returns:
        A difference for each column, zero where it is one of rounding; p-values are one where means are equal.
    """
    from scipy.stats import t  # slow to import, and few evaluations need it

    mean_a, error_a, groups_a = clustered_mean(ours, our_clusters)
    mean_b, error_b, groups_b = clustered_mean(theirs, their_clusters)
    difference, variance = mean_a - mean_b, error_a.square() + error_b.square()
    # Means of equal numbers over different counts differ by rounding, which has no error to be measured by.
    difference = torch.where(difference.abs() <= ROUNDING * torch.maximum(mean_a.abs(), mean_b.abs()), 0.0, difference)
    parts = error_a.pow(4) / (groups_a - 1) + error_b.pow(4) / (groups_b - 1)
    tiny = torch.finfo(variance.dtype).tiny
    freedom = torch.where(parts > 0, variance.square() / parts.clamp_min(tiny), groups_a + groups_b - 2)
    statistic = torch.where(difference == 0, 0, difference.abs() / variance.sqrt())
    p_value = torch.from_numpy(2 * t.sf(statistic.numpy(), freedom.numpy()))
    return ClusteredDifference(difference, variance.sqrt(), p_value)


def permutation_p_value(observed: Tensor, permuted: Tensor) -> float:
    """(1 + number of permutations with at least the observed statistic) / (1 + permutations): valid at every level.

    Args:
        observed: The statistic, a scalar; large values speak against the hypothesis.
        permuted: The same of random relabellings, (permutations,).

    Returns:
        The p-value.
    """
    return (1 + int((permuted >= observed).sum())) / (1 + len(permuted))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: rejecting those of at most α makes any false rejection no likelier than α (Holm 1979).

    The i-th smallest of m becomes max over j ≤ i of min(1, (m − j + 1) p_(j)), whatever the tests' dependence.

    Args:
        p_values: Test → its p-value.

    Returns:
        Test → adjusted p-value, in the given order.

    Raises:
        ValueError: Something that is no probability.

    Example:
        >>> holm({"a": 0.5, "b": 0.01})
        {'a': 0.5, 'b': 0.02}
    """
    if wrong := {name: p_value for name, p_value in p_values.items() if not 0 <= p_value <= 1}:
        raise ValueError(f"holm: expected p-values between 0 and 1, got {wrong}.")
    adjusted, largest = {}, 0.0
    for place, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
