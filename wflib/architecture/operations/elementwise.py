"""Functions of one entry: activations, and multiples of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from wflib.activation import ACTIVATIONS
from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import ONE, ZERO, Wires
from wflib.architecture.operations.base import Operation

__all__ = ["FUNCTIONS", "Elementwise", "Multiple"]


def sine(x: Tensor, frequency: float = 1.0) -> Tensor:
    """sin(ω x), as in networks for signals."""
    return torch.sin(frequency * x)


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], str]] = {
    **{name: (activation.function, activation.scaling) for name, activation in ACTIVATIONS.items()},
    "leaky_relu": (functional.leaky_relu, "positive"),
    "gelu": (functional.gelu, "none"),
    "abs": (torch.abs, "positive"),
    "relu6": (functional.relu6, "none"),
    "hardtanh": (functional.hardtanh, "none"),
    "hardswish": (functional.hardswish, "none"),
    "hardsigmoid": (functional.hardsigmoid, "none"),
    "sigmoid": (torch.sigmoid, "none"),
    "logsigmoid": (functional.logsigmoid, "none"),
    "elu": (functional.elu, "none"),
    "selu": (functional.selu, "none"),
    "celu": (functional.celu, "none"),
    "softplus": (functional.softplus, "none"),
    "mish": (functional.mish, "none"),
    "sine": (sine, "sign"),
    "cosine": (torch.cos, "none"),
    "tanhshrink": (functional.tanhshrink, "sign"),
    "softshrink": (functional.softshrink, "sign"),
    "hardshrink": (functional.hardshrink, "sign"),
    "exp": (torch.exp, "none"),
    "log": (torch.log, "none"),
    "sqrt": (torch.sqrt, "none"),
    "rsqrt": (torch.rsqrt, "none"),
    "reciprocal": (torch.reciprocal, "none"),
    "power": (torch.pow, "none"),
    "clamp": (torch.clamp, "none"),
}
"""Name → function of entries and settings, and the scalings that it commutes with (``none``, if even some settings do)."""

KINKED = {
    *("relu", "leaky_relu", "abs", "relu6", "hardtanh", "hardswish", "hardsigmoid", "selu"),
    *("softshrink", "hardshrink", "clamp"),
}
"""Functions whose derivative, or value, jumps inside of their domain, which poles do not belong to."""
JUMP = 1e-6
"""Least one that counts: behind its threshold softplus is a line, whose derivative is larger by about e^-threshold."""


@dataclass(frozen=True)
class Elementwise(Operation):
    """f(x), entry by entry; ``settings`` are f's further arguments, by name."""

    function: str = "identity"
    settings: tuple[tuple[str, float | str | None], ...] = ()

    kind: ClassVar[str] = "elementwise"

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise ValueError(f"Architecture: unknown activation {self.function!r}; known: {sorted(FUNCTIONS)}.")

    @property
    def kink(self) -> str | None:
        """The function where its derivative jumps; that of ELU and softplus does by their settings."""
        settings, name = dict(self.settings), self.function
        if name == "elu":
            return None if settings.get("alpha", 1.0) == 1 else name
        if name == "softplus":
            return None if math.exp(-float(settings.get("threshold") or 20.0)) < JUMP else name
        return name if name in KINKED else None

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """The function."""
        return FUNCTIONS[self.function][0](inputs[0], **dict(self.settings))

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Neurons pass; scales pass as far as the function commutes with them."""
        (x,) = inputs
        scaling = FUNCTIONS[self.function][1]
        if scaling == "none":
            ledger.end(x.scale)
            x = Wires(x.neuron, x.label, torch.full_like(x.scale, ONE))
        elif scaling != "any":
            ledger.restrict(x.scale, scaling)
        return x.relabel(ledger.number)


@dataclass(frozen=True)
class Multiple(Operation):
    """factor · x + offset, with numbers that are part of the architecture."""

    factor: float = 1.0
    offset: float = 0.0

    kind: ClassVar[str] = "multiple"

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Entry by entry."""
        x = inputs[0] if self.factor == 1 else inputs[0] * self.factor
        return x if self.offset == 0 else x + self.offset

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Neurons pass; an offset ends scales."""
        (x,) = inputs
        if self.offset != 0:
            ledger.end(torch.where(x.scale == ZERO, ONE, x.scale))
            x = Wires(x.neuron, x.label, torch.full_like(x.scale, ONE))
        return x.relabel(ledger.number)
