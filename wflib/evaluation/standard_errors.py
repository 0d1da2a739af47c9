"""How uncertain a mean loss is: over networks, which come in trajectories, and over examples, which are a sample too."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from wflib.evaluation.clusters import clustered_difference, clustered_mean

__all__ = ["MeanDifference", "MeanEstimate", "compare_means", "estimate_mean"]


@dataclass(frozen=True)
class MeanEstimate:
    """A mean over networks and examples, with what either could have made of it.

    Attributes:
        mean: Mean loss, in the unit of the losses.
        error_networks: Standard error over networks, for these very examples; clusters count once.
        error_examples: Standard error over examples, for these very networks.
        networks: How many networks.
        clusters: How many independent clusters of them.
        examples: How many examples.
    """

    mean: float
    error_networks: float
    error_examples: float
    networks: int
    clusters: int
    examples: int


@dataclass(frozen=True)
class MeanDifference:
    """Mean loss of two sets of networks on the same examples.

    Attributes:
        ours: Mean of the first set.
        theirs: Mean of the second.
        difference: ours − theirs.
        error_networks: Standard error of the difference over networks, for these very examples.
        error_examples: Standard error over examples, paired: both sets see the same ones.
        p_networks: Of no difference on these very examples, two-sided (Welch's t over clusters).
        p_both: Of no difference on other examples like these and with other networks like these, two-sided (Student's t with
            the fewest degrees of freedom: of examples or of either side's clusters).
    """

    ours: MeanEstimate
    theirs: MeanEstimate
    difference: float
    error_networks: float
    error_examples: float
    p_networks: float
    p_both: float


def require_losses(losses: Tensor, who: str) -> None:
    """Refuse what is no matrix of losses with several examples.

    Raises:
        ValueError: Says what was given.
    """
    if losses.ndim != 2 or losses.shape[1] < 2:
        raise ValueError(f"Shape mismatch: {who} expected losses (networks, examples >= 2), got {tuple(losses.shape)}.")


def error_over_examples(means: Tensor) -> float:
    """s / √E of one number per example, (examples,)."""
    return means.std().item() / math.sqrt(len(means))


def t_p_value(difference: float, error: float, freedom: int) -> float:
    """Of no difference, two-sided, by Student's t."""
    from scipy.stats import t  # slow to import, and few evaluations need it

    return 1.0 if difference == 0 else float(2 * t.sf(abs(difference) / error, freedom)) if error != 0 else 0.0


def estimate_mean(losses: Tensor, clusters: Tensor | None = None) -> MeanEstimate:
    """Mean loss over networks and examples with two standard errors.

    Over networks: :func:`~wflib.evaluation.clusters.clustered_mean` of each network's mean over examples. Over examples:
    s / √E of each example's mean over networks. Their squares added bound the variance for other networks and other examples
    at once (Owen 2007, "The pigeonhole bootstrap": what is left out is the interaction's share, counted twice).

    Args:
        losses: (networks, examples).
        clusters: Trajectory of each network, (networks,); None where networks are independent.

    Returns:
        The estimate, in the unit of the losses; errors are NaN where some are not finite.

    Raises:
        ValueError: Fewer than two clusters or examples, or shapes that do not fit.
    """
    require_losses(losses, "estimate_mean")
    mean, error, groups = clustered_mean(losses.double().mean(1, keepdim=True), clusters)
    over_examples = error_over_examples(losses.double().mean(0))
    return MeanEstimate(mean.item(), error.item(), over_examples, len(losses), groups, losses.shape[1])


def compare_means(
    ours: Tensor, theirs: Tensor, our_clusters: Tensor | None = None, their_clusters: Tensor | None = None
) -> MeanDifference:
    """Difference of mean losses of two independent sets of networks on the same examples.

    Errors over examples are paired: of d_e = mean of ours − mean of theirs on example e, they are s(d) / √E. Examples that
    are hard for both sets cancel, which is why a difference can be certain where neither mean is.

    Args:
        ours: (networks, examples).
        theirs: (other networks, the same examples).
        our_clusters: Trajectory of each network of ours; None where they are independent.
        their_clusters: The same for the others.

    Returns:
        Both means, their difference, its two errors and two p-values.

    Raises:
        ValueError: Other examples, fewer than two clusters or examples, or losses that are not finite.
    """
    require_losses(ours, "compare_means")
    if theirs.ndim != 2 or theirs.shape[1] != ours.shape[1]:
        raise ValueError(
            f"Shape mismatch: compare_means expected the same examples, got {tuple(ours.shape)}, {tuple(theirs.shape)}."
        )
    for losses in (ours, theirs):
        if lost := int((~losses.isfinite()).any(1).sum()):
            raise ValueError(f"compare_means: expected finite losses, found others in {lost} of {len(losses)} networks.")
    sides = [losses.double().mean(1, keepdim=True) for losses in (ours, theirs)]
    found = clustered_difference(sides[0], sides[1], our_clusters, their_clusters)
    over_networks = found.error.item()
    over_examples = error_over_examples(ours.double().mean(0).cpu() - theirs.double().mean(0).cpu())
    left, right = estimate_mean(ours, our_clusters), estimate_mean(theirs, their_clusters)
    few = min(ours.shape[1], left.clusters, right.clusters)
    both = math.hypot(over_networks, over_examples)
    return MeanDifference(
        ours=left,
        theirs=right,
        difference=found.difference.item(),
        error_networks=over_networks,
        error_examples=over_examples,
        p_networks=found.p_value.item(),
        p_both=t_p_value(found.difference.item(), both, few - 1),
    )
