"""Do two sets of networks have one distribution? Tests by kernel, by losses, by norms, and by neighbours.

All but :func:`norm_test`, which knows clusters, take independent networks: one of each trajectory, see
:func:`~wflib.evaluation.clusters.one_per_cluster`. Labels of such networks are exchangeable where distributions are equal,
so permuting them keeps every level, whatever the numbers of networks on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.evaluation.clusters import clustered_difference, holm, permutation_p_value
from wflib.evaluation.features import Features, tensor_norms
from wflib.networks import Networks
from wflib.rng import random_order

__all__ = ["DensityCoverage", "NormTest", "TwoSampleTest", "density_coverage", "kernel_test", "loss_test", "norm_test"]


@dataclass(frozen=True)
class TwoSampleTest:
    """A statistic that is large where distributions differ, and its p-value."""

    statistic: float
    p_value: float


@dataclass(frozen=True)
class NormTest:
    """What :func:`norm_test` returns.

    Attributes:
        relative: Tensor → mean norm of ours over that of theirs, minus one.
        p_values: Tensor → p-value of equal means, Holm-adjusted over tensors.
        largest: The tensor of the smallest p-value.
        p_value: That smallest p-value.
    """

    relative: dict[str, float]
    p_values: dict[str, float]
    largest: str
    p_value: float


@dataclass(frozen=True)
class DensityCoverage:
    """What :func:`density_coverage` returns.

    Attributes:
        density: Mean over our networks of how many balls around theirs hold it, over k; about one where distributions are
            equal, larger where ours crowd in the midst of theirs, smaller where ours lie outside.
        coverage: Share of their balls that hold a network of ours.
        expected_density: Mean of permutations, that is, of equal distributions.
        expected_coverage: The same of coverage.
        p_value: Of the larger of both standardized deviations, either way.
    """

    density: float
    coverage: float
    expected_density: float
    expected_coverage: float
    p_value: float


def require_sides(ours: int, theirs: int, least: int, who: str) -> None:
    """Refuse sides of few networks.

    Raises:
        ValueError: Says how many there are.
    """
    if min(ours, theirs) < least:
        raise ValueError(f"{who}: expected at least {least} networks of both sides, got {ours} and {theirs}.")


def standardized(ours: Features, theirs: Features) -> Tensor:
    """Features of both sides as points, (networks of both, features): total variance one for functions, one for summaries.

    Answers keep their proportions, summaries count alike. All is pooled, so labels do not enter.
    """
    function = torch.cat([ours.function, theirs.function]).double()
    summaries = torch.cat([ours.summaries, theirs.summaries]).double()
    function = (function - function.mean(0)) / function.var(0).sum().sqrt().clamp_min(1e-12)
    summaries = (summaries - summaries.mean(0)) / summaries.std(0).clamp_min(1e-12) / max(1, summaries.shape[1]) ** 0.5
    return torch.cat([function, summaries], 1)


def kernel_test(ours: Features, theirs: Features, generator: torch.Generator, permutations: int = 999) -> TwoSampleTest:
    """Maximum mean discrepancy with a Gaussian kernel (Gretton et al. 2012, unbiased estimate), permutation p-value.

    MMD² = mean k(x, x') + mean k(y, y') − 2 mean k(x, y) over different networks, k(x, y) = exp(−‖x − y‖² / (2 σ²)), σ the
    median distance of pooled networks.

    Args:
        ours: Features of independent networks.
        theirs: Features of other independent networks.
        generator: Permutes labels.
        permutations: Relabellings.

    Returns:
        MMD² and its p-value, one-sided.

    Raises:
        ValueError: Fewer than two networks of a side.
    """
    n, m = len(ours), len(theirs)
    require_sides(n, m, 2, "kernel_test")
    points = standardized(ours, theirs)
    squared = torch.cdist(points, points).square().float()
    median = squared[*torch.triu_indices(n + m, n + m, 1)].median()
    kernel = torch.exp(-squared / (2 * median.clamp_min(1e-12))).fill_diagonal_(0)
    shuffled = torch.rand(permutations, n + m, generator=generator, device=generator.device).cpu().argsort(1) < n
    labels = torch.cat([torch.arange(n + m)[None] < n, shuffled]).float().T
    ours_sum = (labels * (kernel @ labels)).sum(0).double()
    rows = (kernel.sum(1) @ labels).double()
    total = kernel.sum().double()
    between, theirs_sum = rows - ours_sum, total - 2 * rows + ours_sum
    found = ours_sum / (n * (n - 1)) + theirs_sum / (m * (m - 1)) - 2 * between / (n * m)
    return TwoSampleTest(found[0].item(), permutation_p_value(found[0], found[1:]))


def loss_test(ours: Tensor, theirs: Tensor) -> TwoSampleTest:
    """Kolmogorov–Smirnov test of networks' losses: the largest distance of both distribution functions, two-sided.

    Args:
        ours: One loss for each of independent networks, (networks,).
        theirs: Losses of other independent networks.

    Returns:
        The distance, between 0 and 1, and its p-value.
    """
    from scipy.stats import ks_2samp  # slow to import, and few evaluations need it

    found = ks_2samp(ours.double().cpu().numpy(), theirs.double().cpu().numpy())
    return TwoSampleTest(float(found.statistic), float(found.pvalue))


def norm_test(
    ours: Networks,
    theirs: Networks,
    our_clusters: Tensor | None = None,
    their_clusters: Tensor | None = None,
) -> NormTest:
    """Welch's t test of every tensor's mean norm, clusters counted once, Holm-adjusted over tensors.

    Args:
        ours: In the gauge of the others.
        theirs: Of the same architecture.
        our_clusters: Trajectory of each network of ours; None where they are independent.
        their_clusters: The same for the others.

    Returns:
        Relative differences of mean norms and p-values, by tensor.
    """
    sides, names = [tensor_norms(side) for side in (ours, theirs)], [name for name, _ in ours.architecture.shapes]
    found = clustered_difference(sides[0], sides[1], our_clusters, their_clusters)
    reference = sides[1].double().mean(0).cpu().clamp_min(1e-300)
    adjusted = holm(dict(zip(names, found.p_value.tolist(), strict=True)))
    largest = min(adjusted, key=lambda name: (adjusted[name], -abs(found.difference[names.index(name)].item())))
    relative = dict(zip(names, (found.difference / reference).tolist(), strict=True))
    return NormTest(relative, adjusted, largest, adjusted[largest])


def density_coverage(
    ours: Features,
    theirs: Features,
    generator: torch.Generator,
    neighbours: int = 5,
    most: int = 500,
    permutations: int = 999,
) -> DensityCoverage:
    """Density and coverage in function space (Naeem et al. 2020), with a permutation test of both.

    Balls around their networks reach to the k-th nearest of their own. density = mean_j #{i: y_j in ball i} / k, coverage =
    mean_i 1[some y_j in ball i].

    Args:
        ours: Features of independent networks; functions alone are looked at.
        theirs: Features of other independent networks.
        generator: Chooses networks and permutes labels.
        neighbours: k.
        most: Networks of each side, a random subset; equally many of both, on which coverage depends.
        permutations: Relabellings.

    Returns:
        Both numbers, what equal distributions have, and a p-value.

    Raises:
        ValueError: Not more networks of a side than k.
    """
    require_sides(len(ours), len(theirs), neighbours + 1, "density_coverage")
    count = min(len(ours), len(theirs), most)
    some = [side.function[random_order(len(side), generator)[:count]] for side in (ours, theirs)]
    # In random order, so that ties, as among copies, fall either way.
    places = random_order(2 * count, generator)
    points = torch.cat(some).double()[places]
    nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).argsort(1)[:, :-1]

    def measure(own: Tensor, neighbourhoods: Tensor) -> Tensor:
        labels = own[neighbourhoods[own]]
        # Before the k-th of their own, all others are inside the ball.
        inside = ((labels.cumsum(1) < neighbours) & ~labels).sum(1)
        return torch.stack([inside.sum() / (neighbours * count), (inside > 0).float().mean()]).double()

    own_first = places >= count
    observed = measure(own_first, nearest)
    # Of random labels half are their own: the k-th of them is practically never beyond 20 k neighbours.
    short = nearest[:, : 20 * neighbours]
    shuffled = (own_first[random_order(2 * count, generator)] for _ in range(permutations))
    permuted = torch.stack([measure(own, short) for own in shuffled])
    # The observed one is among those that standardize, so that all relabellings are treated alike.
    everything = torch.cat([observed[None], permuted])
    deviation = ((everything - everything.mean(0)).abs() / everything.std(0).clamp_min(1e-12)).amax(1)
    (density, coverage), (expected_density, expected_coverage) = observed.tolist(), permuted.mean(0).tolist()
    p_value = permutation_p_value(deviation[0], deviation[1:])
    return DensityCoverage(density, coverage, expected_density, expected_coverage, p_value)
