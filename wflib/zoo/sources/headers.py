"""Single networks that wflib has written, as ``Networks.save`` writes them to a folder: their headers say what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from wflib.architecture import Architecture
from wflib.architecture.operations import Elementwise
from wflib.networks.guards import refuse_no_file
from wflib.networks.headers import architecture_in, header_of, names_in
from wflib.networks.names import listed
from wflib.storage import header_text
from wflib.zoo.sources.base import Request

__all__ = ["Header", "header_in", "holds_one", "require_as_said"]


@dataclass(frozen=True)
class Header:
    """What the header of a file of networks says.

    Attributes:
        architecture: Of its networks.
        name: Of the one network, where it says one.
    """

    architecture: Architecture
    name: str | None


def header_in(path: Path) -> Header | None:
    """What a file's header says; None where it says nothing of networks, or is damaged, which is told when it is read."""
    if path.suffix.lower() != ".safetensors":
        return None
    try:
        refuse_no_file(path)
        text = header_text(path)
        kind, metadata = header_of(path, text) if "wflib" in text else ("", {})
        if kind != "networks":
            return None
        names = names_in(path, metadata.get("names")) or ()
        return Header(architecture_in(path, metadata.get("architecture")), names[0] if len(names) == 1 else None)
    except ValueError:
        return None


def holds_one(path: Path) -> bool:
    """Whether a file of ours holds one network, not stacked ones."""
    if (header := header_in(path)) is None:
        return False
    with safe_open(path, framework="pt") as file:
        there = set(file.keys())
        shapes = [(name, shape) for name, shape in header.architecture.shapes if name in there]
        return bool(shapes) and all(tuple(file.get_slice(name).get_shape()) == tuple(shape) for name, shape in shapes)


def require_as_said(path: Path, said: Architecture, request: Request) -> None:
    """Refuse settings that contradict what a header says.

    Raises:
        ValueError: Names the setting, and both.
    """
    functions, asked = functions_of(said), request.activation
    if asked is not None and functions and asked not in functions:
        raise ValueError(
            f"{path}: zoo.read.activation asks for networks of {asked}, its header says "
            f"{listed(sorted(functions))}; leave it out."
        )
    if request.config.task_type not in (None, said.task_type):
        raise ValueError(
            f"{path}: zoo.read.task_type asks for {request.config.task_type}, its header says "
            f"{said.task_type}; leave it out."
        )
    given = set() if request.architecture is None else functions_of(request.architecture)
    if given and functions and not given & functions:
        raise ValueError(
            f"{path}: the architecture or class that was given computes {listed(sorted(given))}, its header says "
            f"{listed(sorted(functions))}; leave it out to read the networks as they are."
        )


def functions_of(architecture: Architecture) -> set[str]:
    """Activations of an architecture, without those that change nothing."""
    found = {operation.function for operation in architecture.operations if isinstance(operation, Elementwise)}
    return found - {"identity"}
