"""Choosing where a flow starts: gradients through the solver (Ben-Hamu et al., "D-Flow", 2024; thesis, section 8.1.3).

Guidance bends the way, this moves its beginning: x_0 is changed so that the x_1 to which the flow carries it minimises an
objective L. With Φ the composition of all solver steps,

    ∇_{x_0} L(Φ(x_0)) = J_Φ(x_0)ᵀ ∇ L(x_1),

by reverse-mode differentiation, each step computed again on the way back so that memory does not grow with their number. As
Φ moves along what the flow has learned, x_1 stays a draw of the flow from some x_0, if from an unlikely one; a weight on
−log p_0(x_0) keeps it likely.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from wflib.flow.fields import Field
from wflib.flow.prior import Prior
from wflib.flow.solvers import SOLVERS

__all__ = ["OptimizedStart", "carried", "optimize_start"]


@dataclass(frozen=True)
class OptimizedStart:
    """What :func:`optimize_start` returns.

    Attributes:
        x_0: The best starting points seen, (batch, D).
        x_1: Where the flow carries them, (batch, D).
        losses: L(x_1) before each iteration and at the end, (iterations + 1, batch).
    """

    x_0: Tensor
    x_1: Tensor
    losses: Tensor


class RecomputedStep(torch.autograd.Function):
    """x → step(x), computed again for its gradient; networks that see gradients themselves allow no hooks that would."""

    apply: ClassVar[Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]]

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
        """The step, of which only x is kept."""
        ctx.save_for_backward(x)
        ctx.step = step
        with torch.no_grad():
            return step(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Jᵀ gradient."""
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (found,) = torch.autograd.grad(ctx.step(point), point, gradient)
        return found, None


def carried(field: Field, x_0: Tensor, steps: int, solver: str = "euler") -> Tensor:
    """Φ(x_0): as :func:`~wflib.flow.integrate`, differentiable in x_0.

    Args:
        field: A trained flow, or another field with a geometry and a velocity.
        x_0: Starting points, (batch, D).
        steps: K equal steps, at least one.
        solver: ``euler``, ``heun`` or ``rk4``.

    Returns:
        x_1, (batch, D).

    Raises:
        ValueError: No steps, or another solver.
    """
    if steps < 1:
        raise ValueError(f"carried: steps must be at least 1, got {steps}.")
    if solver not in SOLVERS:
        raise ValueError(f"carried: expected a solver of fixed steps, {', '.join(SOLVERS)}, got {solver!r}.")
    geometry, step, x = field.geometry, SOLVERS[solver], x_0
    for index in range(steps):
        t = x_0.new_full((len(x_0),), index / steps)

        def onwards(point: Tensor, t: Tensor = t) -> Tensor:
            return step(field.velocity, geometry, point, t, 1 / steps)

        x = RecomputedStep.apply(x, onwards)
    return geometry.project_prediction(x)


def optimize_start(
    field: Field,
    objective: Callable[[Tensor], Tensor],
    x_0: Tensor,
    steps: int,
    iterations: int,
    learning_rate: float,
    prior: Prior | None = None,
    prior_weight: float = 0.0,
    solver: str = "euler",
) -> OptimizedStart:
    """Adam on x_0 ↦ L(Φ(x_0)) − w log p_0(x_0) / D, every point by itself.

    Args:
        field: A trained flow, or another field.
        objective: x_1 (batch, D) → L of each point, (batch,), differentiable; of a flow's networks it is
            ``lambda x: loss(flow.coordinates.decode_state(x))``.
        x_0: Where to begin, draws from the prior, (batch, D).
        steps: Solver steps.
        iterations: Gradients taken; 0 leaves x_0 as it is.
        learning_rate: Adam's.
        prior: p_0, which also says where x_0 must lie; None for flat space without a preference.
        prior_weight: w ≥ 0.
        solver: Of fixed steps.

    Returns:
        For each point the x_0 of the lowest sum, its x_1, and all losses.

    Raises:
        ValueError: A weight without a prior, negative iterations, an objective of another shape, or one that is NaN or
            infinite for some point in all iterations.
    """
    if iterations < 0 or not math.isfinite(learning_rate):
        raise ValueError(
            f"optimize_start: expected iterations of at least 0 and a finite rate, got {iterations}, {learning_rate}."
        )
    if prior_weight != 0 and prior is None:
        raise ValueError("optimize_start: prior_weight needs a prior.")
    point = x_0.detach().clone().requires_grad_()
    optimizer, losses = torch.optim.Adam([point], lr=learning_rate), []
    lowest = x_0.new_full((len(x_0),), math.inf)
    best_0, best_1 = x_0.detach().clone(), torch.empty_like(x_0)
    for iteration in range(iterations + 1):
        with torch.enable_grad():
            x_1 = carried(field, point, steps, solver)
            loss = objective(x_1)
            if loss.shape != (len(x_0),):
                raise ValueError(
                    f"optimize_start: expected an objective of one number for each of {len(x_0)} points, got shape "
                    f"{tuple(loss.shape)}."
                )
            total = loss
            if prior is not None and prior_weight != 0:
                total = loss - prior_weight * prior.log_density(point) / x_0.shape[1]
        better = total.detach() < lowest
        lowest = torch.where(better, total.detach(), lowest)
        best_0[better], best_1[better] = point.detach()[better], x_1.detach()[better]
        losses.append(loss.detach())
        lost = lowest.isposinf()
        if iteration < iterations:
            (gradient,) = torch.autograd.grad(total.sum(), point)
            lost &= ~gradient.isfinite().all(1)  # a finite step may lead to where the objective is finite
        if lost.any():
            raise ValueError(
                f"optimize_start: expected an objective that is finite, it was NaN or infinite for {int(lost.sum())} of "
                f"{len(x_0)} points (the first: {int(lost.nonzero()[0])}) whenever it was taken; leave out these starting "
                "points, or choose an objective that is finite where the flow carries them."
            )
        if iteration < iterations:
            point.grad = field.geometry.tangent(point.detach(), gradient)
            optimizer.step()
            if prior is not None:
                with torch.no_grad():
                    point.copy_(prior.manifold.projx(point))
    return OptimizedStart(best_0, best_1, torch.stack(losses))
