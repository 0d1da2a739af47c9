"""A zoo: many networks of one architecture as whole tensors, with where each of them comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from wflib.architecture import NORMS, Architecture, Weights
from wflib.manifold import weight_manifold
from wflib.networks import Networks
from wflib.symmetry import Permutations, Scales, canonicalize, permute
from wflib.zoo.base import FORMS, AnyZoo
from wflib.zoo.checks import (
    check_initial,
    check_labels,
    check_metadata,
    check_networks,
    check_permutations,
    check_places,
    check_record,
    require_same_architecture,
)

__all__ = ["COUNTS", "Zoo", "canonical_zoo"]


@dataclass(frozen=True)
class Zoo(AnyZoo):
    """Networks as tensors, in memory.

    Attributes:
        networks: In float32 or float64, finite.
        trajectory: Training run of each network, (networks,) int64.
        step: Optimizer step at which it was taken, (networks,) int64.
        held_out: Whether its trajectory is kept from the flow, (networks,) bool; whole trajectories, never snapshots.
        form: A key of ``FORMS``.
        initial: Networks at initialization, one per trajectory, unaligned and never canonical; None where unknown.
        permutations: What alignment did to each network, indices per hidden group (networks, neurons), of nested ones
            (networks, parents, neurons); empty if nothing.
        aligned_to: The one network that alignment aimed at; None before alignment.
        record: Norms that canonicalization divided out, per scaling (networks, neurons); empty if none.
        metadata: Task, seed, provenance: JSON-serializable; ``init_std``, where known, is read by :attr:`init_std`;
            networks of steps before ``first_step``, where given, are of the :attr:`early_part`.

    Raises:
        ValueError: Parts that do not belong together, half precision, NaN or infinity; says which part, what was expected
            and what was found.
    """

    networks: Networks
    trajectory: Tensor
    step: Tensor
    held_out: Tensor
    form: str
    initial: Networks | None = None
    permutations: Permutations = field(default_factory=dict)
    aligned_to: Networks | None = None
    record: Scales = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_networks("networks", self.networks)
        if self.aligned_to is not None:
            check_networks("aligned_to", self.aligned_to)
            require_same_architecture(self.aligned_to.architecture, self.architecture, "Zoo: aligned_to", "the zoo")
        networks = len(self)
        check_labels(networks, self.trajectory, self.step, self.held_out)
        check_metadata(self.metadata)
        if self.form not in FORMS:
            raise ValueError(f"Zoo: form must be one of {sorted(FORMS)}, got {self.form!r}.")
        canonical = self.architecture.canonical
        if self.form != "sampled" and canonical != (self.form == "canonical"):
            kind = "canonical" if canonical else "ordinary"
            raise ValueError(
                f"Zoo: form {self.form} expected {'ordinary' if canonical else 'canonical'} networks, got {kind} ones."
            )
        check_permutations(self.architecture, networks, self.permutations)
        check_record(self.architecture, networks, self.record)
        if self.initial is not None:
            check_networks("initial", self.initial)
            check_initial(self.architecture, self.initial.architecture)
        check_places(self.trajectory, self.step, None if self.initial is None else len(self.initial))

    def __len__(self) -> int:
        return len(self.networks)

    @property
    def architecture(self) -> Architecture:
        """What a network is."""
        return self.networks.architecture

    @property
    def weights(self) -> Weights:
        """Stacked tensors, (networks, *shape)."""
        return self.networks.weights

    def __getitem__(self, index: Tensor | slice) -> Zoo:
        """Some of the networks; an index tensor, a mask or a slice."""
        part = object.__new__(Zoo)  # some of what was looked at need not be looked at again
        part.__dict__.update(
            self.__dict__,
            networks=self.networks[index],
            trajectory=self.trajectory[index],
            step=self.step[index],
            held_out=self.held_out[index],
            permutations={name: tensor[index] for name, tensor in self.permutations.items()},
            record={name: tensor[index] for name, tensor in self.record.items()},
        )
        return part

    def select(self, index: Tensor | slice) -> Zoo:
        """The same as indexing."""
        return self[index]

    def whole(self) -> Zoo:
        """This zoo itself."""
        return self

    def initial_of(self, index: Tensor) -> Networks:
        """Initial networks of the trajectories of some networks, in those networks' neuron order.

        Raises:
            ValueError: The zoo does not know its initial weights.
        """
        if self.initial is None:
            raise ValueError("Zoo: initial weights are unknown; use coupling: independent or ot.")
        return permute(self.initial[self.trajectory[index]], {name: p[index] for name, p in self.permutations.items()})


COUNTS = ("zero_norm_neurons", "nearly_dead_neurons")
"""What a canonical zoo's metadata count over all its networks."""


def canonical_zoo(zoo: Zoo, norm: str = NORMS[0]) -> Zoo:
    """A zoo with its scaling symmetries removed, and the network it was aligned to likewise.

    ``metadata`` gains the manifold's factors, the number of neurons whose incoming norm was too small to divide by, and of
    those whose norm is far below their layer's.

    Args:
        zoo: Ordinary networks.
        norm: Which norm of incoming weights becomes one, see :func:`~wflib.symmetry.canonicalize`.
    """
    result = canonicalize(zoo.networks, norm)
    facts = {
        "manifold": weight_manifold(result.networks.architecture).describe(),
        **{name: getattr(result, name) for name in COUNTS},
    }
    return replace(
        zoo,
        networks=result.networks,
        aligned_to=canonicalize(zoo.reference, norm).networks,
        record=result.record,
        form="canonical",
        metadata={**zoo.metadata, **facts},
    )
