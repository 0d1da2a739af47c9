"""A zoo: many networks of one architecture as whole tensors, with where each of them comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wflib.architecture import NORMS, Architecture, Weights
from wflib.manifold import weight_manifold
from wflib.networks import Networks
from wflib.storage import ArtifactError, load_artifact, rerun, save_artifact
from wflib.symmetry import Permutations, Scales, canonicalize, permute
from wflib.zoo.checks import (
    check_initial,
    check_labels,
    check_metadata,
    check_networks,
    check_permutations,
    check_record,
    require_same_architecture,
)

__all__ = ["FORMS", "Zoo", "canonical_zoo", "load_zoo", "save_zoo"]

FORMS = {"trained": "train-zoo", "aligned": "align", "canonical": "canonicalize", "sampled": "sample"}
"""What was done to a zoo → the stage that does it."""


@dataclass(frozen=True)
class Zoo:
    """Networks as tensors.

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
        metadata: Task, seed, provenance: JSON-serializable; ``init_std``, where known, is read by :attr:`init_std`.

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
            runs = len(self.initial)
            if networks and not 0 <= int(self.trajectory.min()) <= int(self.trajectory.max()) < runs:
                raise ValueError(f"Zoo: trajectories must lie in 0 … {runs - 1}, one for each of the initial networks.")
        for name in ("trajectory", "step"):
            found = getattr(self, name)
            if networks and int(found.min()) < 0:
                raise ValueError(f"Zoo: {name} expected numbers of at least 0, got {int(found.min())}; count from 0.")

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
        return replace(
            self,
            networks=self.networks[index],
            trajectory=self.trajectory[index],
            step=self.step[index],
            held_out=self.held_out[index],
            permutations={name: tensor[index] for name, tensor in self.permutations.items()},
            record={name: tensor[index] for name, tensor in self.record.items()},
        )

    @property
    def init_std(self) -> float | None:
        """Declared standard deviation of initial weights, ``metadata["init_std"]``; None where unknown."""
        return self.metadata.get("init_std")

    @property
    def training_part(self) -> Zoo:
        """Networks a flow may learn from."""
        return self[~self.held_out]

    @property
    def held_out_part(self) -> Zoo:
        """Networks of trajectories no flow sees."""
        return self[self.held_out]

    def require_both_parts(self, who: str) -> None:
        """Refuse a zoo without networks to learn from, or without held-out ones to be judged by.

        Args:
            who: Who asks, the sentence's beginning.

        Raises:
            ValueError: Says which part is missing, and the remedy.
        """
        held_out, networks = int(self.held_out.sum()), len(self)
        if not networks:
            raise ValueError(f"{who}: expected a zoo with networks, found none.")
        if held_out in (0, networks):
            found = "all" if held_out else "none"
            raise ValueError(
                f"{who}: expected a zoo with some trajectories held out and others not, found {found} of {networks} "
                "networks held out; set zoo.held_out between 0 and 1 and train at least two trajectories, or choose "
                "held_out in wflib.zoo.zoo_from_networks."
            )

    @property
    def last_snapshots(self) -> Zoo:
        """The last network of every trajectory, in order of trajectories."""
        order = torch.argsort(self.step, stable=True)
        order = order[torch.argsort(self.trajectory[order], stable=True)]
        counts = torch.unique_consecutive(self.trajectory[order], return_counts=True)[1]
        return self[order[counts.cumsum(0) - 1]]

    @property
    def reference(self) -> Networks:
        """The one network that samples are aligned to: ``aligned_to``, else the first trajectory's end."""
        return self.last_snapshots[:1].networks if self.aligned_to is None else self.aligned_to

    def initial_of(self, index: Tensor) -> Networks:
        """Initial networks of the trajectories of some networks, in those networks' neuron order.

        Raises:
            ValueError: The zoo does not know its initial weights.
        """
        if self.initial is None:
            raise ValueError("Zoo: initial weights are unknown; use coupling: independent or ot.")
        return permute(self.initial[self.trajectory[index]], {name: p[index] for name, p in self.permutations.items()})


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
        "zero_norm_neurons": result.zero_norm_neurons,
        "nearly_dead_neurons": result.nearly_dead_neurons,
    }
    return replace(
        zoo,
        networks=result.networks,
        aligned_to=canonicalize(zoo.reference, norm).networks,
        record=result.record,
        form="canonical",
        metadata={**zoo.metadata, **facts},
    )


def require_distinct(zoo: Zoo) -> None:
    """Refuse a zoo without networks, or with two of the same trajectory and step, as no file of one shall be."""
    if not len(zoo):
        raise ValueError("Zoo: expected at least one network, found none")
    places, counts = torch.unique(torch.stack([zoo.trajectory, zoo.step], 1), dim=0, return_counts=True)
    if int(counts.max()) > 1:
        trajectory, step = places[counts.argmax()].tolist()
        raise ValueError(
            f"Zoo: expected one network for each trajectory and step, found {int(counts.max())} of trajectory {trajectory} "
            f"at step {step}; number them apart"
        )


def save_zoo(path: str | Path, zoo: Zoo) -> None:
    """Write a zoo artifact.

    Args:
        path: File to write.
        zoo: At least one network, and one for each trajectory and step.

    Raises:
        ValueError: The zoo is empty or has duplicates; nothing is written.
    """
    try:
        require_distinct(zoo)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; nothing was written.") from error
    tensors = {f"weights.{name}": tensor for name, tensor in zoo.weights.items()}
    tensors |= {"trajectory": zoo.trajectory, "step": zoo.step, "held_out": zoo.held_out}
    for what in ("initial", "aligned_to"):
        if (networks := getattr(zoo, what)) is not None:
            tensors |= {f"{what}.{name}": tensor for name, tensor in networks.weights.items()}
    tensors |= {f"permutations.{name}": tensor for name, tensor in zoo.permutations.items()}
    tensors |= {f"record.{name}": tensor for name, tensor in zoo.record.items()}
    metadata = {"form": zoo.form, "architecture": zoo.architecture.to_json(), **zoo.metadata}
    if zoo.initial is not None:
        metadata["initial_architecture"] = zoo.initial.architecture.to_json()
    save_artifact(path, "zoo", tensors, metadata)


def load_zoo(path: str | Path, form: str) -> Zoo:
    """Read a zoo artifact and check that it is what the caller needs.

    Weights come as float32, whatever precision they were written in: that is what flows compute in.

    Args:
        path: File to read.
        form: Expected form, a key of ``FORMS``.

    Returns:
        The zoo.

    Raises:
        ArtifactError: The file is damaged, of another form, or its tensors do not fit its architecture.
    """
    tensors, metadata = load_artifact(path, "zoo", stage=FORMS[form])
    remedy = rerun(FORMS[form])
    found = metadata.pop("form", None)
    if found != form:
        raise ArtifactError(f"{path}: expected a zoo of form {form}, found {found}; {remedy}.")
    try:
        architecture = Architecture.from_json(metadata.pop("architecture"))
        tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        initial, aligned_to = (with_prefix(tensors, f"{name}.") for name in ("initial", "aligned_to"))
        zoo = Zoo(
            networks=Networks(architecture, with_prefix(tensors, "weights.")),
            trajectory=tensors["trajectory"],
            step=tensors["step"],
            held_out=tensors["held_out"],
            form=form,
            initial=Networks(Architecture.from_json(metadata.pop("initial_architecture")), initial) if initial else None,
            permutations=with_prefix(tensors, "permutations."),
            aligned_to=Networks(architecture, aligned_to) if aligned_to else None,
            record=with_prefix(tensors, "record."),
            metadata=metadata,
        )
        require_distinct(zoo)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        message = f"expected {error}, found none" if isinstance(error, KeyError) else str(error).removesuffix(".")
        raise ArtifactError(f"{path}: {message}; {remedy}.") from error
    return zoo


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
