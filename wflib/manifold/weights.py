"""The product manifold of canonical weights: spheres for incoming weights, flat space for the rest."""

from __future__ import annotations

import math

import geoopt
import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.manifold.sphere import StableSphere
from wflib.symmetry.canonical import normalized_groups

__all__ = ["WeightManifold", "sphere_blocks", "weight_manifold"]


def sphere_blocks(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """The tensors of a canonical architecture that lie on spheres: name → (spheres, ambient dimension).

    One sphere S^{fan_in − 1} for every neuron of a hidden layer with positive scalings; for a classifier with an output
    scale one sphere for its whole last weight matrix.
    """
    blocks: dict[str, tuple[int, int]] = {}
    normalized = set(normalized_groups(architecture))
    for layer in architecture.layers:
        if layer.target in normalized:
            blocks[layer.weight] = architecture.shape(layer.weight)
    if architecture.log_scale is not None:
        last = architecture.layers[-1].weight
        blocks[last] = (1, math.prod(architecture.shape(last)))
    return blocks


class WeightManifold(geoopt.ProductManifold):
    """Points are flat vectors (..., D) in the architecture's tensor order.

    A geoopt product manifold: ``projx, proju, expmap, logmap, dist, inner`` work on whole batches, with one call per
    tensor. To these it adds geodesics in closed form.

    Attributes:
        parts: Per tensor: name, sphere or not, slice of the flat vector, shape (spheres, ambient dimension).
    """

    def __init__(self, parts: list[tuple[str, bool, slice, tuple[int, ...]]]) -> None:
        self.parts = parts
        super().__init__(*((StableSphere() if sphere else geoopt.Euclidean(ndim=1), shape) for _, sphere, _, shape in parts))

    @property
    def has_spheres(self) -> bool:
        """Whether any part is curved."""
        return any(sphere for _, sphere, _, _ in self.parts)

    def describe(self) -> list[dict[str, str | int]]:
        """The factors as JSON-serializable facts, for artifacts."""
        return [
            {"tensor": name, "kind": "sphere", "spheres": shape[0], "ambient_dimension": shape[1]}
            if sphere
            else {"tensor": name, "kind": "euclidean", "dimension": math.prod(shape)}
            for name, sphere, _, shape in self.parts
        ]

    @property
    def intrinsic_dimension(self) -> int:
        """Dimension of the manifold: a sphere in R^d counts d − 1."""
        return sum(shape[0] * (shape[1] - 1) if sphere else math.prod(shape) for _, sphere, _, shape in self.parts)

    def blockwise(self, function, *points: Tensor) -> Tensor:
        """Apply ``function(submanifold, *blocks)`` to every factor and pack the results."""
        results = []
        for index, (_, _, _, shape) in enumerate(self.parts):
            blocks = [self.take_submanifold_value(point, index) for point in points]
            results.append(function(self.manifolds[index], *blocks).flatten(-len(shape)))
        return torch.cat(results, -1)

    def geodesic_point(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """x_t on the geodesic from x (t = 0) to y (t = 1); times of shape (batch,)."""
        return self.blockwise(
            lambda factor, a, b: (
                factor.geodesic_point(a, b, column(t, a))
                if isinstance(factor, StableSphere)
                else torch.lerp(a, b, column(t, a))
            ),
            x,
            y,
        )

    def geodesic_velocity(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """d x_t / dt along that geodesic, accurate for all t."""
        return self.blockwise(
            lambda factor, a, b: factor.geodesic_velocity(a, b, column(t, a)) if isinstance(factor, StableSphere) else b - a,
            x,
            y,
        )

    def squared_distances(self, x: Tensor, y: Tensor) -> Tensor:
        """Squared geodesic distances between all pairs, (n, D) and (m, D) → (n, m).

        Angles of all pairs come from one matrix product per sphere axis, so that no (n, m, D) tensor is made.
        """
        total = x.new_zeros(len(x), len(y))
        for index, (_, sphere, _, shape) in enumerate(self.parts):
            a, b = self.take_submanifold_value(x, index), self.take_submanifold_value(y, index)
            if sphere:
                cosine = torch.einsum("nsd,msd->nms", a, b).clamp(-1, 1)
                total += torch.acos(cosine).square().sum(-1)
            else:
                total += torch.cdist(a.flatten(-len(shape)), b.flatten(-len(shape))).square()
        return total


def weight_manifold(architecture: Architecture) -> WeightManifold:
    """The manifold on which weights of an architecture live; flat space for an ordinary one.

    Args:
        architecture: Canonical (with spheres), or ordinary without normalized layers.

    Returns:
        The product manifold in the order of the flat vector.
    """
    spheres = sphere_blocks(architecture)
    parts = []
    for name, where in architecture.slices.items():
        if name in spheres and spheres[name][1] > 1:
            parts.append((name, True, where, spheres[name]))
        else:
            parts.append((name, False, where, (where.stop - where.start,)))
    return WeightManifold(parts)


def flat_manifold(architecture: Architecture) -> WeightManifold:
    """R^D, whatever the architecture."""
    return WeightManifold([("weights", False, slice(0, architecture.dimension), (architecture.dimension,))])


def column(t: Tensor, block: Tensor) -> Tensor:
    """Times (batch,) shaped to broadcast against a block (batch, …)."""
    return t.view(-1, *[1] * (block.ndim - 1))
