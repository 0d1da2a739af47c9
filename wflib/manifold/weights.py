"""The product manifold of canonical weights: spheres for incoming weights, flat space for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wflib.architecture import NORMS, Architecture
from wflib.config import quiet_import
from wflib.manifold.sphere import StableSphere
from wflib.symmetry.writers import output_writers, writers

with quiet_import():
    import geoopt

__all__ = ["Factor", "WeightManifold", "flat_manifold", "require_connected", "weight_manifold"]


class Factor(NamedTuple):
    """One factor of a product manifold.

    Attributes:
        tensors: Tensors whose coordinates it has: one, or incoming weights and their biases.
        sphere: Unit spheres, or flat space.
        places: Its coordinates in flat vectors, sphere by sphere: a slice, or indices (spheres · ambient dimension,) where
            weights and biases take turns.
        shape: (spheres, ambient dimension) or (dimension,).
    """

    tensors: tuple[str, ...]
    sphere: bool
    places: slice | Tensor
    shape: tuple[int, ...]


class WeightManifold(geoopt.ProductManifold):  # type: ignore[misc]  # geoopt has no types
    """Points are flat vectors (..., D) in the architecture's tensor order.

    A geoopt product manifold: ``projx, proju, expmap, logmap, retr, transp, dist, inner`` work on whole batches, with one
    call per factor. To these it adds geodesics in closed form. geoopt wants the coordinates of a factor side by side; here
    they lie wherever the flat vector has them.

    Attributes:
        parts: The factors.
    """

    def __init__(self, parts: list[Factor]) -> None:
        super().__init__(*((StableSphere() if part.sphere else geoopt.Euclidean(ndim=1), part.shape) for part in parts))
        self.parts = parts
        self.order: Tensor | None = None
        if any(isinstance(part.places, Tensor) for part in parts):
            everywhere = torch.arange(self.n_elements)
            self.order = torch.cat([everywhere[part.places] for part in parts]).argsort()

    @property
    def has_spheres(self) -> bool:
        """Whether any part is curved."""
        return any(part.sphere for part in self.parts)

    def describe(self) -> list[dict[str, str | int]]:
        """The factors as JSON-serializable facts, for artifacts."""
        facts = []
        for part in self.parts:
            fact: dict[str, str | int] = {
                "tensors": " ".join(part.tensors),
                "kind": "sphere" if part.sphere else "euclidean",
            }
            names = ("spheres", "ambient_dimension") if part.sphere else ("dimension",)
            facts.append(fact | dict(zip(names, part.shape, strict=True)))
        return facts

    @property
    def intrinsic_dimension(self) -> int:
        """Dimension of the manifold: a sphere in R^d counts d − 1."""
        return sum(part.shape[0] * (part.shape[1] - 1) if part.sphere else math.prod(part.shape) for part in self.parts)

    def take_submanifold_value(self, x: Tensor, i: int, reshape: bool = True) -> Tensor:
        """The coordinates of one factor, (..., *shape of the factor)."""
        places = self.parts[i].places
        block = x[..., places] if isinstance(places, slice) else x.index_select(-1, places.to(x.device))
        return block.reshape(*block.shape[:-1], *self.parts[i].shape) if reshape else block

    def pack_point(self, *blocks: Tensor) -> Tensor:
        """Flat vectors from the coordinates of all factors, (..., *shape of the factor) each."""
        flat = [block.flatten(-len(part.shape)) for block, part in zip(blocks, self.parts, strict=True)]
        joined = torch.cat(flat, -1)
        return joined if self.order is None else joined.index_select(-1, self.order.to(joined.device))

    def blockwise(self, function: Callable[..., Tensor], *points: Tensor) -> Tensor:
        """Apply ``function(factor, *blocks)`` to every factor and pack the results."""
        results = []
        for index, factor in enumerate(self.manifolds):
            results.append(function(factor, *(self.take_submanifold_value(point, index) for point in points)))
        return self.pack_point(*results)

    def projx(self, x: Tensor) -> Tensor:
        """The nearest point of the manifold."""
        return self.blockwise(lambda factor, a: factor.projx(a), x)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """The part of a vector that is tangent at x."""
        return self.blockwise(lambda factor, a, v: factor.proju(a, v), x, u)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """exp_x(u), the end of the geodesic that leaves x with velocity u."""
        return self.blockwise(lambda factor, a, v: factor.expmap(a, v), x, u)

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """A step along u to first order, back on the manifold."""
        return self.blockwise(lambda factor, a, v: factor.retr(a, v), x, u)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """log_x(y), the velocity at x of the shortest geodesic to y."""
        return self.blockwise(lambda factor, a, b: factor.logmap(a, b), x, y)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """A tangent vector at x carried to y."""
        return self.blockwise(lambda factor, a, b, w: factor.transp(a, b, w), x, y, v)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """The Riemannian gradient of a function whose derivative in flat vectors is u."""
        return self.blockwise(lambda factor, a, v: factor.egrad2rgrad(a, v), x, u)

    # geoopt's products join factors side by side; a manifold's own definitions go by the methods above.
    expmap_transp = geoopt.Manifold.expmap_transp
    retr_transp = geoopt.Manifold.retr_transp
    transp_follow_expmap = geoopt.Manifold.transp_follow_expmap
    transp_follow_retr = geoopt.Manifold.transp_follow_retr

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
        for index, part in enumerate(self.parts):
            a, b = self.take_submanifold_value(x, index), self.take_submanifold_value(y, index)
            if part.sphere:
                cosine = torch.einsum("nsd,msd->nms", a, b).clamp(-1, 1)
                total += torch.acos(cosine).square().sum(-1)
            else:
                total += torch.cdist(a, b).square()
        return total


def weight_manifold(architecture: Architecture) -> WeightManifold:
    """The manifold on which weights of an architecture live; flat space for an ordinary one.

    Of a canonical one, by its norm: a sphere S^{fan_in − 1} for the weights of every neuron with positive scalings, or
    S^{fan_in} for its weights and bias; for a classifier one sphere for its whole last layer; flat space for the rest. In
    networks of other kinds, fan-in is the number of the neuron's :func:`~wflib.symmetry.writers.writers`. A number that is
    alone, and so ±1, counts as flat space: two points are no manifold to run on, see :func:`require_connected`.

    Args:
        architecture: Canonical or ordinary.

    Returns:
        The product manifold in the order of the flat vector.
    """
    if architecture.norm is None:
        return flat_manifold(architecture)
    spheres = [part for part in sphere_factors(architecture, architecture.norm) if part.shape[1] > 1]
    everywhere, curved = torch.arange(architecture.dimension), torch.zeros(architecture.dimension, dtype=torch.bool)
    for part in spheres:
        curved[part.places] = True
    parts = []
    for name, where in architecture.slices.items():
        parts += [part for part in spheres if part.tensors[0] == name]
        rest = everywhere[where][~curved[where]]
        if len(rest):
            parts.append(Factor((name,), False, where if len(rest) == where.stop - where.start else rest, (len(rest),)))
    return WeightManifold(parts)


def require_connected(architecture: Architecture) -> None:
    """Refuse canonical networks some of whose weights can only be 1 or −1, between which no path leads.

    A neuron for which one number is written, such as the weight of the only input where biases do not count or the factor of
    a norm without offsets, is on S⁰, two points. Flows have velocities and densities on spheres of one dimension or more.

    Raises:
        ValueError: Names the tensors and what to choose instead.
    """
    norm = architecture.norm
    lonely = [part.tensors[0] for part in sphere_factors(architecture, norm) if part.shape[1] == 1] if norm else []
    if not lonely:
        return
    remedy = "flow.geometry: euclidean"
    other = NORMS[0]
    if norm != other and all(part.shape[1] > 1 for part in sphere_factors(architecture, other)):
        remedy = f"canonicalize.norm: {other}, by which biases count, or {remedy}"
    raise ValueError(
        "Flow: expected canonical networks with two weights or more for each neuron, whose norm is one; of "
        f"{', '.join(lonely)} each is alone for its neuron, and so 1 or −1 in all networks: nothing that a flow could run "
        f"on. Use {remedy}."
    )


def sphere_factors(architecture: Architecture, norm: str) -> list[Factor]:
    """The spheres of an architecture that is canonical in a norm, the first tensor of each its weights."""
    found = list(writers(architecture, norm).values())
    if architecture.log_scale is not None and (last := output_writers(architecture, norm)) is not None:
        found.append(last)
    factors = []
    for sphere in found:
        tensors, where = tuple(name for name, _ in sphere.parts), sphere.places(architecture)
        whole = architecture.slices[tensors[0]]
        in_order = len(tensors) == 1 and torch.equal(where.reshape(-1), torch.arange(whole.start, whole.stop))
        factors.append(Factor(tensors, True, whole if in_order else where.reshape(-1), tuple(where.shape)))
    return factors


def flat_manifold(architecture: Architecture) -> WeightManifold:
    """R^D, whatever the architecture."""
    return WeightManifold([Factor(("weights",), False, slice(0, architecture.dimension), (architecture.dimension,))])


def column(t: Tensor, block: Tensor) -> Tensor:
    """Times (batch,) shaped to broadcast against a block (batch, …)."""
    return t.view(-1, *[1] * (block.ndim - 1))
