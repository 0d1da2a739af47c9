"""Rescalings of hidden neurons that operations leave free: positive factors for ReLU, signs for odd functions."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.architecture import Architecture, Factor
from wflib.networks import Networks

__all__ = ["Scales", "random_scales", "scale", "scaling_kind"]

Scales = dict[str, Tensor]
"""Name of a scaling, in perceptrons that of the hidden group → factors of shape (networks, neurons)."""


def scaling_kind(architecture: Architecture, group: str) -> str:
    """Which factors a scaling or hidden group admits: ``positive``, ``sign``, ``any`` or ``none``."""
    return next((scaling.kind for scaling in architecture.scalings if scaling.name == group), "none")


def scaling_sizes(architecture: Architecture) -> dict[str, int]:
    """Number of factors by name: of hidden groups, those that admit none among them, and of all other scalings."""
    sizes = {group.name: group.size for group in architecture.hidden_groups if group.parent is None}
    return sizes | {scaling.name: scaling.size for scaling in architecture.scalings}


def random_scales(
    architecture: Architecture, networks: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Scales:
    """Random admissible factors: log-normal where positive ones are allowed, random signs where signs are."""
    scales = {}
    for name, size in scaling_sizes(architecture).items():
        kind = scaling_kind(architecture, name)
        factor = torch.ones(networks, size, dtype=dtype)
        if kind in ("positive", "any"):
            factor = torch.randn(networks, size, generator=generator, device=generator.device, dtype=dtype).cpu().exp()
        if kind in ("sign", "any"):
            signs = torch.randint(0, 2, (networks, size), generator=generator, device=generator.device)
            factor = factor * (signs.cpu() * 2 - 1)
        scales[name] = factor
    return scales


def scale(networks: Networks, scales: Scales) -> Networks:
    """Divide what enters each hidden neuron by its factor s and multiply what leaves it by s.

    For a perceptron W_l[k, :], b_l[k] ← · / s_k and W_{l+1}[:, k] ← · × s_k. Running means count as entering; of running
    variances, v + ε ← (v + ε) / s², so that batch norm stays exact.

    Args:
        networks: Of any kind; their operations say which tensors follow which factors.
        scales: Factors per scaling; neurons that are not named stay as they are.

    Returns:
        The same networks, rescaled.

    Raises:
        ValueError: A scaling is unknown, its factors have the wrong shape, or a factor is zero, not finite or one that the
            operations behind the neurons do not commute with, or a variance would become negative.
    """
    architecture, scaled = networks.architecture, dict(networks.weights)
    sizes = scaling_sizes(architecture)
    scalings = {scaling.name: scaling for scaling in architecture.scalings}
    for name, factor in scales.items():
        if name not in sizes:
            raise ValueError(f"scale: {name!r} is no hidden group; hidden groups are {sorted(sizes)}.")
        expected = (len(networks), sizes[name])
        if tuple(factor.shape) != expected:
            raise ValueError(f"Shape mismatch: {name} expected {expected}, got {tuple(factor.shape)}.")
        kind = scaling_kind(architecture, name)
        admissible = {"positive": factor > 0, "sign": factor.abs() == 1, "any": factor != 0, "none": factor == 1}[kind]
        if not bool((admissible & torch.isfinite(factor)).all()):
            raise ValueError(f"scale: {name}'s activation admits finite factors of kind {kind!r} only.")
        for part in scalings[name].factors if name in scalings else ():
            scaled[part.tensor] = scale_tensor(scaled[part.tensor], part, factor)
    return networks.with_weights(scaled)


def scale_tensor(tensor: Tensor, part: Factor, factor: Tensor) -> Tensor:
    """What one scaling does to one tensor (networks, *shape).

    Raises:
        ValueError: A variance would become negative.
    """
    padded = torch.cat([factor, factor.new_ones(len(factor), 1)], 1)
    places = padded[:, part.index.to(factor.device)]
    shape = [1] * tensor.ndim
    shape[0] = len(factor)
    for axis in part.axes:
        shape[axis + 1] = tensor.shape[axis + 1]
    places = places.view(shape)
    if part.power == 1:
        return tensor / places
    if part.power == -1:
        return tensor * places
    if part.power == 0:
        return tensor * places.sign()
    variance = (tensor + part.shift) / places**2 - part.shift
    if bool((variance < 0).any()):
        raise ValueError(
            f"scale: {part.tensor} would become negative, v + ε being divided by the square of a factor up to "
            f"{float(places.abs().max()):.3g}; choose smaller factors."
        )
    return variance
