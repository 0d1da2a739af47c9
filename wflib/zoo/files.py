"""A zoo's file: everything in one safetensors file. Larger ones are folders of such, see :mod:`wflib.zoo.stored`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks import Networks
from wflib.storage import ArtifactError, load_artifact, rerun, save_artifact
from wflib.zoo.base import FORMS
from wflib.zoo.zoo import Zoo

__all__ = ["ROWS", "facts_of", "file_errors", "load_zoo_file", "require_distinct", "save_zoo", "with_prefix"]

ROWS = ("weights.", "permutations.", "record.")
"""What names of tensors with a row for each network begin with."""


def require_distinct(trajectory: Tensor, step: Tensor) -> None:
    """Refuse a zoo without networks, or with two of the same trajectory and step, as no file of one shall be."""
    if not len(trajectory):
        raise ValueError("Zoo: expected at least one network, found none")
    places, counts = torch.unique(torch.stack([trajectory, step], 1), dim=0, return_counts=True)
    if int(counts.max()) > 1:
        run, when = places[counts.argmax()].tolist()
        raise ValueError(
            f"Zoo: expected one network for each trajectory and step, found {int(counts.max())} of trajectory {run} "
            f"at step {when}; number them apart"
        )


def facts_of(
    form: str, architecture: Architecture, initial: Architecture | None, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """What a zoo's header says beside kind and format."""
    facts = {"form": form, "architecture": architecture.to_json(), **metadata}
    return facts | ({} if initial is None else {"initial_architecture": initial.to_json()})


def save_zoo(path: str | Path, zoo: Zoo) -> None:
    """Write a zoo artifact, one file.

    Args:
        path: File to write.
        zoo: At least one network, and one for each trajectory and step.

    Raises:
        ValueError: The zoo is empty or has duplicates; nothing is written.
    """
    try:
        require_distinct(zoo.trajectory, zoo.step)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; nothing was written.") from error
    tensors = {f"weights.{name}": tensor for name, tensor in zoo.weights.items()}
    tensors |= {"trajectory": zoo.trajectory, "step": zoo.step, "held_out": zoo.held_out}
    for what in ("initial", "aligned_to"):
        if (networks := getattr(zoo, what)) is not None:
            tensors |= {f"{what}.{name}": tensor for name, tensor in networks.weights.items()}
    tensors |= {f"permutations.{name}": tensor for name, tensor in zoo.permutations.items()}
    tensors |= {f"record.{name}": tensor for name, tensor in zoo.record.items()}
    initial = None if zoo.initial is None else zoo.initial.architecture
    save_artifact(path, "zoo", tensors, facts_of(zoo.form, zoo.architecture, initial, zoo.metadata))


@contextmanager
def file_errors(path: str | Path, form: str) -> Iterator[None]:
    """What is wrong with a zoo's parts as an error that names the file and the stage to rerun.

    Raises:
        ArtifactError: In place of other errors.
    """
    try:
        yield
    except ArtifactError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        message = f"expected {error}, found none" if isinstance(error, KeyError) else str(error).removesuffix(".")
        raise ArtifactError(f"{path}: {message}; {rerun(FORMS[form])}.") from error


def require_form(path: str | Path, found: object, form: str) -> None:
    """Refuse a zoo of another form.

    Raises:
        ArtifactError: Names both forms.
    """
    if found != form:
        raise ArtifactError(f"{path}: expected a zoo of form {form}, found {found}; {rerun(FORMS[form])}.")


def load_zoo_file(path: str | Path, form: str) -> Zoo:
    """The zoo of one file; arguments and errors of :func:`~wflib.zoo.load_zoo`."""
    tensors, metadata = load_artifact(path, "zoo", stage=FORMS[form])
    require_form(path, metadata.pop("form", None), form)
    with file_errors(path, form):
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
        require_distinct(zoo.trajectory, zoo.step)
    return zoo


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin so, named by the rest."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
