"""Distances between networks: over what they have learned, not over what was measured along the way."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.networks import Networks

__all__ = ["learned", "squared_distance", "squared_norm"]


def learned(networks: Networks) -> Tensor:
    """Flat vectors (networks, D) without the coordinates of running statistics, which follow from weights and examples."""
    architecture, flat = networks.architecture, networks.flat
    if not architecture.statistics:
        return flat
    kept = torch.ones(architecture.dimension, dtype=torch.bool, device=flat.device)
    for name in architecture.statistics:
        kept[architecture.slices[name]] = False
    return flat[..., kept]


def squared_distance(a: Networks, b: Networks) -> Tensor:
    """‖θ_A − θ_B‖² per network, without running statistics; either side may hold a single network."""
    return ((learned(a) - learned(b)) ** 2).sum(-1)


def squared_norm(networks: Networks) -> Tensor:
    """‖θ‖² per network, without running statistics."""
    return learned(networks).square().sum(-1)
