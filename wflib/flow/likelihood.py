"""Likelihood of points under a flow: the change of density along its trajectories (thesis, section 3.4).

    log p_1(x_1) = log p_0(x_0) − ∫_0^1 div u_t(x_t) dt,   x_0 the start that the flow carries to x_1

integrated from x_1 back to x_0. On the manifold the divergence is the intrinsic one, the trace of P J P with P the
projection on the tangent space and J the Jacobian of u_t; densities are with respect to the Riemannian volume. The trace is
exact, one directional derivative for each coordinate, or Hutchinson's unbiased estimate zᵀ P J P z with E[z zᵀ] = I and z
drawn once for a whole trajectory. For Rademacher z and A = P J P its variance is Σ_{i≠j} A_ij (A_ij + A_ji); for Gaussian z,
with the diagonal, Σ_ij A_ij (A_ij + A_ji). Where deviations σ of coordinates differ, A_ij is of the size σ_i / σ_j, so the
estimate is taken of D⁻¹ A D instead, D = diag(σ), which has the same trace.

The equation holds for velocities that are continuous: a derivative does not count jumps, and what flows apart or together at
them would be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.flow.fields import Asked, Field
from wflib.flow.flow import Flow
from wflib.flow.geometry import Geometry, Normalized, Space
from wflib.flow.prior import Prior
from wflib.flow.solvers import SOLVERS, Velocity, adaptive, require_solver
from wflib.networks import require_finite

__all__ = ["divergence", "draw_probes", "log_likelihood", "require_density"]


def draw_probes(x: Tensor, count: int, generator: torch.Generator, kind: str = "rademacher") -> Tensor:
    """Random vectors with E[z zᵀ] = I for Hutchinson's estimate.

    Args:
        x: Points, (batch, D).
        count: Probes of each.
        generator: Draws them.
        kind: ``rademacher`` (entries ±1, the smaller variance) or ``gaussian``.

    Returns:
        (count, batch, D).

    Raises:
        ValueError: Unknown kind, or no probes.
    """
    if count < 1:
        raise ValueError(f"probes: expected at least one, or none for the exact divergence, got {count}.")
    shape, device = (count, *x.shape), generator.device
    if kind == "rademacher":
        return (2 * torch.randint(2, shape, generator=generator, device=device) - 1).to(x)
    if kind == "gaussian":
        return torch.randn(shape, generator=generator, device=device, dtype=x.dtype).to(x)
    raise ValueError(f"probes: expected rademacher or gaussian, got {kind!r}.")


def divergence(
    velocity: Velocity,
    geometry: Geometry,
    x: Tensor,
    t: Tensor,
    probes: Tensor | None = None,
    chunk: int = 64,
    width: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """u_t(x) and its divergence, by forward-mode differentiation.

    The divergence at x alone: where a velocity jumps (:func:`require_density`), its integral leaves out the jumps.

    Args:
        velocity: u_t(x).
        geometry: Gives the tangent spaces.
        x: (batch, D).
        t: (batch,).
        probes: (count, batch, D) for the mean of Hutchinson's estimates; None for the exact trace.
        chunk: Directions differentiated at a time, which bounds memory.
        width: σ, the usual size of each coordinate, the same one for all coordinates of a sphere, (D,); None for ones. The
            trace does not depend on it, the variance of its estimate does.

    Returns:
        (batch, D) and (batch,).
    """

    def along(direction: Tensor) -> tuple[Tensor, Tensor]:
        """u and ⟨D⁻¹ P z, J D P z⟩."""
        tangent = geometry.tangent(x, direction)
        stretched, shrunk = (tangent, tangent) if width is None else (tangent * width, tangent / width)
        value, change = torch.func.jvp(lambda point: velocity(point, t), (x,), (stretched,))[:2]
        return value, (shrunk * change).sum(-1)

    if probes is not None:
        values, traces = zip(*(along(probe) for probe in probes), strict=True)
        return values[0], torch.stack(traces).mean(0)
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    # With P symmetric and P² = P the trace of P J P is the sum over the ambient basis of ⟨P e_i, J P e_i⟩.
    parts = [
        torch.func.vmap(lambda row: along(row)[1])(rows[:, None].expand(-1, *x.shape)).sum(0) for rows in basis.split(chunk)
    ]
    return velocity(x, t), torch.stack(parts).sum(0)


@dataclass(frozen=True)
class WithLogDensity(Space):
    """A geometry whose points have one more, flat coordinate: the log-density gathered so far. (batch, D + 1)."""

    geometry: Geometry

    def step(self, x: Tensor, tangent: Tensor) -> Tensor:
        """Follow a tangent vector, and add up its last entry."""
        return torch.cat([self.geometry.step(x[:, :-1], tangent[:, :-1]), x[:, -1:] + tangent[:, -1:]], 1)

    def nearby(self, x: Tensor, vector: Tensor) -> Tensor:
        """Put x + vector where points lie, and add up its last entry."""
        return torch.cat([self.geometry.nearby(x[:, :-1], vector[:, :-1]), x[:, -1:] + vector[:, -1:]], 1)

    def tangent(self, x: Tensor, vector: Tensor) -> Tensor:
        """Project all but the last entry."""
        return torch.cat([self.geometry.tangent(x[:, :-1], vector[:, :-1]), vector[:, -1:]], 1)


def require_density(field: Field) -> None:
    """Refuse flows of which the equation above says no density.

    Args:
        field: A flow, one that is asked for something, or another field with a geometry.

    Raises:
        ValueError: The flow leaves the manifold between its ends, or it sees a gradient that jumps.
    """
    if isinstance(field.geometry, Normalized):
        raise ValueError(
            "log_likelihood: the normalized flow runs along chords, which leave the manifold of normalized weights, and "
            "puts its end points back by a projection: it has no density there. Use flow.geometry: geometric or euclidean."
        )
    flow = field.flow if isinstance(field, Asked) else field
    if isinstance(flow, Flow) and flow.loss_gradient is not None and (jumps := flow.loss_gradient.kinks):
        raise ValueError(
            "log_likelihood: expected a continuous velocity, as densities follow from its derivative, which misses jumps. "
            f"This flow sees the loss' gradient of networks with {', '.join(jumps)}, which jumps: it has no density that "
            "can be computed. Use velocity.gradient_examples: 0, or networks without such operations (means in the place of "
            "maxima, ReLUs or smooth activations)."
        )


@torch.no_grad()
def log_likelihood(
    field: Field,
    prior: Prior | Callable[[Tensor], Tensor],
    x_1: Tensor,
    steps: int = 64,
    solver: str = "heun",
    probes: Tensor | None = None,
    end: float = 1.0,
) -> Tensor:
    """log p_1 of points, in nats.

    Args:
        field: A flow (``prior`` is its ``start``, then), or another field with a geometry.
        prior: The base density: a prior, or log p_0 as a function (batch, D) → (batch,).
        x_1: Points where the flow ends, (batch, D).
        steps: Steps of the solver.
        solver: See :mod:`wflib.flow.solvers`.
        probes: From :func:`draw_probes`, for Hutchinson's estimate; None for the exact divergence, D derivatives a step.
        end: The time that the points are taken to belong to. A trained flow has seen no later time than 0.99: at that
            ``end`` nothing is extrapolated, and the density is that of networks blurred by a hundredth of the prior.

    Returns:
        (batch,).

    Raises:
        ValueError: The flow has no density (:func:`require_density`); ``steps`` is below one; or some point is not finite,
            or so far away that its density is not.
    """
    require_finite({"points": x_1}, "log_likelihood", "leave those out")
    if steps < 1:
        raise ValueError(f"log_likelihood: steps must be at least 1, got {steps}.")
    require_density(field)
    geometry = field.geometry
    base = prior.log_density if isinstance(prior, Prior) else prior
    width = prior.width.to(x_1) if isinstance(prior, Prior) and probes is not None else None

    def velocity(state: Tensor, t: Tensor) -> Tensor:
        found, trace = divergence(field.velocity, geometry, state[:, :-1], t, probes, width=width)
        return torch.cat([found, trace[:, None]], 1)

    require_solver(solver, geometry, "dopri5")
    state = torch.cat([x_1, x_1.new_zeros(len(x_1), 1)], 1)
    if solver == "dopri5":
        state = adaptive(velocity, state, torch.tensor([end, 0.0], device=x_1.device))[-1]
    else:
        step, h = SOLVERS[solver], end / steps
        for index in range(steps):
            t = state.new_full((len(state),), end - index * h)
            state = step(velocity, WithLogDensity(geometry), state, t, -h)
    found = base(state[:, :-1]) + state[:, -1]
    if lost := int(found.isnan().sum()):
        raise ValueError(
            f"log_likelihood: expected finite numbers, found NaN for {lost} of {len(found)} points, of values up to "
            f"{x_1.abs().max().item():.3g}; leave out points so far from the flow's own, or take more steps."
        )
    return found
