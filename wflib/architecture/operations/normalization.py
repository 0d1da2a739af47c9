"""Batch, layer, group and root-mean-square normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import NOBODY, ONE, Wires, mix
from wflib.architecture.operations.base import Operation

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm"]


def along(values: Tensor, axis: int, ndim: int) -> Tensor:
    """(networks, neurons) as a value of so many axes, with neurons along one of them."""
    shape = [1] * ndim
    shape[0], shape[axis] = values.shape
    return values.view(shape)


class Affine(Operation):
    """What norms share: a weight and a bias for each neuron behind them."""

    weight: str | None
    bias: str | None
    tensor_fields: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def affine(self, x: Tensor, axis: int, weights: Mapping[str, Tensor]) -> Tensor:
        """γ x + β along an axis, where there are any."""
        if self.weight is not None:
            x = x * along(weights[self.weight], axis, x.ndim)
        return x if self.bias is None else x + along(weights[self.bias], axis, x.ndim)

    def after(self, ledger: Ledger, x: Wires, axis: int, neurons: Tensor, roles: Tensor) -> Wires:
        """The norm's output, whose scales start at γ and β; nobody's entries have those of their place."""
        for tensor in (self.weight, self.bias):
            ledger.owns(tensor, (0,), neurons, roles)
        scales = torch.full_like(neurons, ONE)
        if self.weight is not None:
            scales = ledger.new_scales(len(neurons))
            for tensor in (self.weight, self.bias):
                ledger.follows(tensor, (0,), scales, 1)
        shape = [1] * x.neuron.ndim
        shape[axis] = -1
        place = torch.where(neurons == NOBODY, torch.arange(len(neurons)), -1)
        neuron, scale, place = (side.view(shape).expand(x.neuron.shape) for side in (neurons, scales, place))
        return Wires(neuron, mix(x.label, place, ledger.number), scale)


@dataclass(frozen=True)
class BatchNorm(Affine):
    """γ (x − mean) / √(var + ε) + β with running statistics, over axis 1.

    ``holds`` says what the variance's tensor holds: ``"variance"``; ``"shifted"``, var + ε, which scales as a whole and
    stays positive; or ``"logarithm"``, log(var + ε), for which any number will do.
    """

    mean: str = ""
    variance: str = ""
    weight: str | None = None
    bias: str | None = None
    epsilon: float = 1e-5
    holds: str = "variance"

    kind: ClassVar[str] = "batch_norm"
    tensor_fields: ClassVar[tuple[str, ...]] = ("weight", "bias", "mean", "variance")
    statistic_fields: ClassVar[tuple[str, ...]] = ("mean", "variance")

    @property
    def shift(self) -> float:
        """What is added to the variance's tensor."""
        return self.epsilon if self.holds == "variance" else 0.0

    def held(self, variance: Tensor) -> Tensor:
        """What the variance's tensor holds for a variance."""
        if self.holds == "variance":
            return variance
        return (variance + self.epsilon).log() if self.holds == "logarithm" else variance + self.epsilon

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """As a module in evaluation mode."""
        (x,) = inputs
        variance = weights[self.variance]
        factor = (-variance / 2).exp() if self.holds == "logarithm" else (variance + self.shift).rsqrt()
        if self.weight is not None:
            factor = factor * weights[self.weight]
        x = (x - along(weights[self.mean], 2, x.ndim)) * along(factor, 2, x.ndim)
        return x if self.bias is None else x + along(weights[self.bias], 2, x.ndim)

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Ends the input's scales in its statistics (mean × s, var + ε × s²), and the sign of s in γ."""
        (x,) = inputs
        neurons, roles, scales = ledger.read(x, 1)
        for tensor in (self.mean, self.variance):
            ledger.owns(tensor, (0,), neurons, roles)
        ledger.follows(self.mean, (0,), scales, 1)
        if self.holds == "logarithm":
            ledger.end(scales)  # Factors of variances are summands of their logarithms.
        else:
            ledger.follows(self.variance, (0,), scales, 2, shift=self.shift)
        if self.weight is None:
            ledger.restrict(scales, "positive")
        else:
            ledger.follows(self.weight, (0,), scales, 0)
        return self.after(ledger, x, 1, neurons, roles)


class FeatureNorm(Affine):
    """A norm over the last axis of every position."""

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """All features are one set; none may be rescaled."""
        (x,) = inputs
        neurons, roles, scales = ledger.read(x, -1)
        ledger.end(scales)
        ledger.sets(Wires(neurons, roles, scales), (0,))
        x = replace(x, label=mix(x.label, mix(x.label).sum(-1, keepdim=True)))
        return self.after(ledger, x, x.neuron.ndim - 1, neurons, roles)


@dataclass(frozen=True)
class LayerNorm(FeatureNorm):
    """γ (x − mean) / √(var + ε) + β, moments over the last axis of every position."""

    weight: str | None = None
    bias: str | None = None
    epsilon: float = 1e-5

    kind: ClassVar[str] = "layer_norm"

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Over the last axis."""
        normal = functional.layer_norm(inputs[0], inputs[0].shape[-1:], eps=self.epsilon)
        return self.affine(normal, normal.ndim - 1, weights)


@dataclass(frozen=True)
class RMSNorm(FeatureNorm):
    """γ x / √(mean of x² + ε) over the last axis of every position."""

    weight: str | None = None
    bias: str | None = None
    epsilon: float | None = None

    kind: ClassVar[str] = "rms_norm"

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Over the last axis."""
        normal = functional.rms_norm(inputs[0], inputs[0].shape[-1:], eps=self.epsilon)
        return self.affine(normal, normal.ndim - 1, weights)


@dataclass(frozen=True)
class GroupNorm(Affine):
    """γ (x − mean) / √(var + ε) + β, moments over each of ``groups`` parts of axis 1 and all positions."""

    weight: str | None = None
    bias: str | None = None
    groups: int = 1
    epsilon: float = 1e-5

    kind: ClassVar[str] = "group_norm"

    def run(self, weights: Mapping[str, Tensor], inputs: Sequence[Tensor], examples: int) -> Tensor:
        """Over channels of a group and positions."""
        (x,) = inputs
        normal = functional.group_norm(x.flatten(0, 1), self.groups, eps=self.epsilon).view(x.shape)
        return self.affine(normal, 2, weights)

    def wire(self, ledger: Ledger, inputs: Sequence[Wires]) -> Wires:
        """Channels of one group are a set; none may be rescaled."""
        (x,) = inputs
        neurons, roles, scales = ledger.read(x, 1)
        ledger.end(scales)
        members = len(neurons) // self.groups
        found = ledger.together(Wires(neurons, roles, scales).move(lambda side: side.view(self.groups, members)), (1,))
        # Inputs and constants of a group depend on its neurons, each by its place there.
        place = torch.where(neurons == NOBODY, torch.arange(len(neurons)) % members, -1)
        neurons, roles = found.neuron.reshape(-1), mix(found.label.reshape(-1), place)
        label = mix(x.label, roles.view(1, -1, *(1 for _ in x.neuron.shape[2:])))
        return self.after(ledger, replace(x, label=label), 1, neurons, roles)
