"""Unit spheres for geoopt, with formulas that stay accurate in float32 near coincident and antipodal points."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.config import quiet_import

with quiet_import():
    import geoopt

__all__ = ["StableSphere"]


class StableSphere(geoopt.Sphere):  # type: ignore[misc]  # geoopt has no types
    """geoopt's sphere S^{d-1} ⊂ R^d over the last axis, whose distance does not go through ``acos``.

    ``acos`` loses half of the digits near ±1 and returns NaN past them; ``atan2`` of the chord and its complement does
    neither (Kahan 2006, "How futile are mindless assessments of roundoff", section 12).
    """

    name = "StableSphere"

    def projx(self, x: Tensor) -> Tensor:
        """x / ‖x‖, the nearest point; the zero vector, to which all points are equally near, stays as it is."""
        norm = x.norm(dim=-1, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """Angle between unit vectors, 2 atan2(‖x − y‖, ‖x + y‖), in [0, π]."""
        chord = (x - y).norm(dim=-1, keepdim=keepdim)
        complement = (x + y).norm(dim=-1, keepdim=keepdim)
        return 2 * torch.atan2(chord, complement)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """exp_x(u) = cos‖u‖ x + sinc‖u‖ u, smooth at u = 0, re-projected on the sphere."""
        norm = u.norm(dim=-1, keepdim=True)
        return self.projx(torch.cos(norm) * x + torch.sinc(norm / torch.pi) * u)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The tangent vector at x of length dist(x, y) that points to y.

        For antipodal points, where every direction is right, one orthogonal to x is chosen. Towards the zero vector, which
        stands for a neuron without a direction, it is zero: paths stay where they are.
        """
        # ⟨x, x⟩ is one only up to rounding, so a single projection leaves a radial rest that antipodes would blow up.
        direction: Tensor = self.proju(x, self.proju(x, y - x))
        length = direction.norm(dim=-1, keepdim=True)
        angle = self.dist(x, y, keepdim=True)
        tiny = torch.finfo(x.dtype).eps
        lost = (length < 16 * tiny) & (angle > 1)
        if bool(lost.any()):
            axis = torch.nn.functional.one_hot(x.abs().argmin(-1), x.shape[-1]).to(x.dtype)
            direction = torch.where(lost, self.proju(x, axis), direction)
            direction = torch.where(lost & (angle < 2), torch.zeros_like(direction), direction)  # π/2 from the zero vector
            length = direction.norm(dim=-1, keepdim=True)
        return direction * torch.where(length < tiny, torch.ones_like(length), angle / length.clamp_min(tiny))

    def geodesic_point(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """exp_x(t log_x(y)) by spherical interpolation: (sin((1−t)Ω) x + sin(tΩ) y) / sin Ω.

        Args:
            x: Start points (..., d).
            y: End points (..., d).
            t: Times, broadcastable against (..., 1).

        Returns:
            Points (..., d).
        """
        angle = self.dist(x, y, keepdim=True)
        point = sine_ratio(1 - t, angle) * x + sine_ratio(t, angle) * y
        opposite = antipodal(angle)
        if bool(opposite.any()):  # both weights are infinite there; any great circle is a geodesic
            point = torch.where(opposite, self.expmap(x, t * self.logmap(x, y)), point)
        return self.projx(point)

    def geodesic_velocity(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """d/dt of :meth:`geodesic_point`: Ω (cos(tΩ) y − cos((1−t)Ω) x) / sin Ω.

        Equals log_{x_t}(y) / (1 − t), but loses no digits as t → 1.
        """
        angle = self.dist(x, y, keepdim=True)
        scale = 1 / torch.sinc(angle / torch.pi)
        velocity = scale * (torch.cos(t * angle) * y - torch.cos((1 - t) * angle) * x)
        opposite = antipodal(angle)
        if bool(opposite.any()):
            direction = self.logmap(x, y) / angle
            turned = angle * (torch.cos(t * angle) * direction - torch.sin(t * angle) * x)
            velocity = torch.where(opposite, turned, velocity)
        tangent: Tensor = self.proju(self.geodesic_point(x, y, t), velocity)
        return tangent


def antipodal(angle: Tensor) -> Tensor:
    """Where sin Ω has no correct digit left."""
    return torch.pi - angle < 16 * torch.finfo(angle.dtype).eps


def sine_ratio(t: Tensor, angle: Tensor) -> Tensor:
    """sin(tΩ) / sin Ω, which tends to t as Ω → 0."""
    return t * torch.sinc(t * angle / torch.pi) / torch.sinc(angle / torch.pi)
