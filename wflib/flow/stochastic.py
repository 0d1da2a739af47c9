"""Stochastic sampling: noise added before steps, and a diffusion that keeps every marginal.

For any g the equation dx = [u_t + (g²/2) ∇log p_t] dt + g dw has the marginals p_t of dx = u_t dt (Song et al. 2021; Albergo
et al. 2023). With an independent Gaussian prior N(μ_0, σ_0²) on straight paths the score follows from the velocity,

    ∇log p_t(x) = (t x̂_1 + (1 − t) μ_0 − x) / ((1 − t)² σ_0²) = (t u_t(x) + μ_0 − x) / ((1 − t) σ_0²).

An Euler–Maruyama step from t to t + h takes G = ∫ g² dt in place of h g² for drift and noise alike. A step can carry no more
than G = (1 − t)² σ_0², whose drift goes half of the way to where x̂_1, held fixed, would have it: a larger one overshoots.
As every g keeps the marginals, G is cut to that, which the shorter a step the later happens; and to zero in the last step,
which lands on x̂_1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wflib.flow.flow import Flow
from wflib.flow.geometry import Geometry
from wflib.flow.guidance import SCHEDULES

__all__ = ["AddedNoise", "Diffusion", "diffusion_of"]

NODES, WEIGHTS = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(8))
"""Gauss–Legendre's, on [−1, 1]."""


def gaussian(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers like x, from the generator's own device."""
    return torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x)


@dataclass(frozen=True)
class AddedNoise:
    """The thesis' way (section 6.5): x ← exp_x(ε P_x z), z ~ N(0, I), before each step whose time lies in an interval.

    It widens what a flow with few steps has shrunk, but keeps no marginal: the added variance depends on the steps.

    Attributes:
        strength: ε ≥ 0.
        generator: Draws z.
        interval: First and last time of steps that are disturbed.
    """

    strength: float
    generator: torch.Generator
    interval: tuple[float, float] = (0.0, 1.0)

    def before(self, geometry: Geometry, x: Tensor, t: float) -> Tensor:
        """The disturbed point, or the same one outside the interval."""
        if not self.interval[0] <= t <= self.interval[1]:
            return x
        return geometry.step(x, geometry.tangent(x, self.strength * gaussian(x, self.generator)))


@dataclass(frozen=True)
class Diffusion:
    """The marginal-preserving equation above; see :func:`diffusion_of`.

    Attributes:
        strength: η ≥ 0; zero is the deterministic flow.
        generator: Draws the noise.
        mean: μ_0, (D,).
        deviation: σ_0, (D,).
        schedule: g²(t) / (η σ_0²) ≥ 0 of times, any shape.
    """

    strength: float
    generator: torch.Generator
    mean: Tensor
    deviation: Tensor
    schedule: Callable[[Tensor], Tensor] = SCHEDULES["falling"]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise ValueError(f"sample.diffusion: expected a finite strength of at least 0, got {self.strength}.")

    def share(self, t: float, h: float) -> float:
        """∫ g² dt / σ_0² from t to t + h, as much of it as a step can carry.

        Raises:
            ValueError: g² is negative, or no number, somewhere.
        """
        rate = self.schedule(t + h * (NODES + 1) / 2)
        if not bool((torch.isfinite(rate) & (rate >= 0)).all()):
            raise ValueError(
                f"sample.diffusion: schedule expected finite numbers of at least 0, got {rate.min().item():.3g} between "
                f"t = {t:.3g} and {t + h:.3g}."
            )
        if t + h > 1 - 1e-9:
            return 0.0
        return min(self.strength * h / 2 * (WEIGHTS * rate).sum().item(), (1 - t) ** 2)

    def step(self, x: Tensor, velocity: Tensor, t: float, h: float) -> Tensor:
        """From x at t, where the flow has a velocity, to t + h, (batch, D)."""
        share, x_next = self.share(t, h), x + h * velocity
        if share == 0:
            return x_next
        score = (t * velocity + self.mean - x) / (1 - t)  # times σ_0²
        spread: float = share**0.5
        return x_next + share / 2 * score + spread * self.deviation * gaussian(x, self.generator)


def diffusion_of(
    flow: Flow, strength: float, generator: torch.Generator, schedule: str | Callable[[Tensor], Tensor] = "falling"
) -> Diffusion:
    """The diffusion with a flow's marginals, g²(t) = η σ_0² · schedule(t).

    Args:
        flow: Euclidean, with an independent coupling.
        strength: η ≥ 0.
        generator: Draws the noise.
        schedule: ``constant``, ``rising``, ``falling`` (1, t, 1 − t), or a function of times, at least zero.

    Raises:
        ValueError: The flow's score is not a function of its velocity, or the schedule is unknown.
    """
    config = flow.config
    if isinstance(schedule, str) and schedule not in SCHEDULES:
        raise ValueError(
            f"sample.diffusion_schedule: expected a function or one of {', '.join(SCHEDULES)}, got {schedule!r}."
        )
    if config.geometry == "geometric":
        raise ValueError(
            "sample.diffusion: on geodesics x_t given x_1 is not Gaussian and the score of p_t no function of the velocity; "
            "use sample.noise, or flow.geometry: euclidean."
        )
    if config.geometry == "normalized":
        raise ValueError(
            "sample.diffusion: the normalized flow's prior lies on spheres, so x_t given x_1 has no density in flat space, "
            "and no score; use sample.noise, or flow.geometry: euclidean."
        )
    if config.coupling != "independent":
        raise ValueError(
            f"sample.diffusion: with flow.coupling: {config.coupling} x_0 given x_1 is no draw from the prior, and "
            "the score no function of the velocity; train with flow.coupling: independent."
        )
    if config.path != "straight":
        raise ValueError(
            f"sample.diffusion: with flow.path: {config.path} x_t given x_1 is not Gaussian, and the score no function of "
            "the velocity; train with flow.path: straight."
        )
    if config.path_noise > 0:
        raise ValueError(
            "sample.diffusion: flow.path_noise moves both ends of a path alike, so x_0 given x_1 is no draw from the prior, "
            "and the score another function of the velocity; train with flow.path_noise: 0."
        )
    if flow.jumps:
        raise ValueError("sample.diffusion: a distilled flow has no velocity, and so no score; use the flow it came from.")
    rate = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
    return Diffusion(strength, generator, flow.prior.mean, flow.prior.std, rate)
