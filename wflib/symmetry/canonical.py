"""Canonical representatives of scaling orbits: unit incoming norms, and a unit last layer for classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.symmetry.scaling import Scales, incoming_layer, scale, scaling_kind

__all__ = ["CanonicalNetworks", "canonicalize", "decanonicalize", "normalized_groups"]


@dataclass(frozen=True)
class CanonicalNetworks:
    """What :func:`canonicalize` returns.

    Attributes:
        architecture: The canonical architecture; a classifier's has a ``log_scale`` tensor.
        weights: Canonical weights, which compute the same function.
        record: Factors divided out of each hidden group, norms and signs, (networks, neurons); what the inverse needs.
        zero_norm_neurons: Number of neurons whose incoming norm was too small to divide by and that were left alone.
    """

    architecture: Architecture
    weights: Weights
    record: Scales
    zero_norm_neurons: int


def normalized_groups(architecture: Architecture) -> list[str]:
    """Hidden groups whose incoming weights become unit vectors: those with positive scalings."""
    return [g.name for g in architecture.hidden_groups if scaling_kind(architecture, g.name) in ("positive", "any")]


def safe_norm(norm: Tensor) -> tuple[Tensor, int]:
    """Norms with zero and denormal ones replaced by one, and how many there were."""
    tiny = norm < torch.finfo(norm.dtype).tiny * 1e8
    return torch.where(tiny, torch.ones_like(norm), norm), int(tiny.sum())


def largest_sign(architecture: Architecture, weights: Mapping[str, Tensor], group: str) -> Tensor:
    """Sign of the largest by magnitude of each neuron's incoming weights and bias, one where all are zero.

    The largest is far from zero, and is the same one in whatever order neurons stand: (networks, neurons).
    """
    layer = incoming_layer(architecture, group)
    incoming = weights[layer.weight]
    if layer.bias is not None:
        incoming = torch.cat([incoming, weights[layer.bias].unsqueeze(-1)], -1)
    sign = incoming.gather(-1, incoming.abs().argmax(-1, keepdim=True)).squeeze(-1).sign()
    return torch.where(sign == 0, torch.ones_like(sign), sign)


def canonicalize(architecture: Architecture, weights: Mapping[str, Tensor], signs: bool = False) -> CanonicalNetworks:
    """Move every network along its scaling orbit to the representative with unit incoming norms.

    For hidden layers in order, neuron k: s = ‖W_l[k, :]‖, W_l[k, :], b_l[k] ← · / s, W_{l+1}[:, k] ← · × s. For a
    classifier also r = ‖W_L‖_F, W_L, b_L ← · / r and log r is kept as the tensor ``log_scale``, by which outputs are
    multiplied: logits, likelihood and calibration stay exact (thesis 4.4 and 6.2.2 drop it).

    Args:
        architecture: An ordinary or already canonical architecture.
        weights: Tensors of shape (networks, *shape).
        signs: Whether neurons of odd activations are flipped, too, so that the largest of their incoming weights and bias is
            positive. Off by default: the coupling of networks with their own initializations needs both in one sign.

    Returns:
        Canonical networks and the record that :func:`decanonicalize` inverts them with. Idempotent; constant on orbits of
        positive scalings, and with ``signs`` on those of all scalings that the activations admit. Commutes with
        permutations of hidden neurons.
    """
    architecture.validate(weights)
    canonical, record, zeros = dict(weights), {}, 0
    normalized = normalized_groups(architecture)
    flipped = [g.name for g in architecture.hidden_groups if signs and scaling_kind(architecture, g.name) in ("sign", "any")]
    for group in (g.name for g in architecture.hidden_groups if g.name in {*normalized, *flipped}):
        incoming = canonical[incoming_layer(architecture, group).weight]
        factor = torch.ones_like(incoming[..., 0])
        if group in normalized:
            factor, count = safe_norm(incoming.norm(dim=-1))
            zeros += count
        if group in flipped:
            factor = factor * largest_sign(architecture, canonical, group)
        canonical = scale(architecture, canonical, {group: factor})
        record[group] = factor
    if architecture.task_type == "classification":
        last = architecture.layers[-1]
        norm, count = safe_norm(canonical[last.weight].flatten(1).norm(dim=1))
        zeros += count
        canonical[last.weight] = canonical[last.weight] / norm.view(-1, 1, 1)
        if last.bias is not None:
            canonical[last.bias] = canonical[last.bias] / norm.unsqueeze(1)
        if architecture.log_scale is None:
            architecture = architecture.with_log_scale()
            canonical[architecture.log_scale] = torch.zeros_like(norm)
        canonical[architecture.log_scale] = canonical[architecture.log_scale] + norm.log()
    return CanonicalNetworks(architecture, canonical, record, zeros)


def decanonicalize(
    architecture: Architecture, weights: Mapping[str, Tensor], record: Scales | None = None
) -> tuple[Architecture, Weights]:
    """Ordinary networks with the function of canonical ones.

    Args:
        architecture: A canonical architecture.
        weights: Canonical weights; their norms need not be exactly one.
        record: Norms to multiply back; None (for drawn networks, which have none) leaves incoming weights on their
            spheres and only folds the output scale exp(ρ) into the last layer.

    Returns:
        The ordinary architecture and its weights; with the record of :func:`canonicalize` its exact inverse.
    """
    ordinary = dict(weights)
    if architecture.log_scale is not None:
        factor = ordinary.pop(architecture.log_scale).exp()
        last = architecture.layers[-1]
        ordinary[last.weight] = ordinary[last.weight] * factor.view(-1, 1, 1)
        if last.bias is not None:
            ordinary[last.bias] = ordinary[last.bias] * factor.unsqueeze(1)
        architecture = architecture.without_log_scale()
    if record is not None:
        ordinary = scale(architecture, ordinary, {group: 1 / norm for group, norm in record.items()})
    return architecture, ordinary
