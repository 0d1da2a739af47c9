"""Distances between networks: over what they have learned, not over what was measured along the way."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture

__all__ = ["learned", "squared_distance", "squared_norm"]


def learned(architecture: Architecture, weights: Mapping[str, Tensor]) -> Tensor:
    """Flat vectors (..., D) without the coordinates of running statistics, which follow from weights and examples."""
    flat = architecture.flatten(weights)
    if not architecture.statistics:
        return flat
    kept = torch.ones(architecture.dimension, dtype=torch.bool, device=flat.device)
    for name in architecture.statistics:
        kept[architecture.slices[name]] = False
    return flat[..., kept]


def squared_distance(architecture: Architecture, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """‖θ_A − θ_B‖² per network, without running statistics; either side may hold a single network."""
    return ((learned(architecture, a) - learned(architecture, b)) ** 2).sum(-1)


def squared_norm(architecture: Architecture, weights: Mapping[str, Tensor]) -> Tensor:
    """‖θ‖² per network, without running statistics."""
    return learned(architecture, weights).square().sum(-1)
