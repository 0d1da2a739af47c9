"""Steps of order two at one evaluation each, in coordinates where a flow's Gaussian model stands still.

Most of what a flow does to weights is noise that it turns into other noise, which its preconditioner knows in closed form
(:class:`~wflib.velocity.preconditioning.Frame`: x = m + c z, dz = F dφ). Steps of any length are exact for that part; what
a network adds, F, is extrapolated from the step before, as of Adams and Bashforth with steps of unequal length:

    F_k = (v_k − m_k' − c_k' / c_k (x_k − m_k)) / (c_k φ_k')
    F̄   = F_k + (t_{k+1} − t_k) / (2 (t_k − t_{k−1})) (F_k − P_x F_{k−1})
    x_{k+1} = exp_x(m_{k+1} − m_k + (c_{k+1} / c_k − 1) (x_k − m_k) + c_{k+1} (φ_{k+1} − φ_k) F̄)

The first step has no step before it, and is of order one. On spheres, where a Gaussian model says nothing of the way, and
for fields without one, z = x and φ = t: F is the velocity, exp_x the geometry's step and P_x its tangent projection, which
differs from parallel transport by O(h²). After the multistep solvers of diffusion models (Lu et al., "DPM-Solver++", 2022;
Zhang and Chen, "Fast sampling of diffusion models with exponential integrator", 2023).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wflib.flow.geometry import Geometry
from wflib.velocity.preconditioning import Frame

__all__ = ["Multistep", "as_it_is"]


def as_it_is(x: Tensor) -> Callable[[float], Frame]:
    """Frames of a field without a Gaussian model: z = x, φ = t."""
    zero, one = torch.zeros_like(x[0]), torch.ones_like(x[0])
    return lambda t: Frame(zero, zero, one, zero, zero + t, one)


class Multistep:
    """A solver that remembers the step before; one for every way from t = 0 to t = 1.

    Args:
        geometry: Where the field runs.
        frame: t → where the field's Gaussian model stands still.
        extrapolates: Whether steps look at the one before, False where something else moves x between steps: what that
            does to F would be taken for F's own change. All steps are of order one then.
    """

    def __init__(self, geometry: Geometry, frame: Callable[[float], Frame], extrapolates: bool = True) -> None:
        self.geometry, self.frame, self.extrapolates = geometry, frame, extrapolates
        self.before: tuple[float, Tensor] | None = None

    def step(self, velocity: Tensor, x: Tensor, t: float, h: float) -> Tensor:
        """The tangent vector by which x moves from t to t + h.

        Args:
            velocity: u_t(x), (batch, D).
            x: (batch, D).
            t: Where the step begins.
            h: Its length.

        Returns:
            (batch, D), for the geometry's ``step``.
        """
        here, there = self.frame(t), self.frame(t + h)
        centred = x - here.mean
        turned = (velocity - here.drift - here.growth * centred) / (here.deviation * here.pace)
        ahead = turned
        if self.extrapolates and self.before is not None:
            earlier, last = self.before
            ahead = turned + h / (2 * (t - earlier)) * (turned - self.geometry.tangent(x, last))
        self.before = t, turned
        still = there.mean - here.mean + (there.deviation / here.deviation - 1) * centred
        return still + there.deviation * (there.phase - here.phase) * ahead
