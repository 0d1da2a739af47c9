"""Rescalings of hidden neurons that activations commute with: positive factors for ReLU, signs for odd functions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.activation import ACTIVATIONS
from wflib.architecture import Architecture, Layer, Weights

__all__ = ["Scales", "incoming_layer", "random_scales", "scale", "scaling_kind"]

Scales = dict[str, Tensor]
"""Hidden group name → factors of shape (networks, neurons)."""


def incoming_layer(architecture: Architecture, group: str) -> Layer:
    """The layer that computes a group."""
    return next(layer for layer in architecture.layers if layer.target == group)


def scaling_kind(architecture: Architecture, group: str) -> str:
    """Which factors a hidden group admits: ``positive``, ``sign``, ``any`` or ``none``."""
    return ACTIVATIONS[incoming_layer(architecture, group).activation].scaling


def random_scales(architecture: Architecture, networks: int, generator: torch.Generator, dtype=torch.float32) -> Scales:
    """Random admissible factors: log-normal where positive ones are allowed, random signs where signs are."""
    scales = {}
    for group in architecture.hidden_groups:
        kind = scaling_kind(architecture, group.name)
        factor = torch.ones(networks, group.size, dtype=dtype)
        if kind in ("positive", "any"):
            factor = torch.randn(networks, group.size, generator=generator, dtype=dtype).exp()
        if kind in ("sign", "any"):
            factor = factor * (torch.randint(0, 2, (networks, group.size), generator=generator) * 2 - 1)
        scales[group.name] = factor
    return scales


def scale(architecture: Architecture, weights: Mapping[str, Tensor], scales: Scales) -> Weights:
    """Divide what enters each hidden neuron by its factor s and multiply what leaves it by s.

    W_l[k, :], b_l[k] ← · / s_k and W_{l+1}[:, k] ← · × s_k.

    Args:
        architecture: Says which tensors enter and leave a group.
        weights: Tensors of shape (networks, *shape).
        scales: Factors per hidden group; groups that are not named stay as they are.

    Returns:
        New tensors of the same shapes.

    Raises:
        ValueError: A group is unknown, its factors have the wrong shape, or a factor is zero, not finite or one that the
            group's activation does not commute with.
    """
    hidden = {group.name: group.size for group in architecture.hidden_groups}
    networks = next(iter(weights.values())).shape[0]
    scaled = dict(weights)
    for group, factor in scales.items():
        if group not in hidden:
            raise ValueError(f"scale: {group!r} is no hidden group; hidden groups are {sorted(hidden)}.")
        if tuple(factor.shape) != (networks, hidden[group]):
            raise ValueError(f"Shape mismatch: {group} expected ({networks}, {hidden[group]}), got {tuple(factor.shape)}.")
        kind = scaling_kind(architecture, group)
        admissible = {"positive": factor > 0, "sign": factor.abs() == 1, "any": factor != 0, "none": factor == 1}[kind]
        if not bool((admissible & torch.isfinite(factor)).all()):
            raise ValueError(f"scale: {group}'s activation admits finite factors of kind {kind!r} only.")
        for layer in architecture.layers:
            if layer.target == group:
                scaled[layer.weight] = scaled[layer.weight] / factor.unsqueeze(-1)
                if layer.bias is not None:
                    scaled[layer.bias] = scaled[layer.bias] / factor
            if layer.source == group:
                scaled[layer.weight] = scaled[layer.weight] * factor.unsqueeze(-2)
    return scaled
