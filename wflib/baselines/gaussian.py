"""Gaussian fits to the aligned weights: independent coordinates, or their full covariance."""

from __future__ import annotations

import torch

from wflib.networks import Networks
from wflib.zoo import Zoo

__all__ = ["sample_diagonal_gaussian", "sample_full_gaussian"]


def require_spread(zoo: Zoo, function: str) -> None:
    if len(zoo) < 2:
        raise ValueError(f"{function}: expected at least two networks to fit a covariance, got {len(zoo)}; train more.")


def sample_diagonal_gaussian(zoo: Zoo, networks: int, generator: torch.Generator) -> Networks:
    """Draws from N(mean, diag(variance)) of the zoo's coordinates, variances with divisor N − 1.

    Args:
        zoo: Aligned networks, at least two.
        networks: How many to draw.
        generator: Source of randomness.

    Returns:
        As many networks, on the zoo's device.

    Raises:
        ValueError: Fewer than two networks in the zoo.
    """
    require_spread(zoo, "sample_diagonal_gaussian")
    flat = zoo.networks.flat
    noise = torch.randn(networks, flat.shape[1], generator=generator, dtype=flat.dtype, device=generator.device)
    return Networks.from_flat(zoo.architecture, flat.mean(0) + flat.std(0) * noise.to(flat.device))


def sample_full_gaussian(zoo: Zoo, networks: int, generator: torch.Generator) -> Networks:
    """Draws from N(mean, S), S = X_cᵀ X_c / (N − 1) the sample covariance of the zoo's coordinates.

    θ = mean + X_cᵀ z / √(N − 1) with z ~ N(0, I_N) and X_c the centered (N, D) data matrix: exact for covariances of any
    rank (here at most N − 1 of D), without a D × D matrix or a jitter.

    Args:
        zoo: Aligned networks, at least two.
        networks: How many to draw.
        generator: Source of randomness.

    Returns:
        As many networks, on the zoo's device.

    Raises:
        ValueError: Fewer than two networks in the zoo.
    """
    require_spread(zoo, "sample_full_gaussian")
    flat = zoo.networks.flat
    mean = flat.mean(0)
    mixing = torch.randn(networks, len(flat), generator=generator, dtype=flat.dtype, device=generator.device)
    return Networks.from_flat(zoo.architecture, mean + mixing.to(flat.device) @ (flat - mean) / (len(flat) - 1) ** 0.5)
