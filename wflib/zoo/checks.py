"""What a zoo's parts must be before anything is done with them: the sentences of :class:`wflib.zoo.Zoo`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.architecture.operations import Elementwise
from wflib.networks import Networks
from wflib.storage import rerun
from wflib.symmetry import identity
from wflib.tasks import Dataset

__all__ = [
    "check_initial",
    "check_labels",
    "check_metadata",
    "check_networks",
    "check_permutations",
    "check_places",
    "check_record",
    "require_same_architecture",
    "require_training_examples",
]

RESERVED = {"form", "architecture", "initial_architecture"}


def check_networks(what: str, networks: Networks) -> None:
    """Refuse networks in half precision, or that are not finite.

    Raises:
        ValueError: Says which networks, what was expected and what was found.
    """
    if not isinstance(networks, Networks):
        raise ValueError(f"Zoo: {what} expected Networks, got {type(networks).__name__}.")
    if networks.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"Zoo: {what}: expected torch.float32 or torch.float64, got {networks.dtype}; convert with .to(torch.float32)."
        )
    networks.require_finite(f"Zoo: {what}")


def check_initial(architecture: Architecture, initial: Architecture) -> None:
    """Refuse initial weights of other networks than a zoo's.

    Raises:
        ValueError: Names the tensors and shapes of both.
    """
    expected, found = (
        ", ".join(f"{name} {shape}" for name, shape in one.shapes) for one in (architecture.ordinary_form(), initial)
    )
    if expected != found:
        raise ValueError(f"Zoo: initial expected networks as the zoo's, {expected}; got {found}; give those they came from.")


def check_labels(networks: int, trajectory: Tensor, step: Tensor, held_out: Tensor) -> None:
    """Refuse labels of the wrong kind, or that split a trajectory.

    Raises:
        ValueError: Says which label, what was expected and what was found.
    """
    wanted = {"trajectory": (trajectory, torch.int64), "step": (step, torch.int64), "held_out": (held_out, torch.bool)}
    for name, (found, dtype) in wanted.items():
        if not isinstance(found, Tensor):
            raise ValueError(f"Zoo: {name} expected a tensor ({networks},) of {dtype}, got {type(found).__name__}.")
        if tuple(found.shape) != (networks,) or found.dtype != dtype:
            remedy = f"convert it with .to({dtype})" if found.shape == (networks,) else "give one entry for each network"
            raise ValueError(
                f"Zoo: {name} expected ({networks},) {dtype}, got {tuple(found.shape)} {found.dtype}; {remedy}."
            )
    split = torch.unique(torch.stack([trajectory, held_out.long()], 1), dim=0)
    if len(split) != len(torch.unique(trajectory)):
        raise ValueError("Zoo: a trajectory is partly held out; hold out whole trajectories.")


def check_places(trajectory: Tensor, step: Tensor, runs: int | None) -> None:
    """Refuse negative numbers, and trajectories without initial weights where there are such of ``runs`` ones.

    Raises:
        ValueError: Says which numbers, what was expected and what was found.
    """
    if not len(trajectory):
        return
    if runs is not None and not 0 <= int(trajectory.min()) <= int(trajectory.max()) < runs:
        raise ValueError(f"Zoo: trajectories must lie in 0 … {runs - 1}, one for each of the initial networks.")
    for name, found in (("trajectory", trajectory), ("step", step)):
        if int(found.min()) < 0:
            raise ValueError(f"Zoo: {name} expected numbers of at least 0, got {int(found.min())}; count from 0.")


def check_permutations(architecture: Architecture, networks: int, permutations: Mapping[str, Tensor]) -> None:
    """Refuse indices of other groups or networks, or that are no permutations.

    Raises:
        ValueError: Names the hidden group.
    """
    hidden = {group: tuple(indices.shape[1:]) for group, indices in identity(architecture, 0).items()}
    check_shapes("permutations", "hidden groups", networks, permutations, hidden)
    for group, indices in permutations.items():
        if indices.dtype != torch.int64 or not torch.equal(
            indices.sort(-1).values, torch.arange(indices.shape[-1], device=indices.device).expand_as(indices)
        ):
            raise ValueError(
                f"Zoo: permutations of {group} expected each neuron 0 … {indices.shape[-1] - 1} once for every network, in "
                f"torch.int64, got others in {indices.dtype}; take them from wflib.symmetry."
            )


def check_record(architecture: Architecture, networks: int, record: Mapping[str, Tensor]) -> None:
    """Refuse factors of other scalings or networks.

    Raises:
        ValueError: Names the scaling.
    """
    scalings = {scaling.name: (scaling.size,) for scaling in architecture.scalings}
    check_shapes("record", "scalings", networks, record, scalings)


def check_shapes(
    what: str, of: str, networks: int, found: Mapping[str, Tensor], known: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse tensors that are not (networks, *shape) of what is known by their names."""
    for name, tensor in found.items():
        if name not in known or tuple(tensor.shape) != (networks, *known[name]):
            raise ValueError(f"Zoo: {what} of {name} do not fit {networks} networks with {of} {known}.")


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse metadata that would overwrite a zoo file's own entries, or an ``init_std`` that is no deviation.

    Raises:
        ValueError: Names the key, what was expected and what was found.
    """
    if taken := RESERVED & set(metadata):
        raise ValueError(f"Zoo: metadata keys {sorted(taken)} are reserved; rename them.")
    first = metadata.get("first_step", 0)
    if not isinstance(first, int) or isinstance(first, bool):
        raise ValueError(
            "Zoo: metadata first_step expected the step from which on networks are none on the way to others, got "
            f"{first!r}; leave it out where all count."
        )
    declared = metadata.get("init_std")
    number = isinstance(declared, (int, float)) and not isinstance(declared, bool)
    if declared is not None and not (number and math.isfinite(declared) and declared > 0):
        raise ValueError(
            f"Zoo: metadata init_std expected the positive, finite deviation of initial weights, got {declared!r}; "
            "leave it out where it is unknown."
        )


def require_same_architecture(found: Architecture, expected: Architecture, what: str, whose: str) -> None:
    """Refuse networks that are not what others are, tensors of the same shapes notwithstanding.

    Args:
        found: Of the networks.
        expected: Of what they are to go with.
        what: The networks, the sentence's beginning.
        whose: What they are to go with.

    Raises:
        ValueError: Says what differs.
    """
    facts: dict[str, Callable[[Architecture], object]] = {
        "norm": lambda one: one.norm,
        "kind of task": lambda one: one.task_type,
        "sizes": lambda one: ", ".join(f"{group.name} {group.size}" for group in one.groups),
        "activations": lambda one: ", ".join(o.function for o in one.operations if isinstance(o, Elementwise)),
        "tensors": lambda one: ", ".join(spec.name for spec in one.tensors),
        "architecture": lambda one: one,
    }
    for name, fact in facts.items():
        if fact(found) != fact(expected):
            raise ValueError(
                f"{what}: expected the {name} of {whose}, {fact(expected)}, found {fact(found)}; take files of "
                "the same run: dvc repro."
            )


def require_training_examples(metadata: Mapping[str, Any], dataset: Dataset, path: str) -> None:
    """Refuse data whose training part is not the one that a zoo was trained on, whose test part may then be.

    Zoos that others have trained do not say what on, and take any.

    Args:
        metadata: Of the zoo.
        dataset: What it is to be used with.
        path: The zoo's file.

    Raises:
        ValueError: They are other examples, of another task or split.
    """
    known = metadata.get("training_examples")
    if known is not None and dataset.has_examples and known != dataset.train.fingerprint:
        raise ValueError(
            f"{path}: its networks were trained on other examples than the training part of the data (another task, or "
            f"another data.split), perhaps on its test part; {rerun('train-zoo')}, or give the data that they saw."
        )
