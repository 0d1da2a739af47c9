"""Stochastic sampling: noise added before steps, and a diffusion that keeps every marginal.

For any g the equation dx = [u_t + (g²/2) ∇log p_t] dt + g dw has the marginals p_t of dx = u_t dt (Song et al. 2021; Albergo
et al. 2023). With an independent Gaussian prior N(μ_0, σ_0²) on straight paths the score follows from the velocity,

    ∇log p_t(x) = (t x̂_1 + (1 − t) μ_0 − x) / ((1 − t)² σ_0²) = (t u_t(x) + μ_0 − x) / ((1 − t) σ_0²),

and with g² = η σ_0² (1 − t) the drift becomes u_t + (η/2) (t u_t + μ_0 − x), which is finite at all times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.flow.flow import Flow
from wflib.flow.geometry import Geometry

__all__ = ["AddedNoise", "Diffusion", "diffusion_of"]


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
    """The marginal-preserving equation above, by Euler–Maruyama steps; see :func:`diffusion_of`.

    Attributes:
        strength: η ≥ 0; zero is the deterministic flow.
        generator: Draws the noise.
        mean: μ_0, (D,).
        deviation: σ_0, (D,).
    """

    strength: float
    generator: torch.Generator
    mean: Tensor
    deviation: Tensor

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise ValueError(f"sample.diffusion: expected a strength of at least 0, got {self.strength}.")

    def drift(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """u_t + (g²/2) ∇log p_t, (batch, D)."""
        return velocity + self.strength / 2 * (t[:, None] * velocity + self.mean - x)

    def after(self, x: Tensor, t: float, h: float) -> Tensor:
        """Add the noise of a step from t to t + h, of variance ∫ g² over it; none after the last, where it would stay."""
        variance = self.strength * ((1 - t) ** 2 - (1 - t - h) ** 2) / 2
        return x if t + h > 1 - 1e-9 else x + variance**0.5 * self.deviation * gaussian(x, self.generator)


def diffusion_of(flow: Flow, strength: float, generator: torch.Generator) -> Diffusion:
    """The diffusion with a flow's marginals.

    Args:
        flow: Euclidean, with an independent coupling.
        strength: η ≥ 0.
        generator: Draws the noise.

    Raises:
        ValueError: The flow's score is not a function of its velocity.
    """
    config = flow.config
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
    if config.path_noise > 0:
        raise ValueError(
            "sample.diffusion: flow.path_noise widens x_t by noise that the velocity takes out again, and the score is "
            "another function of it; train with flow.path_noise: 0."
        )
    if flow.jumps:
        raise ValueError("sample.diffusion: a distilled flow has no velocity, and so no score; use the flow it came from.")
    return Diffusion(strength, generator, flow.prior.mean, flow.prior.std)
