"""Velocity fields that solvers follow: a flow itself, or one that is asked for something, as functions of (x, t) alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wflib.flow.flow import Flow
from wflib.flow.geometry import Geometry

__all__ = ["Asked", "Field", "Jumps"]


class Field(Protocol):
    """What is integrated: a flow, one of the views below, or a field in closed form."""

    @property
    def geometry(self) -> Geometry:
        """Where the field runs."""
        ...

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """u_t(x), (batch, D)."""
        ...


@dataclass(frozen=True)
class Asked:
    """The field of a flow that is asked for a figure, with classifier-free guidance.

    Attributes:
        flow: With a condition.
        figure: The wished-for loss or accuracy: one number for all samples, or one for each of a batch.
        strength: w ≥ 0.
    """

    flow: Flow
    figure: float | Tensor
    strength: float = 0.0

    @property
    def geometry(self) -> Geometry:
        """The flow's."""
        return self.flow.geometry

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """(1 + w) v(x, t | c) − w v(x, t), (batch, D)."""
        asked = self.flow.velocity(x, t, torch.as_tensor(self.figure, device=x.device, dtype=t.dtype).expand(len(x)))
        if self.strength == 0:
            return asked
        return asked + self.strength * (asked - self.flow.velocity(x, t))


@dataclass(frozen=True)
class Jumps:
    """The mean velocity of a distilled flow over steps of one length.

    Attributes:
        flow: Distilled: its prediction depends on the length of the step.
        span: Length h of every step, so that x_{t+h} = exp_x(h v).
    """

    flow: Flow
    span: float

    @property
    def geometry(self) -> Geometry:
        """The flow's."""
        return self.flow.geometry

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """v(x, t, h), (batch, D)."""
        return self.flow.velocity(x, t, span=torch.full_like(t, self.span))
