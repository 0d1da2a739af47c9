"""Activations of base networks, and which rescalings of a neuron they commute with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "Activation", "SmoothReLU"]

SHARPNESS = 4.0


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity and the scalings that commute with it.

    Attributes:
        function: The nonlinearity.
        module: The ``torch.nn`` class that computes it.
        scaling: ``"positive"`` when f(s x) = s f(x) for s > 0, ``"sign"`` when f(-x) = -f(x), ``"any"`` for both,
            ``"none"`` when only permutations remain.
    """

    function: Callable[[Tensor], Tensor]
    module: type[nn.Module]
    scaling: str


class SmoothReLU(nn.Module):
    """x Φ(4 x), Φ the normal distribution function: a GELU four times as sharp, near ReLU but infinitely differentiable."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return smooth_relu(x)


def smooth_relu(x: Tensor) -> Tensor:
    """See :class:`SmoothReLU`."""
    return nn.functional.gelu(SHARPNESS * x) / SHARPNESS


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(torch.relu, nn.ReLU, "positive"),
    "leaky_relu": Activation(nn.functional.leaky_relu, nn.LeakyReLU, "positive"),
    "tanh": Activation(torch.tanh, nn.Tanh, "sign"),
    "softsign": Activation(nn.functional.softsign, nn.Softsign, "sign"),
    "gelu": Activation(nn.functional.gelu, nn.GELU, "none"),
    "silu": Activation(nn.functional.silu, nn.SiLU, "none"),
    "smooth_relu": Activation(smooth_relu, SmoothReLU, "none"),
    "identity": Activation(lambda x: x, nn.Identity, "any"),
}
