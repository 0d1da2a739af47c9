"""Tests of copying: nearness to training networks in particular, beside networks that were never learned from.

Three measures of the same distances, from dull to sharp: the copying ratio of means with its error, the share of networks
whose nearest neighbour is a training network, and how many networks are nearer to one by far than any held-out network is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.evaluation.clusters import permutation_p_value

CLOSER = 0.5
"""Closeness of a copy relative to the smallest of held-out networks, at most. Distributions that differ differ in closeness,
too, by less than that; a verbatim copy has none."""
__all__ = [
    "CloseTest",
    "CopyingRatio",
    "ShareTest",
    "close_test",
    "detectable_by_closeness",
    "detectable_by_ratio",
    "ratio_with_error",
    "share_test",
]


@dataclass(frozen=True)
class CopyingRatio:
    """What :func:`ratio_with_error` returns.

    Attributes:
        ratio: Mean distance to the nearest training network over that to the nearest of as many held-out ones.
        error: Standard error over networks, for these very neighbours.
        error_trajectories: Standard error over the choice of trajectories on both sides, larger where a few of them are
            near to many networks; NaN where there is but one set of training trajectories.
    """

    ratio: float
    error: float
    error_trajectories: float


@dataclass(frozen=True)
class ShareTest:
    """What :func:`share_test` returns.

    Attributes:
        share: Of networks whose nearest neighbour is a training network.
        expected: The share of training trajectories among all that could be.
        error: Deviation of the share over relabellings of trajectories.
        p_value: Of a share no larger than expected.
    """

    share: float
    expected: float
    error: float
    p_value: float


@dataclass(frozen=True)
class CloseTest:
    """What :func:`close_test` returns.

    Attributes:
        smallest: Smallest closeness of ours; 0 for a verbatim copy.
        smallest_unseen: Smallest of held-out networks.
        count: Networks of ours below ``CLOSER`` times ``smallest_unseen``.
        p_value: Of so many.
    """

    smallest: float
    smallest_unseen: float
    count: int
    p_value: float


def require_pairs(training: Tensor, unseen: Tensor, who: str) -> tuple[Tensor, Tensor]:
    """Both distances in float64, training ones as (sets, networks).

    Raises:
        ValueError: They do not belong to the same networks, or there is but one.
    """
    several = training[None] if training.ndim == 1 else training
    if unseen.ndim != 1 or several.ndim != 2 or several.shape[1:] != unseen.shape or len(unseen) < 2:
        raise ValueError(
            f"Shape mismatch: {who} expected training distances (sets, networks) and others (networks,), several of "
            f"them, got {tuple(training.shape)} and {tuple(unseen.shape)}."
        )
    return several.double().cpu(), unseen.double().cpu()


def error_of_choice(training: Tensor, unseen: Tensor) -> float:
    """Standard error of the copying ratio over the choice of trajectories: √(1 + 1/K) s / mean of unseen.

    s is the deviation of mean distances between K disjoint sets of training trajectories, of which held-out ones are another
    if none is copied; NaN for one set.
    """
    sets = len(training)
    if sets == 1:
        return math.nan
    return (training.mean(1).std() / unseen.mean()).item() * math.sqrt(1 + 1 / sets)


def ratio_with_error(training: Tensor, unseen: Tensor, generator: torch.Generator, resamples: int = 1000) -> CopyingRatio:
    """Copying ratio and its standard errors: over networks by bootstrap, over trajectories between several sets of them.

    Both distances of a network are resampled together: what makes it far from all networks cancels. In many dimensions a few
    trajectories are nearest to many networks, so which ones were held out moves the ratio more than networks do.

    Args:
        training: Distance of every network to the nearest of each of several disjoint sets of training trajectories, (sets,
            networks); (networks,) for one set.
        unseen: Distance to the nearest of a set of held-out trajectories as large as each, (networks,).
        generator: Resamples.
        resamples: How often.

    Returns:
        Ratio of means and errors.
    """
    training, unseen = require_pairs(training, unseen, "ratio_with_error")
    networks, near = len(unseen), training.mean(0)
    drawn = torch.randint(networks, (resamples, networks), generator=generator, device=generator.device).cpu()
    error = (near[drawn].mean(1) / unseen[drawn].mean(1)).std().item()
    return CopyingRatio((near.mean() / unseen.mean()).item(), error, error_of_choice(training, unseen))


def detectable_by_ratio(
    training: Tensor,
    unseen: Tensor,
    coverage: float,
    generator: torch.Generator,
    level: float = 0.05,
    power: float = 0.95,
    simulations: int = 400,
) -> float:
    """Smallest share of verbatim copies that the copying ratio finds with a given probability, by simulation.

    Each simulation resamples networks, makes a share of them copies of random training networks, whose distance is zero if
    their original is in the set of trajectories, and asks whether the ratio is below one by more than its errors allow.
    Distances are first scaled to a ratio of one, so that what copies there are do not count.

    Args:
        training: Distance to the nearest of each of several disjoint sets of training trajectories, (sets, networks) or
            (networks,).
        unseen: Distance to the nearest of as many held-out ones, (networks,).
        coverage: Share of training trajectories that are in one set; copies of others go unseen there.
        generator: Of the simulation.
        level: Of the test, one-sided.
        power: Probability of finding copies.
        simulations: For each share.

    Returns:
        The share, on a grid of steps of 10 %; NaN where not even a share of one is found.
    """
    training, unseen = require_pairs(training, unseen, "detectable_by_ratio")
    networks, choice = len(unseen), error_of_choice(training, unseen)
    choice = 0.0 if math.isnan(choice) else choice
    mean = training[0].mean()
    near = training[0] * (unseen.mean() / mean) if mean > 0 else unseen
    drawn = torch.randint(networks, (simulations, networks), generator=generator, device=generator.device).cpu()
    far, near = unseen[drawn], near[drawn]
    uniform = torch.rand(simulations, networks, generator=generator, device=generator.device, dtype=torch.float64).cpu()
    shift = choice * torch.randn(simulations, generator=generator, device=generator.device, dtype=torch.float64).cpu()
    quantile = torch.special.ndtri(torch.tensor(1 - level, dtype=torch.float64))
    share = 0.5 / networks
    while share < 1.1:
        distance = near * (uniform >= min(share, 1.0) * coverage)
        ratio = distance.mean(1) / far.mean(1)
        error = (distance - ratio[:, None] * far).std(1) / math.sqrt(networks) / far.mean(1)
        if (1 - ratio + shift > quantile * torch.hypot(error, torch.full_like(error, choice))).double().mean() >= power:
            return min(share, 1.0)
        share *= 1.1
    return math.nan


def share_test(trajectory: Tensor, training: Tensor, generator: torch.Generator, permutations: int = 999) -> ShareTest:
    """Share of networks whose nearest neighbour is a training network, tested by relabelling trajectories.

    A generator that knows nothing of training trajectories in particular would draw the same networks had other
    trajectories been held out, however narrow, wide or wrong its distribution is. Relabelling whole trajectories counts
    a popular neighbour once.

    Args:
        trajectory: Number of the trajectory, 0 … J − 1, that each network's nearest neighbour is of, (networks,).
        training: Which trajectories were learned from, (J,) bool; the others were candidates too.
        generator: Permutes labels.
        permutations: Relabellings.

    Returns:
        The share, what is expected, and the one-sided p-value.
    """
    total, learned = len(training), int(training.sum())
    counts = torch.bincount(trajectory.cpu(), minlength=total).double()
    popular = counts.nonzero().flatten()
    found = []
    for size in (permutations // 100) * [100] + [permutations % 100]:
        keys = torch.rand(size, total, generator=generator, device=generator.device).cpu()
        last = keys.kthvalue(learned, 1, keepdim=True).values if learned else torch.full((size, 1), -1.0)
        found.append((keys[:, popular] <= last).double() @ counts[popular])
    relabelled = torch.cat(found) / len(trajectory)
    share = counts[training.cpu()].sum() / len(trajectory)
    p_value = permutation_p_value(share - 1e-9, relabelled)
    return ShareTest(share.item(), learned / total, relabelled.std().item(), p_value)


def chance_of_closest(count: int, ours: int, theirs: int) -> float:
    """Probability that the ``count`` smallest of all are ours, where all orders are equally likely."""
    return math.exp(sum(math.log(ours - i) - math.log(ours + theirs - i) for i in range(count)))


def close_test(closeness: Tensor, closeness_unseen: Tensor) -> CloseTest:
    """How many networks are at most half as far from a training network as every held-out network is: finds few copies.

    Closeness is the distance to the nearest training network over that to the nearest held-out one. A narrower or wider
    distribution changes both nearly alike, a copy the first alone. Of n networks and m held-out ones of one distribution,
    the k smallest are all ours with probability Π_{i<k} (n − i) / (n + m − i). Of another distribution, closeness is
    another: only what is below ``CLOSER`` of the smallest of held-out networks counts, which makes no verbatim copy
    harder to find.

    Args:
        closeness: (networks,), of independent networks.
        closeness_unseen: (held-out networks,), one of each trajectory; none of trajectories that closeness is over.

    Returns:
        Both minima, the number of networks so much closer than held-out ones, and its p-value.

    Raises:
        ValueError: There are no networks on a side.
    """
    if closeness.numel() == 0 or closeness_unseen.numel() == 0:
        raise ValueError(f"close_test: expected networks, got {len(closeness)} and {len(closeness_unseen)} held-out ones.")
    least = closeness_unseen.min()
    count = int((closeness < CLOSER * least).sum())
    p_value = chance_of_closest(count, len(closeness), len(closeness_unseen))
    return CloseTest(closeness.min().item(), least.item(), count, p_value)


def detectable_by_closeness(networks: int, unseen: int, level: float = 0.05, power: float = 0.95) -> float:
    """Smallest share of verbatim copies that :func:`close_test` finds with a given probability.

    Enough copies are k* = min {k: p-value of k ≤ level}; the share f is that of P(Binomial(networks, f) ≥ k*) = power.

    Args:
        networks: Networks that are tested.
        unseen: Held-out networks beside them.
        level: Of the test.
        power: Probability of finding copies.

    Returns:
        The share; NaN where even all networks would not be enough.
    """
    from scipy.stats import beta  # slow to import, and few evaluations need it

    enough = next((k for k in range(1, networks + 1) if chance_of_closest(k, networks, unseen) <= level), None)
    # P(Binomial(n, f) ≥ k) is the distribution function of Beta(k, n − k + 1) at f.
    return math.nan if enough is None else float(beta.ppf(power, enough, networks - enough + 1))
