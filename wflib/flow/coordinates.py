"""Between networks and a flow's coordinates: which zoo a geometry works on, in which basis of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights, require_perceptron, with_inputs
from wflib.manifold import WeightManifold, weight_manifold
from wflib.symmetry import canonicalize, decanonicalize

__all__ = ["Coordinates", "input_basis"]


def input_basis(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenbasis of the inputs' second moment E[x xᵀ].

    Args:
        inputs: Training inputs (examples, features).

    Returns:
        Orthogonal columns (features, features) by falling eigenvalue, and the eigenvalues.
    """
    values, vectors = torch.linalg.eigh((inputs.double().T @ inputs.double()) / len(inputs))
    return vectors.flip(1).float(), values.flip(0).clamp_min(0).float()


@dataclass(frozen=True)
class Coordinates:
    """A flow's coordinates: flat vectors of (canonical) weights whose input side is rotated by an orthogonal basis.

    Rotations keep the prior, the spheres and their geodesics as they are, so only the velocity network sees a difference.

    Attributes:
        architecture: Of the coordinates: canonical for the flows on normalized weights.
        basis: Orthogonal (features, features), columns are input directions; None for the inputs' own axes.

    Raises:
        ValueError: The network is no perceptron, or the basis is not one of its inputs.
    """

    architecture: Architecture
    basis: Tensor | None = None

    def __post_init__(self) -> None:
        require_perceptron(self.architecture, "flows")
        features = self.architecture.groups[0].size
        if self.basis is not None and self.basis.shape != (features, features):
            raise ValueError(
                f"Shape mismatch: expected a basis ({features}, {features}) of the inputs, got {tuple(self.basis.shape)}."
            )

    @property
    def canonical(self) -> bool:
        """Whether the coordinates are of canonical networks."""
        return self.architecture.norm is not None

    @property
    def manifold(self) -> WeightManifold:
        """Where the coordinates of a network lie."""
        return weight_manifold(self.architecture)

    def rotate(self, weights: Mapping[str, Tensor], basis: Tensor | None) -> Weights:
        """Multiply the input axis of every tensor that has one by an orthogonal matrix."""
        if basis is None:
            return dict(weights)
        source = self.architecture.groups[0].name
        rotated = dict(weights)
        for spec in self.architecture.tensors:
            if spec.name in weights and source in spec.axes:
                axis = spec.axes.index(source) - len(spec.axes)
                rotated[spec.name] = (weights[spec.name].movedim(axis, -1) @ basis.to(weights[spec.name])).movedim(-1, axis)
        return rotated

    def encode(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Weights that already have this architecture → (networks, D)."""
        return self.architecture.flatten(self.rotate(weights, self.basis))

    def encode_network(self, architecture: Architecture, weights: Mapping[str, Tensor]) -> Tensor:
        """Ordinary networks → (networks, D), canonicalized first where the flow needs it."""
        if self.canonical and architecture.norm is None:
            weights = canonicalize(architecture, weights, self.architecture.norm).weights
        return self.encode(weights)

    def encode_initial(self, architecture: Architecture, initial: Mapping[str, Tensor]) -> Tensor:
        """Initial weights → flat vectors in this tensor order, without the canonical scalars at its end."""
        return architecture.flatten(self.rotate(initial, self.basis))

    def rotate_inputs(self, inputs: Tensor) -> Tensor:
        """A task's inputs (examples, features) in the axes of the coordinates, so that outputs stay what they are."""
        return inputs if self.basis is None else inputs @ self.basis.to(inputs)

    def decode_state(self, x: Tensor) -> Weights:
        """(networks, D) → weights of ``architecture`` in the inputs' own axes; differentiable."""
        return self.rotate(self.architecture.unflatten(x), None if self.basis is None else self.basis.T)

    def decode(self, x: Tensor) -> tuple[Architecture, Weights]:
        """(networks, D) → ordinary networks, their output scale folded into the last layer."""
        return decanonicalize(self.architecture, self.decode_state(x))

    def leading(self, directions: int) -> tuple[Architecture, Tensor]:
        """The part of the coordinates that belongs to the first input directions and to everything behind the inputs.

        Args:
            directions: How many; 0 for all.

        Returns:
            The architecture of that part, and its places in flat vectors, (≤ D,) int64.
        """
        whole, source = self.architecture, self.architecture.groups[0]
        kept = min(directions or source.size, source.size)
        places = whole.unflatten(torch.arange(whole.dimension).unsqueeze(0))
        for spec in whole.tensors:
            if source.name in spec.axes:
                places[spec.name] = places[spec.name].narrow(1 + spec.axes.index(source.name), 0, kept)
        part = with_inputs(whole, kept)
        return part, part.flatten(places).squeeze(0)

    def with_widths(self, widths: Mapping[str, int]) -> Coordinates:
        """The same coordinates for other hidden widths."""
        return replace(self, architecture=self.architecture.with_widths(widths))

    def to(self, device: str | torch.device) -> Coordinates:
        """The same coordinates with the basis on another device."""
        return replace(self, basis=None if self.basis is None else self.basis.to(device))
