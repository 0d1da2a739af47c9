"""Spread of drawn weights against the spread of the zoo's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wflib.evaluation.score_errors import mean_error
from wflib.networks import Networks
from wflib.zoo import StoredNetworks

__all__ = ["VarianceRatio", "spread_ratio", "variance_ratio"]


@dataclass(frozen=True)
class VarianceRatio:
    """What :func:`variance_ratio` returns; 1 where samples spread like the zoo.

    Attributes:
        mean: Mean over coordinates of Var(samples) / Var(zoo); every coordinate counts the same.
        total: Σ Var(samples) / Σ Var(zoo); coordinates of large variance count more.
        constant: Coordinates without variance in the zoo, which ``mean`` leaves out.
        error: Standard error of ``mean`` over the samples; NaN for samples of one cluster.
    """

    mean: float
    total: float
    constant: int
    error: float


def variance_ratio(samples: Tensor, zoo: Tensor, clusters: Tensor | None = None) -> VarianceRatio:
    """Ratio of per-coordinate sample variances (divisor N − 1) of two sets of flat weight vectors.

    Both sides must be aligned to the same reference first: neurons in random order add the variance *between* neurons to
    every coordinate, and the ratio of unaligned samples to an aligned zoo says nothing about the samples' spread.

    Args:
        samples: (networks, D) aligned flat vectors, at least two.
        zoo: (networks, D) aligned flat vectors, at least two.
        clusters: Trajectory of each sample, (networks,); None where samples are independent.

    Returns:
        Both ways of averaging the ratio.

    Raises:
        ValueError: Shapes do not fit, a side has fewer than two networks, or all networks of the zoo are the same.
    """
    for name, side in (("samples", samples), ("zoo", zoo)):
        if side.ndim != 2 or len(side) < 2 or side.shape[1] != zoo.shape[-1]:
            raise ValueError(
                f"Shape mismatch: variance_ratio expected {name} (networks >= 2, {zoo.shape[-1]}), got {tuple(side.shape)}."
            )
    return ratio_of_variances(samples, zoo.var(0), clusters)


def spread_ratio(samples: Networks, zoo: Networks | StoredNetworks, clusters: Tensor | None = None) -> VarianceRatio:
    """:func:`variance_ratio` of networks, at least two on both sides, of which the zoo's may be on disk."""
    if isinstance(zoo, Networks):
        return variance_ratio(samples.flat, zoo.flat, clusters)
    _, variance = zoo.moments
    return ratio_of_variances(samples.flat.double().cpu(), variance * (len(zoo) / (len(zoo) - 1)), clusters)


def ratio_of_variances(samples: Tensor, theirs: Tensor, clusters: Tensor | None) -> VarianceRatio:
    """Both ways of averaging the ratio of the variances of samples (networks, D) to others, (D,)."""
    ours, varies = samples.var(0).to(theirs.device), theirs > 0
    if not bool(varies.any()):
        raise ValueError("variance_ratio: expected a zoo of different networks, got copies of one; pass other networks.")
    count = len(samples)
    squares = (samples - samples.mean(0))[:, varies.to(samples.device)].square() * count / (count - 1)
    each = (squares.to(theirs.device) / theirs[varies]).mean(1)  # whose mean is the ratio
    return VarianceRatio(
        error=mean_error(each, clusters),
        mean=(ours[varies] / theirs[varies]).mean().item(),
        total=(ours.sum() / theirs.sum()).item(),
        constant=int((~varies).sum()),
    )
