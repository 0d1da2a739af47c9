"""Between networks and a flow's coordinates: which zoo a geometry works on, in which basis of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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


def shares_of_neurons(narrow: Architecture, wide: Architecture) -> dict[str, float]:
    """What a neuron counts for in the outputs when there are more, or fewer, like it: n / n'.

    A velocity network sees neurons as a set, and draws them from one law however many there are. Outputs sum over them and
    grow with their number: logits of a network three times as wide are three times as large, and its predictions far too
    sure. Times n / n' outputs stay means over the same law (Mei, Montanari and Nguyen 2018, "A mean field view of the
    landscape of two-layer neural networks"). What one hidden layer reads of another stays as drawn: no power of the ratio
    was better there on validation data.

    Args:
        narrow: Of the networks that were learned from.
        wide: The same architecture with other widths.

    Returns:
        Weights of the output layer → factor, where it reads another number of neurons; nothing for networks without one.
    """
    if wide.output_layer is None:
        return {}
    weight = wide.output_layer.weight
    before, after = (form.shape(weight)[1] for form in (narrow, wide))
    return {weight: before / after} if before != after else {}


@dataclass(frozen=True)
class Coordinates:
    """A flow's coordinates: flat vectors of (canonical) weights whose input side is rotated by an orthogonal basis.

    Rotations keep the prior, the spheres and their geodesics as they are, so only the velocity network sees a difference.
    Running variances are held as log(variance + ε), so that every number that a flow may draw is one's.

    Attributes:
        architecture: Of the networks behind them: canonical for the flows on normalized weights.
        basis: Orthogonal (features, features), columns are input directions; None for the inputs' own axes.
        shares: Of networks of other widths than were learned from, weights → factor, see :func:`shares_of_neurons`.

    Raises:
        ValueError: A basis for inputs that are no vectors, or that is not one of them.
    """

    architecture: Architecture
    basis: Tensor | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

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
        """What flat vectors are themselves: ``chart.forward(chart.unflatten(x), rotated inputs)`` runs their networks.

        Without shares, of which a velocity network, and the loss' gradient that it sees, know nothing.
        """
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
        norm = self.architecture.norm
        if norm is not None and not networks.architecture.canonical:
            networks = canonicalize(networks, norm).networks
        networks = self.shared(networks, -1)
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
        rotated = self.rotate(weights, None if self.basis is None else self.basis.T)
        return self.shared(Networks.unchecked(self.architecture, rotated), 1)

    def shared(self, networks: Networks, power: int) -> Networks:
        """Networks in the form in which they came, weights multiplied by a power of their shares where they are ordinary."""
        if not self.shares:
            return networks
        ordinary, norm = decanonicalize(networks), networks.architecture.norm
        changed = {name: ordinary.weights[name] * share**power for name, share in self.shares.items()}
        moved = ordinary.with_weights({**ordinary.weights, **changed})
        return moved if norm is None else canonicalize(moved, norm).networks

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
        """The same coordinates for other hidden widths, of networks whose neurons have their shares."""
        wide = self.architecture.with_widths(widths)
        more = shares_of_neurons(self.architecture, wide)
        shares = {name: self.shares.get(name, 1.0) * more.get(name, 1.0) for name in {**self.shares, **more}}
        return replace(self, architecture=wide, shares={name: share for name, share in shares.items() if share != 1})

    def to(self, device: str | torch.device) -> Coordinates:
        """The same coordinates with the basis on another device."""
        return replace(self, basis=None if self.basis is None else self.basis.to(device))
