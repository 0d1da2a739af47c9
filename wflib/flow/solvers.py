"""Solvers of d x / d t = u_t(x): one step of each, from which any number of steps is made.

| solver | step | evaluations | order | spaces |
|---|---|---|---|---|
| ``euler`` | x ← exp_x(h v), v = u_t(x) | 1 | 1 | all |
| ``heun`` | x ← exp_x(h/2 (v + P_x w)), w = u_{t+h}(exp_x(h v)) | 2 | 2 | all |
| ``rk4`` | the classical Runge–Kutta method, each point put back where it must lie | 4 | 4 | all |
| ``multistep`` | extrapolates from the step before, see :mod:`wflib.flow.multistep` | 1 | 2 | all |
| ``dopri5`` | Dormand and Prince's adaptive pair, by torchdiffeq | adaptive | 5 | flat |

In flat space exp_x(v) = x + v and P_x, the projection on the tangent space at x, does nothing. On spheres P_x w differs from
the parallel transport of w by O(h²), so that a step of ``heun`` is off by O(h³) as it must be.

On spheres ``rk4`` follows the field x ↦ u_t(x / |x|) of the space around them. It is smooth near the sphere and tangent on
it, so that a solution that starts on the sphere stays there and is the flow's own. Velocities of different points are
vectors of that space and may be added, and putting the end back moves it by no more than the step is off, O(h⁵) (Hairer,
Lubich and Wanner, "Geometric Numerical Integration" (2006), section IV.4).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wflib.flow.geometry import Geometry, Space

__all__ = ["EVALUATIONS", "SOLVERS", "Velocity", "adaptive", "require_solver"]

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x (batch, D), t (batch,)) → u_t(x), (batch, D)."""

TOLERANCE = 1e-5
MOST_EVALUATIONS = 1000
"""Of the velocity in one adaptive solution: twenty times what a trained flow takes."""
REMEDY = "the velocity is too steep for its tolerance: lower the guidance, or choose solver: heun or euler with more steps"


def euler(velocity: Velocity, geometry: Space, x: Tensor, t: Tensor, h: float) -> Tensor:
    """One step of order one."""
    return geometry.step(x, h * velocity(x, t))


def heun(velocity: Velocity, geometry: Space, x: Tensor, t: Tensor, h: float) -> Tensor:
    """One step of order two."""
    v = velocity(x, t)
    w = velocity(geometry.step(x, h * v), t + h)
    return geometry.step(x, h / 2 * (v + geometry.tangent(x, w)))


def rk4(velocity: Velocity, geometry: Space, x: Tensor, t: Tensor, h: float) -> Tensor:
    """One step of order four."""
    k_1 = velocity(x, t)
    k_2 = velocity(geometry.nearby(x, h / 2 * k_1), t + h / 2)
    k_3 = velocity(geometry.nearby(x, h / 2 * k_2), t + h / 2)
    k_4 = velocity(geometry.nearby(x, h * k_3), t + h)
    return geometry.nearby(x, h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4))


SOLVERS = {"euler": euler, "heun": heun, "rk4": rk4}
EVALUATIONS = {"euler": 1, "multistep": 1, "heun": 2, "rk4": 4}
"""Evaluations of the velocity in one step."""


def require_solver(name: str, geometry: Geometry, *others: str) -> None:
    """Refuse what is neither one of ``SOLVERS`` nor of the others, whose steps are no functions of one point.

    Raises:
        ValueError: The solver does not exist, or leaves the manifold of a curved geometry.
    """
    if name not in (*SOLVERS, *others):
        raise ValueError(f"solver: expected one of {', '.join((*SOLVERS, *others))}, got {name!r}.")
    if geometry.curved and name == "dopri5":
        raise ValueError(
            f"solver: {name} takes steps in flat space and would leave the manifold; choose rk4, heun or euler for the "
            "geometric flow."
        )


def adaptive(velocity: Velocity, x: Tensor, times: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Dormand–Prince steps as long as the error estimate allows.

    Args:
        velocity: u_t(x).
        x: Points at the first time, (batch, D).
        times: When points are wanted, (K + 1,), rising or falling.
        tolerance: Absolute and relative, of the root mean square over the batch.

    Returns:
        (K + 1, batch, D).

    Raises:
        ValueError: The error estimate asks for more than ``MOST_EVALUATIONS``, or for steps too short for a float.
    """
    from torchdiffeq import odeint

    evaluations = 0

    def field(t: Tensor, state: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        if evaluations > MOST_EVALUATIONS:
            raise ValueError(f"solver: dopri5 took {MOST_EVALUATIONS} evaluations and got to t = {t:.4g}; {REMEDY}.")
        return velocity(state, t.to(state).expand(len(state)))

    options = {"dtype": torch.float64}
    try:
        found: Tensor = odeint(field, x, times.double(), rtol=tolerance, atol=tolerance, method="dopri5", options=options)
    except AssertionError as error:  # how torchdiffeq says that no step is short enough, or that points ran to NaN
        said = str(error).split(":")[0]
        raise ValueError(f"solver: dopri5 found no step short enough ({said}); {REMEDY}.") from error
    return found
