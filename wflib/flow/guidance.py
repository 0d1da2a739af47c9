"""Guidance: descend an objective while sampling (thesis, section 6.5.1).

It adds −λ(t) ∇_x L to the velocity, with L taken at x_t as in the thesis, or at the prediction x̂_1(x_t), through which it is
then differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from wflib.flow.flow import Flow
from wflib.networks import Networks, network_losses
from wflib.tasks import Split

__all__ = ["SCHEDULES", "Guidance", "Objective", "TaskLoss"]

SCHEDULES: dict[str, Callable[[Tensor], Tensor]] = {
    "constant": torch.ones_like,
    "rising": lambda t: t,
    "falling": lambda t: 1 - t,
}
"""λ(t) / λ by name; early points are mostly noise, and a falling strength leaves the end to the flow."""


class Objective(Protocol):
    """What guidance lowers: differentiable in the weights, one number for each network."""

    def __call__(self, networks: Networks) -> Tensor:
        """One number for each, (networks,)."""
        ...


class TaskLoss:
    """Mean loss on mini-batches of a task's training part, the default objective.

    Args:
        split: Training examples; never validation or test data.
        batch_size: Examples of each evaluation.
        generator: Draws mini-batches.

    Raises:
        ValueError: No examples in a batch.
    """

    def __init__(self, split: Split, batch_size: int, generator: torch.Generator) -> None:
        if batch_size < 1:
            raise ValueError(f"TaskLoss: batch_size expected at least one example, got {batch_size}.")
        self.split, self.generator = split, generator
        self.batch_size = min(batch_size, len(split.inputs))

    def __call__(self, networks: Networks) -> Tensor:
        """Every network's loss on the next mini-batch, (networks,)."""
        self.split = self.split.to(networks.device)
        return network_losses(networks, self.split.some(self.batch_size, self.generator))


class Guidance:
    """The extra velocity −λ(t) ∇_x L(x), L an objective of the networks at x_t or at x̂_1(x_t).

    The gradient is taken through the decoding of coordinates, so it is laid out as x is, in whatever basis. On the manifold
    solvers project it on the tangent space.

    Args:
        flow: Gives the coordinates, and the prediction.
        objective: What to lower: ``TaskLoss``, or any differentiable function of networks.
        strength: λ ≥ 0.
        schedule: λ(t) / λ: ``constant``, ``rising``, ``falling``, or a function of times (batch,).
        point: ``x_t`` or ``end-point``; of a conditioned flow that is its prediction for no figure in particular.

    Raises:
        ValueError: Unknown schedule or point, or a strength that is not finite.
    """

    def __init__(
        self,
        flow: Flow,
        objective: Objective,
        strength: float,
        schedule: str | Callable[[Tensor], Tensor] = "constant",
        point: str = "x_t",
    ) -> None:
        if not math.isfinite(strength):
            raise ValueError(f"Guidance: strength expected a finite number, got {strength}.")
        if isinstance(schedule, str) and schedule not in SCHEDULES:
            raise ValueError(f"Guidance: schedule must be a function or one of {', '.join(SCHEDULES)}, got {schedule!r}.")
        if point not in ("x_t", "end-point"):
            raise ValueError(f"Guidance: point must be x_t or end-point, got {point!r}.")
        if point == "end-point" and flow.config.path != "straight":
            raise ValueError(
                f"Guidance: point end-point needs paths towards it, and flow.path is {flow.config.path}; choose x_t."
            )
        self.flow, self.objective, self.strength, self.point = flow, objective, strength, point
        self.schedule = SCHEDULES[schedule] if isinstance(schedule, str) else schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The extra velocity at x_t, (batch, D)."""
        return -self.strength * self.schedule(t)[:, None] * self.gradient(x_t, t)

    def gradient(self, x_t: Tensor, t: Tensor) -> Tensor:
        """∇_x of each network's objective, (batch, D)."""
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            end = self.flow.predict(x, t)[0] if self.point == "end-point" else x
            values = self.objective(self.flow.coordinates.decode_state(end))
            if values.shape != (len(x),):
                raise ValueError(
                    f"Guidance: expected an objective of one number for each of {len(x)} networks, got shape "
                    f"{tuple(values.shape)}; average over examples, not over networks."
                )
            return torch.autograd.grad(values.sum(), x)[0]
