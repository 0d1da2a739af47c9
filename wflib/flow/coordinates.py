"""Between networks and a flow's coordinates: which zoo a geometry works on, in which basis of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights, with_inputs, with_variances_held
from wflib.architecture.operations import Linear
from wflib.manifold import WeightManifold, weight_manifold
from wflib.networks import Networks
from wflib.symmetry import canonicalize, decanonicalize
from wflib.symmetry.variances import exponentials, logarithms

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


def require_vectors(architecture: Architecture, setting: str) -> None:
    """Refuse inputs that have no directions to rotate.

    Raises:
        ValueError: Inputs are no vectors, or something else than linear maps reads them.
    """
    readers = [operation for operation in architecture.operations if "input" in operation.inputs]
    linear = all(isinstance(operation, Linear) and operation.rows is None for operation in readers)
    if len(architecture.inputs) != 1 or not linear:
        raise ValueError(
            f"{setting}: expected inputs that are vectors, read by linear maps; found inputs {architecture.inputs} read by "
            f"{', '.join(sorted({operation.kind for operation in readers}))}. Set velocity.basis: none and "
            "velocity.directions: 0."
        )


@dataclass(frozen=True)
class Coordinates:
    """A flow's coordinates: flat vectors of (canonical) weights whose input side is rotated by an orthogonal basis.

    Rotations keep the prior, the spheres and their geodesics as they are, so only the velocity network sees a difference.
    Running variances are held as log(variance + ε), so that every number that a flow may draw is one's.

    Attributes:
        architecture: Of the networks behind them: canonical for the flows on normalized weights.
        basis: Orthogonal (features, features), columns are input directions; None for the inputs' own axes.

    Raises:
        ValueError: A basis for inputs that are no vectors, or that is not one of them.
    """

    architecture: Architecture
    basis: Tensor | None = None

    def __post_init__(self) -> None:
        if self.basis is None:
            return
        require_vectors(self.architecture, "velocity.basis: data")
        features = self.architecture.inputs[0]
        if self.basis.shape != (features, features):
            raise ValueError(
                f"Shape mismatch: expected a basis ({features}, {features}) of the inputs, got {tuple(self.basis.shape)}."
            )

    @cached_property
    def chart(self) -> Architecture:
        """What flat vectors are themselves: ``chart.forward(chart.unflatten(x), rotated inputs)`` runs their networks."""
        return replace(self.architecture, operations=with_variances_held(self.architecture.operations, "logarithm"))

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

    def encode(self, networks: Networks) -> Tensor:
        """Networks → (networks, D); ordinary ones are canonicalized first where the flow needs it."""
        if self.architecture.canonical and not networks.architecture.canonical:
            networks = canonicalize(networks, self.architecture.norm).networks
        return self.architecture.flatten(self.rotate(logarithms(networks.architecture, networks.weights), self.basis))

    def encode_initial(self, initial: Networks) -> Tensor:
        """Initial weights → flat vectors in this tensor order, without the canonical scalars at its end."""
        return initial.architecture.flatten(self.rotate(logarithms(initial.architecture, initial.weights), self.basis))

    def rotate_inputs(self, inputs: Tensor) -> Tensor:
        """A task's inputs (examples, features) in the axes of the coordinates, so that outputs stay what they are."""
        return inputs if self.basis is None else inputs @ self.basis.to(inputs)

    def decode_state(self, x: Tensor) -> Networks:
        """(networks, D) → networks of ``architecture`` in the inputs' own axes; differentiable."""
        weights = exponentials(self.architecture, self.architecture.unflatten(x))
        return Networks.unchecked(self.architecture, self.rotate(weights, None if self.basis is None else self.basis.T))

    def decode(self, x: Tensor) -> Networks:
        """(networks, D) → ordinary networks, their output scale folded into the last layer."""
        return decanonicalize(self.decode_state(x))

    def leading(self, directions: int) -> tuple[Architecture, Tensor]:
        """The part of the coordinates that belongs to the first input directions and to everything behind the inputs.

        Args:
            directions: How many; 0 for all.

        Returns:
            The architecture of that part, and its places in flat vectors, (≤ D,) int64.

        Raises:
            ValueError: Some directions of inputs that are no vectors.
        """
        whole, source = self.architecture, self.architecture.groups[0]
        if directions:
            require_vectors(whole, f"velocity.directions: {directions}")
        if not 0 < directions < source.size:
            return whole, torch.arange(whole.dimension)
        places = whole.unflatten(torch.arange(whole.dimension).unsqueeze(0))
        for spec in whole.tensors:
            if source.name in spec.axes:
                places[spec.name] = places[spec.name].narrow(1 + spec.axes.index(source.name), 0, directions)
        part = with_inputs(whole, directions)
        return part, part.flatten(places).squeeze(0)

    def with_widths(self, widths: Mapping[str, int]) -> Coordinates:
        """The same coordinates for other hidden widths."""
        return replace(self, architecture=self.architecture.with_widths(widths))

    def to(self, device: str | torch.device) -> Coordinates:
        """The same coordinates with the basis on another device."""
        return replace(self, basis=None if self.basis is None else self.basis.to(device))
