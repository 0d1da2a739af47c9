"""Velocity fields that solvers follow: a flow itself, or one that is told more than (x, t), as functions of (x, t) alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wflib.flow.flow import Flow
from wflib.flow.geometry import Geometry

__all__ = ["Asked", "Field"]


class Field(Protocol):
    """What is integrated: a flow, the view of one below, or a field in closed form."""

    @property
    def geometry(self) -> Geometry:
        """Where the field runs."""
        ...

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """u_t(x), (batch, D)."""
        ...


@dataclass(frozen=True)
class Asked:
    """The field of a flow that is asked for a figure, with classifier-free guidance, or for steps of one length.

    Attributes:
        flow: With a condition, for a figure; distilled, for a span.
        figure: The wished-for loss, accuracy or step: one number for all samples, or one for each of a batch; None for any.
        strength: w ≥ 0.
        span: Length h of every step, over which a distilled flow gives the mean velocity, so that x_{t+h} = exp_x(h v).
    """

    flow: Flow
    figure: float | Tensor | None = None
    strength: float = 0.0
    span: float | None = None

    @property
    def geometry(self) -> Geometry:
        """The flow's."""
        return self.flow.geometry

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """(1 + w) v(x, t | c) − w v(x, t), (batch, D)."""
        span = None if self.span is None else torch.full_like(t, self.span)
        if self.figure is None:
            return self.flow.velocity(x, t, span=span)
        figure = torch.as_tensor(self.figure, device=x.device, dtype=t.dtype).expand(len(x))
        asked = self.flow.velocity(x, t, figure, span)
        if self.strength == 0:
            return asked
        return asked + self.strength * (asked - self.flow.velocity(x, t, span=span))
