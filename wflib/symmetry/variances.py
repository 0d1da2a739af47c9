"""Running variances in other forms: variance + ε, which scales and stays positive, and log(variance + ε), which is free."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.architecture.operations import BatchNorm
from wflib.symmetry.scaling import Scales

__all__ = ["epsilons", "exponentials", "logarithms", "room_for_variances", "shifted", "unshifted"]


def epsilons(architecture: Architecture, holds: str) -> dict[str, float]:
    """The ε of each running variance that is held so, see ``BatchNorm.holds``.

    Raises:
        ValueError: Batch norms with unequal ε share one variance.
    """
    found: dict[str, float] = {}
    for operation in architecture.operations:
        if not isinstance(operation, BatchNorm) or operation.holds != holds:
            continue
        if found.setdefault(operation.variance, operation.epsilon) != operation.epsilon:
            raise ValueError(f"canonicalize: {operation.variance} is used with different epsilons; expected one.")
    return found


def shifted(architecture: Architecture, weights: Mapping[str, Tensor]) -> Weights:
    """Weights with ε added to the variances that an architecture holds without it."""
    return {**weights, **{name: weights[name] + epsilon for name, epsilon in epsilons(architecture, "variance").items()}}


def unshifted(architecture: Architecture, weights: Mapping[str, Tensor]) -> Weights:
    """Weights with ε taken from the variances that an architecture holds with it.

    A variance that variance + ε could not tell from zero is zero, and not the rounding error on either side of it.
    """
    ordinary = dict(weights)
    for name, epsilon in epsilons(architecture, "shifted").items():
        variance = weights[name] - epsilon
        lost = variance.abs() <= 8 * torch.finfo(variance.dtype).eps * epsilon
        ordinary[name] = variance.masked_fill(lost, 0.0)
    return ordinary


def logarithms(architecture: Architecture, weights: Mapping[str, Tensor]) -> Weights:
    """Weights with log(variance + ε) in place of variances, or of variances + ε, where the architecture holds these."""
    plain = epsilons(architecture, "variance")
    return {**weights, **{name: (weights[name] + plain.get(name, 0.0)).log() for name in variances(architecture)}}


def exponentials(architecture: Architecture, weights: Mapping[str, Tensor]) -> Weights:
    """The inverse of :func:`logarithms`; where variance + ε comes out below ε, the variance is zero."""
    plain = epsilons(architecture, "variance")
    found = {name: weights[name].exp() for name in variances(architecture)}
    return {**weights, **{n: (v - plain[n]).clamp_min(0) if n in plain else v for n, v in found.items()}}


def variances(architecture: Architecture) -> list[str]:
    """Tensors that hold running variances in whatever form."""
    return list(dict.fromkeys(o.variance for o in architecture.operations if isinstance(o, BatchNorm)))


def room_for_variances(architecture: Architecture, weights: Mapping[str, Tensor]) -> Scales:
    """The mildest factors, at most one, that lift every variance + ε below ε to ε, so that no variance is negative."""
    found: Scales = {}
    known = epsilons(architecture, "shifted")
    for scaling in architecture.scalings:
        for factor in scaling.factors:
            if factor.power != 2 or factor.tensor not in known:
                continue
            variance = weights[factor.tensor]
            share = torch.where(variance > 0, variance / known[factor.tensor], 1.0).clamp_max(1).sqrt()
            here = (factor.index >= 0).to(variance.device)
            owners = factor.index.to(variance.device)[here].expand(len(share), -1)
            ones = found.get(scaling.name, share.new_ones(len(share), scaling.size))
            found[scaling.name] = ones.scatter_reduce(1, owners, share[:, here], "amin")
    return found
