"""The three flows' geometries: how x_t runs from x_0 to x_1, what a prediction means, how a step is made.

| geometry   | x_t                     | prediction             | velocity               | step          |
|------------|-------------------------|------------------------|------------------------|---------------|
| euclidean  | (1 − t) x_0 + t x_1     | x̂_1 free               | (x̂_1 − x_t) / (1 − t)  | x + h v       |
| normalized | the same chord          | x̂_1 put on the spheres | (x̂_1 − x_t) / (1 − t)  | x + h v       |
| geometric  | exp_{x_0}(t log_{x_0} x_1) | x̂_1 put on M        | log_{x_t}(x̂_1) / (1 − t) | exp_{x_t}(h v) |

Thesis, section 6.2. The velocity is (x̂_1 − x_t)/(1 − t), not x̂_1 − x_0: the latter averages predictions over time and
shrinks the sampled variance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from wflib.manifold import WeightManifold

__all__ = ["EuclideanGeometry", "Geometric", "Geometry", "Normalized", "Space", "build_geometry"]


class Space(ABC):
    """What a solver needs to know of where it steps; points are flat (batch, D)."""

    @abstractmethod
    def step(self, x_t: Tensor, tangent: Tensor) -> Tensor:
        """Follow a tangent vector."""

    def tangent(self, x_t: Tensor, vector: Tensor) -> Tensor:
        """Project an ambient vector on what :meth:`step` accepts."""
        return vector

    def nearby(self, x_t: Tensor, vector: Tensor) -> Tensor:
        """The point nearest to x_t + vector, for an ambient vector such as a sum of tangents of several points."""
        return x_t + vector


class Geometry(Space):
    """What a flow needs to know of the space it runs in; points are flat (batch, D), times (batch,).

    Args:
        manifold: Where x_1 lives.
    """

    curved = False

    def __init__(self, manifold: WeightManifold) -> None:
        self.manifold = manifold

    @abstractmethod
    def interpolate(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """x_t on the conditional path."""

    @abstractmethod
    def conditional_velocity(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        """d x_t / dt on that path."""

    @abstractmethod
    def project_prediction(self, x_1: Tensor) -> Tensor:
        """Put a free prediction where x_1 must lie."""

    @abstractmethod
    def displacement(self, x_t: Tensor, x_1: Tensor) -> Tensor:
        """The tangent vector at x_t that reaches x_1 at unit speed in unit time."""

    @abstractmethod
    def squared_distances(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        """Cost of optimal transport between all pairs, (n, D), (m, D) → (n, m)."""

    def angles(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        """Mean angle travelled by each coordinate's sphere, zero where paths are straight: (D,)."""
        return x_0.new_zeros(x_0.shape[1])


class Chord(Geometry):
    """Straight paths, whatever the space of x_1."""

    def interpolate(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(x_0, x_1, t[:, None])

    def conditional_velocity(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        return x_1 - x_0

    def displacement(self, x_t: Tensor, x_1: Tensor) -> Tensor:
        return x_1 - x_t

    def step(self, x_t: Tensor, tangent: Tensor) -> Tensor:
        return x_t + tangent

    def squared_distances(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        return torch.cdist(x_0, x_1).square()


@final
class EuclideanGeometry(Chord):
    """Flat space on both sides."""

    def project_prediction(self, x_1: Tensor) -> Tensor:
        return x_1


@final
class Normalized(Chord):
    """Chords between points of the manifold; on the way points leave it, so the flow has no density there."""

    def project_prediction(self, x_1: Tensor) -> Tensor:
        return self.manifold.projx(x_1)


@final
class Geometric(Geometry):
    """Geodesics of the manifold, which no point leaves."""

    curved = True

    def interpolate(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        return self.manifold.geodesic_point(x_0, x_1, t)

    def conditional_velocity(self, x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
        return self.manifold.geodesic_velocity(x_0, x_1, t)

    def project_prediction(self, x_1: Tensor) -> Tensor:
        return self.manifold.projx(x_1)

    def displacement(self, x_t: Tensor, x_1: Tensor) -> Tensor:
        return self.manifold.logmap(x_t, x_1)

    def step(self, x_t: Tensor, tangent: Tensor) -> Tensor:
        return self.manifold.projx(self.manifold.expmap(x_t, self.manifold.proju(x_t, tangent)))

    def tangent(self, x_t: Tensor, vector: Tensor) -> Tensor:
        return self.manifold.proju(x_t, vector)

    def nearby(self, x_t: Tensor, vector: Tensor) -> Tensor:
        return self.manifold.projx(x_t + vector)

    def squared_distances(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        return self.manifold.squared_distances(x_0, x_1)

    def angles(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        angles = x_0.new_zeros(x_0.shape[1])
        for index, (_, sphere, where, shape) in enumerate(self.manifold.parts):
            if sphere:
                factor = self.manifold.manifolds[index]
                ends = (self.manifold.take_submanifold_value(x, index) for x in (x_0, x_1))
                angles[where] = factor.dist(*ends).mean(0).repeat_interleave(shape[1])
        return angles


def build_geometry(name: str, manifold: WeightManifold) -> Geometry:
    """The geometry a configuration names: ``euclidean``, ``normalized`` or ``geometric``."""
    known: dict[str, type[Geometry]] = {"euclidean": EuclideanGeometry, "normalized": Normalized, "geometric": Geometric}
    return known[name](manifold)
