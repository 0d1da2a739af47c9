"""One factor for all logits of a set of networks: what scale of outputs is worth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wflib.networks import Networks, network_losses, require_classification
from wflib.tasks import Split

__all__ = ["best_output_factor", "with_output_factor", "without_output_scale"]

FACTORS = tuple(2 ** (power / 8) for power in range(-24, 17))
"""Among which the best is looked for: 1/8 to 4."""


def with_output_factor(networks: Networks, factor: float) -> Networks:
    """The same classifiers with logits times a positive factor; canonical ones stay on their manifold.

    Raises:
        ValueError: A regression, a network without a last linear layer, or a factor that is not positive.
    """
    architecture = networks.architecture
    require_classification(architecture, "with_output_factor")
    if not factor > 0:
        raise ValueError(f"with_output_factor: expected a positive factor, got {factor}.")
    if architecture.log_scale is not None:
        scale = networks.weights[architecture.log_scale]
        return networks.with_weights(networks.weights | {architecture.log_scale: scale + math.log(factor)})
    if architecture.output_layer is None:
        raise ValueError("with_output_factor: expected networks that end in a linear layer.")
    scaled: dict[str, Tensor] = {name: factor * networks.weights[name] for name in architecture.output_layer.tensors}
    return networks.with_weights(networks.weights | scaled)


def without_output_scale(networks: Networks) -> Networks:
    """Canonical networks as the thesis evaluates them: their last layer's norm is one, whatever training made of it.

    Classes stay what they are; losses become those of predictions without confidence.

    Raises:
        ValueError: Networks that are not canonical, whose scale is no coordinate.
    """
    name = networks.architecture.log_scale
    if name is None:
        raise ValueError("without_output_scale: expected canonical classifiers, got networks without a log scale.")
    return networks.with_weights(networks.weights | {name: torch.zeros_like(networks.weights[name])})


@torch.no_grad()
def best_output_factor(networks: Networks, split: Split) -> float:
    """The factor of ``FACTORS`` with the lowest mean loss of single networks.

    One number for a whole set of networks; to be chosen on validation examples.

    Args:
        networks: Classifiers.
        split: Examples.
    """
    losses = [network_losses(with_output_factor(networks, factor), split, chunk=256).mean() for factor in FACTORS]
    return FACTORS[int(torch.stack(losses).argmin())]
