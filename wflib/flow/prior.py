"""Where flows start: a closed-form prior over a flow's coordinates, the image of a random initialization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wflib.architecture import NORMS, Architecture
from wflib.manifold import WeightManifold
from wflib.networks import Networks
from wflib.symmetry import scale
from wflib.symmetry.writers import output_writers, writers

__all__ = ["Moments", "Prior", "build_prior", "canonical_prior", "flat_prior", "measured_prior"]

Moments = dict[str, tuple[float, float]]
"""Tensor → mean and deviation of its entries."""
SQUARABLE = 1e-18
"""Least deviation, and one over the largest: their squares are numbers of single precision."""


@dataclass(frozen=True)
class Prior:
    """Uniform on spheres × N(mean, diag(std²)) on flat coordinates.

    Attributes:
        manifold: Says which coordinates lie on spheres.
        mean: (D,); zero on spheres.
        std: (D,); on spheres any constant, since a normalized isotropic Gaussian is uniform.
        fresh: (D,) bool: coordinates that an initialization does not determine and that are drawn anew.
    """

    manifold: WeightManifold
    mean: Tensor
    std: Tensor
    fresh: Tensor

    def to(self, device: str | torch.device) -> Prior:
        """The same prior on another device."""
        return Prior(self.manifold, self.mean.to(device), self.std.to(device), self.fresh.to(device))

    @property
    def width(self) -> Tensor:
        """Deviation of each coordinate: 1/√d on a sphere in R^d, ``std`` elsewhere, (D,)."""
        width = self.std.clone()
        for _, sphere, where, shape in self.manifold.parts:
            if sphere:
                width[where] = shape[1] ** -0.5
        return width

    def blurred(self, deviation: float) -> Prior:
        """The distribution of its points after noise N(0, deviation²) that is put back on the manifold.

        On spheres a uniform distribution stays one, elsewhere variances add up.
        """
        return replace(self, std=self.std.square().add(deviation**2).sqrt()) if deviation > 0 else self

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (count, D) points; random numbers come from the generator's device."""
        noise = torch.randn(count, len(self.mean), generator=generator, device=generator.device).to(self.mean)
        return self.manifold.projx(self.mean + self.std * noise)

    def log_density(self, x: Tensor) -> Tensor:
        """log p_0: −log of each sphere's area, plus normal densities of the flat coordinates.

        The area of S^{d−1} is 2 π^{d/2} / Γ(d/2). A density with respect to the Riemannian volume of the manifold.

        Args:
            x: Points on the manifold, (batch, D).

        Returns:
            In nats, (batch,).
        """
        total = x.new_zeros(len(x))
        for _, sphere, where, shape in self.manifold.parts:
            if sphere:
                count, dimension = shape
                area = math.log(2) + dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2)
                total = total - count * area
            else:
                deviation = self.std[where].to(x)
                standard = (x[:, where] - self.mean[where].to(x)) / deviation
                total = total - (standard.square() / 2 + deviation.log() + math.log(2 * math.pi) / 2).sum(1)
        return total

    def from_initialization(
        self,
        initial: Tensor,
        initial_std: float,
        generator: torch.Generator,
        fresh: Tensor | None = None,
        renewal: float = 0.0,
    ) -> Tensor:
        """The prior's point of given initial weights, distributed exactly as the prior when they are N(0, initial_std²).

        Directions of incoming weights are kept, flat coordinates are rescaled to the prior's width. So a network's own
        initialization can be coupled with what training made of it. With a renewal r the standardized weights z become
        √(1 − r) z + √r ε, ε ~ N(0, I): of the same distribution, and another point at every call (the proposal of
        preconditioned Crank–Nicolson, Cotter et al. 2013).

        Args:
            initial: Flat initial weights in the flow's tensor order, without the output scale: (count, ≤ D).
            initial_std: Standard deviation they were drawn with.
            generator: Draws the coordinates that initial weights do not determine.
            fresh: Further coordinates to draw, such as those of biases that all begin at zero, (≤ D,) bool; None for none.
            renewal: r, in [0, 1].

        Returns:
            (count, D).
        """
        missing = len(self.mean) - initial.shape[1]
        standard = torch.cat([initial / initial_std, initial.new_zeros(len(initial), missing)], 1)
        noise = torch.randn(standard.shape, generator=generator, device=generator.device).to(standard)
        kept = math.sqrt(1 - renewal) * standard + math.sqrt(renewal) * noise
        drawn = self.fresh
        if fresh is not None:
            drawn = drawn | torch.cat([fresh, fresh.new_zeros(missing)])
        return self.manifold.projx(self.mean + self.std * torch.where(drawn, noise, kept))


def check_initialization(initialization: Any) -> None:
    """Refuse what no prior can be made of.

    Raises:
        ValueError: No positive deviation, or no numbers.
    """
    pairs = initialization.values() if isinstance(initialization, Mapping) else [(0.0, initialization)]
    for mean, deviation in pairs:
        numbers = isinstance(mean, (int, float)) and isinstance(deviation, (int, float)) and math.isfinite(mean)
        if not (numbers and SQUARABLE <= deviation <= 1 / SQUARABLE):
            raise ValueError(
                "Flow: initialization must be a positive number whose square is one, too, or a mean and such a number for "
                f"each tensor, got {initialization!r}."
            )


def build_prior(manifold: WeightManifold, architecture: Architecture, initialization: float | Moments) -> Prior:
    """The prior of an initialization: N(0, σ²) for all weights, or moments of every tensor of the coordinates.

    Raises:
        ValueError: No positive deviation, or moments of other tensors.
    """
    check_initialization(initialization)
    if not isinstance(initialization, (int, float)):
        return measured_prior(manifold, architecture, initialization)
    if not architecture.canonical:
        return flat_prior(manifold, architecture.dimension, initialization)
    return canonical_prior(manifold, architecture, initialization)


def measured_prior(manifold: WeightManifold, architecture: Architecture, moments: Moments) -> Prior:
    """Uniform on spheres × Gaussians of each tensor's mean and deviation.

    Args:
        manifold: Of the architecture.
        architecture: Of the coordinates.
        moments: Of its tensors' entries, for all tensors; those on spheres do not count.

    Raises:
        ValueError: Moments of other tensors.
    """
    names = [name for name, _ in architecture.shapes]
    if set(moments) != set(names):
        raise ValueError(f"Flow: expected moments of the tensors {sorted(names)}, got {sorted(moments)}.")
    mean, std = (torch.empty(architecture.dimension) for _ in range(2))
    for name, where in architecture.slices.items():
        mean[where], std[where] = moments[name]
    for _, sphere, places, _ in manifold.parts:
        if sphere:
            mean[places], std[places] = 0.0, 1.0
    fresh = torch.zeros(architecture.dimension, dtype=torch.bool)
    if architecture.log_scale is not None:
        fresh[architecture.slices[architecture.log_scale]] = True
    return Prior(manifold, mean, std, fresh)


def flat_prior(manifold: WeightManifold, dimension: int, std: float) -> Prior:
    """N(0, std² I): the zoo's own initialization."""
    return Prior(manifold, torch.zeros(dimension), torch.full((dimension,), std), torch.zeros(dimension, dtype=torch.bool))


def canonical_prior(manifold: WeightManifold, architecture: Architecture, std: float) -> Prior:
    """Uniform on spheres × Gaussians of the widths that canonicalized initial weights have.

    Canonicalizing weights drawn from N(0, std²) divides layer l by about s_l, s_l² = std² (fan_in s_{l−1}² + 1) if biases
    count for its norm, else without the one, s_0 = 1. So a bias that does not count has the deviation std / s_l. The log of
    the last layer's norm r, of n weights and m biases that count, is about log r̄ with the deviation
    √((n s⁴ + m) / 2) / (n s² + m), s = s_{L−1}. A regression keeps its last layer, whose weights come out s times as wide.
    In networks of other kinds, too, s is the root of the sum of the variances of all that is written for a neuron, and
    deviations are scaled as weights are.

    Args:
        manifold: The canonical architecture's manifold.
        architecture: A canonical architecture, no neuron of which has one number alone
            (:func:`wflib.manifold.require_connected`).
        std: Deviation of initial weights.

    Returns:
        The prior over flat canonical coordinates.

    Raises:
        ValueError: The network has running statistics, which no initialization draws.
    """
    if architecture.statistics:
        raise ValueError(
            "canonical_prior: expected a network without running statistics, as these are not drawn from N(0, std²); "
            f"this one has {', '.join(architecture.statistics)}."
        )
    scaled = Networks.from_flat(architecture, torch.full((1, architecture.dimension), std, dtype=torch.float64))
    norm, layer = architecture.norm or NORMS[0], architecture.output_layer
    spheres, last = writers(architecture, norm), output_writers(architecture, norm)
    for name, neurons in spheres.items():
        scaled = scale(scaled, {name: neurons.gather(scaled.weights).norm(dim=-1)})
    deviations, means = dict(scaled.weights), scaled.map(torch.zeros_like).weights
    if architecture.log_scale is not None and layer is not None and last is not None:
        spheres = spheres | {architecture.log_scale: last}
        variances = last.gather(deviations).square()
        squares = variances.sum()
        for name in layer.tensors:
            deviations[name] = deviations[name] / squares.sqrt()
        means[architecture.log_scale] += squares.log() / 2
        deviations[architecture.log_scale][:] = (variances.square().sum() / 2).sqrt() / squares
    deviation = architecture.flatten(deviations).squeeze(0)
    for neurons in spheres.values():
        deviation[neurons.places(architecture)] = std
    fresh = torch.zeros(len(deviation), dtype=torch.bool)
    if architecture.log_scale is not None:
        fresh[architecture.slices[architecture.log_scale]] = True
    return Prior(manifold, architecture.flatten(means).squeeze(0).float(), deviation.float(), fresh)
