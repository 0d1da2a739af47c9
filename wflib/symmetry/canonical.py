"""Canonical representatives of scaling orbits: unit incoming norms, and a unit last layer for classifiers.

A scaling acts on all that enters a neuron, weights w and bias b, so either ‖(w, b)‖ (``weights-and-bias``) or ‖w‖
(``weights``, the thesis') can be made one. Weight decay leaves neurons with hardly any incoming weights, and then b / ‖w‖
is as large as one likes: only the joined norm keeps every coordinate bounded. In networks of other kinds w is all that
:func:`~wflib.symmetry.writers.writers` says is written for a neuron.

Batch norm divides by √(v + ε), so v + ε, and not v, is divided by s², and v would become negative where v < ε (s² − 1).
Canonical networks therefore hold v + ε in place of v, which stays positive on the whole orbit and keeps its digits
however small it becomes. Attention has more symmetries than scalings, invertible maps of queries and keys and of values
of a head; these stay as they are, and :mod:`wflib.symmetry.attention` removes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.architecture import NORMS
from wflib.networks import LEAVE_OUT, Networks, require_networks
from wflib.symmetry.scaling import Scales, scale
from wflib.symmetry.variances import room_for_variances, shifted, unshifted
from wflib.symmetry.writers import output_writers, sign_writers, writers

__all__ = ["NEARLY_DEAD", "CanonicalNetworks", "canonicalize", "decanonicalize"]

NEARLY_DEAD = 1e-3
"""Share of the root mean square of its layer's norms below which a neuron hardly sees its inputs."""


@dataclass(frozen=True)
class CanonicalNetworks:
    """What :func:`canonicalize` returns.

    Attributes:
        networks: Canonical networks, which compute the same function; classifiers with an output layer have a tensor
            ``log_scale``.
        record: Factors of each scaling that were divided out, norms and signs, (networks, neurons); what the inverse needs.
        zero_norm_neurons: Number of neurons whose incoming norm was too small to divide by and that were left alone.
        nearly_dead_neurons: Number of neurons whose incoming norm is below ``NEARLY_DEAD`` of what is usual in their layer
            of their network, those without a norm included. Their canonical weights are mostly noise.
    """

    networks: Networks
    record: Scales
    zero_norm_neurons: int
    nearly_dead_neurons: int


def lengths(vectors: Tensor) -> Tensor:
    """Norms over the last axis, also where squares of entries underflow or overflow."""
    norm: Tensor = vectors.norm(dim=-1)
    numbers = torch.finfo(norm.dtype)
    rough = (norm < (numbers.tiny / numbers.eps) ** 0.5) | ~torch.isfinite(norm)
    if not bool(rough.any()):
        return norm
    largest = vectors.abs().amax(-1, keepdim=True).clamp_min(numbers.tiny)
    return torch.where(rough, (vectors / largest).norm(dim=-1) * largest.squeeze(-1), norm)


def safe_norm(norm: Tensor) -> tuple[Tensor, int]:
    """Norms with zero and denormal ones replaced by one, and how many there were."""
    tiny = norm < torch.finfo(norm.dtype).tiny * 1e8
    return torch.where(tiny, torch.ones_like(norm), norm), int(tiny.sum())


def count_nearly_dead(norm: Tensor) -> int:
    """How many norms (networks, neurons) are far below the root mean square of their network's."""
    usual = norm.square().mean(1, keepdim=True).sqrt()
    return int((norm <= NEARLY_DEAD * usual).sum())


def largest_sign(entering: Tensor) -> Tensor:
    """Sign of the largest by magnitude of each neuron's incoming weights and bias, one where all are zero.

    The largest is far from zero, and is the same one in whatever order neurons stand: (networks, neurons).
    """
    sign = entering.gather(-1, entering.abs().argmax(-1, keepdim=True)).squeeze(-1).sign()
    return torch.where(sign == 0, torch.ones_like(sign), sign)


def divided(tensor: Tensor, factor: Tensor) -> Tensor:
    """A tensor (networks, …) by one number a network."""
    return tensor / factor.view(-1, *(1 for _ in tensor.shape[1:]))


def canonicalize(networks: Networks, norm: str = NORMS[0], signs: bool = False) -> CanonicalNetworks:
    """Move every network along its scaling orbit to the representative with unit incoming norms.

    For hidden layers in order, neuron k: s = ‖(W_l[k, :], b_l[k])‖, or ‖W_l[k, :]‖ with ``norm="weights"``; W_l[k, :],
    b_l[k] ← · / s, W_{l+1}[:, k] ← · × s. For a classifier also r, the same norm of its last layer as a whole, W_L, b_L
    ← · / r, and log r is kept as the tensor ``log_scale``, by which outputs are multiplied: logits, likelihood and
    calibration stay exact (thesis 4.4 and 6.2.2 drop it).

    In other networks s_k is the norm of the neuron's writers: filters, and for norms the pair (γ_k, β_k); running means
    follow, and variances hold v + ε. Classifiers whose last operation is no linear map of its own weights have no output
    scale.

    Args:
        networks: Ordinary networks of any kind, or canonical ones of the same norm, in single or double precision.
        norm: One of ``NORMS``.
        signs: Whether neurons of odd activations are flipped, too, so that the largest of their incoming weights and bias is
            positive. Off by default: the coupling of networks with their own initializations needs both in one sign.

    Returns:
        Canonical networks and the record that :func:`decanonicalize` inverts them with. Idempotent; constant on orbits of
        positive scalings, and with ``signs`` on those of all scalings that the activations admit. Commutes with
        permutations of hidden neurons.

    Raises:
        ValueError: Weights of half precision, NaN or infinity, an unknown norm, or networks canonical in
            another one; or norms whose product over the layers is more than the weights' precision can hold.
    """
    require_networks("canonicalize: networks", networks)
    architecture = networks.architecture
    if norm not in NORMS or architecture.norm not in (None, norm):
        known = f"the norm {architecture.norm} that the networks have" if architecture.norm else f"one of {', '.join(NORMS)}"
        raise ValueError(f"canonicalize: norm: expected {known}, got {norm!r}.")
    if networks.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            "canonicalize: expected float32 or float64, as norms of half precision lose digits; these are "
            f"{networks.dtype}; raise them with .to(torch.float32)."
        )
    networks.require_finite("canonicalize")
    record, zeros, dead, shift = {}, 0, 0, shifted(architecture, networks.weights)
    architecture, scaled_before = architecture.canonical_form(norm), architecture.log_scale is not None
    moved = networks.with_weights(shift, architecture)
    normalized, flipped = writers(architecture, norm), sign_writers(architecture) if signs else {}
    for name in (scaling.name for scaling in architecture.scalings if scaling.name in normalized or scaling.name in flipped):
        if name in normalized:
            length = lengths(normalized[name].gather(moved.weights))
            dead += count_nearly_dead(length)
            factor, count = safe_norm(length)
            zeros += count
        if name in flipped:
            sign = largest_sign(flipped[name].gather(moved.weights))
            factor = factor * sign if name in normalized else sign
        moved = scale(moved, {name: factor})
        moved.require_finite("canonicalize: norms multiplied over layers", f"give double precision, or {LEAVE_OUT}")
        record[name] = factor
    canonical = dict(moved.weights)
    layer, last = architecture.output_layer, output_writers(architecture, norm)
    if architecture.log_scale is not None and layer is not None and last is not None:
        factor, count = safe_norm(lengths(last.gather(canonical)).squeeze(1))
        zeros += count
        for name in layer.tensors:
            canonical[name] = divided(canonical[name], factor)
        before = canonical[architecture.log_scale] if scaled_before else 0
        canonical[architecture.log_scale] = before + factor.log()
    return CanonicalNetworks(moved.with_weights(canonical), record, zeros, dead)


def decanonicalize(networks: Networks, record: Scales | None = None) -> Networks:
    """Ordinary networks with the function of canonical ones.

    Args:
        networks: Canonical ones; their norms need not be exactly one.
        record: Norms to multiply back; None (for drawn networks, which have none) leaves incoming weights on their
            spheres and only folds the output scale exp(ρ) into the last layer. Filters before a batch norm leave their
            spheres where variance + ε is below ε: they become so long that the variance is zero.

    Returns:
        The ordinary networks; with the record of :func:`canonicalize` its exact inverse.
    """
    architecture, ordinary = networks.architecture, dict(networks.weights)
    layer = architecture.output_layer
    if architecture.log_scale is not None and layer is not None:
        factor = ordinary.pop(architecture.log_scale).exp()
        for name in layer.tensors:
            ordinary[name] = ordinary[name] * factor.view(-1, *(1 for _ in ordinary[name].shape[1:]))
    if record is None:
        back = room_for_variances(architecture, ordinary)
    else:
        back = {name: 1 / norm for name, norm in record.items()}
    scaled = scale(networks.with_weights(ordinary), back)
    return networks.with_weights(unshifted(architecture, scaled.weights), architecture.ordinary_form())
