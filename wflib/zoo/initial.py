"""Initial weights of a zoo: draws from a normal distribution of each tensor's own mean and deviation."""

from __future__ import annotations

import math

import torch

from wflib.architecture import Architecture
from wflib.architecture.operations import Convolution, Embedding, Linear
from wflib.networks import Networks

__all__ = ["INITS", "initial_moments", "initialize"]

INITS = ("normal", "torch", "he", "glorot")
"""``normal``: one deviation for all weights and biases. The others have one for each tensor, see :func:`initial_moments`."""
PLAIN = 0.02
"""Deviation of parameters that are added or multiplied as they are, such as positions, as in vision transformers."""


def initial_moments(architecture: Architecture, std: float, init: str = "normal") -> dict[str, tuple[float, float]]:
    """Mean and deviation of every tensor's entries.

    ==========  =============================  =====================
    init        deviation of weights           deviation of biases
    ==========  =============================  =====================
    ``normal``  ``std``                        ``std``
    ``torch``   1 / √(3 · fan-in)              the same
    ``he``      √(2 / fan-in)                  0
    ``glorot``  √(2 / (fan-in + fan-out))      0
    ==========  =============================  =====================

    ``torch`` has the deviations of torch's default, which is uniform. Of whichever, norms' scales and running variances are
    one at first, their biases and running means zero.

    Args:
        architecture: What a network is.
        std: Deviation for ``normal``.
        init: One of ``INITS``.

    Raises:
        ValueError: Another ``init``.

    Example:
        >>> from wflib.architecture import mlp
        >>> initial_moments(mlp([8, 4, 2]), 0.1, "he")["linear1.weight"]
        (0.0, 0.5)
    """
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}.")
    moments = {name: (0.0, std if init == "normal" else PLAIN) for name, _ in architecture.shapes}
    for operation in architecture.operations:
        if operation.kind.endswith("_norm"):
            for field in operation.tensor_fields:
                if (name := getattr(operation, field)) is not None:
                    moments[name] = (float(field in ("weight", "variance")), 0.0)
        elif init != "normal" and isinstance(operation, (Linear, Convolution)):
            weight, bias = deviations(architecture, operation, init)
            moments[operation.weight] = (0.0, weight)
            if operation.bias is not None:
                moments[operation.bias] = (0.0, bias)
        elif init != "normal" and isinstance(operation, Embedding):
            moments[operation.weight] = (0.0, 1.0)
    return moments


def deviations(architecture: Architecture, operation: Linear | Convolution, init: str) -> tuple[float, float]:
    """Of an affine map's weight and bias."""
    rows, *others = architecture.shape(operation.weight)
    fan_in, fan_out = math.prod(others), rows * math.prod(others[1:])
    if isinstance(operation, Linear) and operation.rows is not None:
        fan_out = operation.rows[1] - operation.rows[0]
    if init == "torch":
        return (3 * fan_in) ** -0.5, (3 * fan_in) ** -0.5
    return math.sqrt(2 / fan_in if init == "he" else 2 / (fan_in + fan_out)), 0.0


def initialize(
    architecture: Architecture, networks: int, std: float, random: torch.Generator, init: str = "normal"
) -> Networks:
    """Networks with entries from N(mean, deviation²), see :func:`initial_moments`.

    ``normal`` is, but for norms, the prior that flows start from as well: N(0, std²) for all weights and biases.
    """
    flat = torch.randn(networks, architecture.dimension, generator=random, device=random.device)
    moments = initial_moments(architecture, std, init)
    scale, shift = (torch.empty(architecture.dimension, device=flat.device) for _ in range(2))
    for name, where in architecture.slices.items():
        shift[where], scale[where] = moments[name]
    return Networks.from_flat(architecture, flat * scale + shift)
