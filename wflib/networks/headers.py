"""What headers of our own files say of the networks in them; nothing that stands there is more than a file can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks.guards import BrokenFileError
from wflib.networks.names import listed
from wflib.storage import ArtifactError, read_header

__all__ = ["StateFile", "architecture_in", "described", "from_artifact", "header_of", "names_in"]

ELSEWHERE = {
    "flow": "draw networks from it: wflib.flow.draw_networks(wflib.flow.load_flow(path), 10)",
    "dataset": "networks that the pipeline draws are in data/networks.safetensors",
    "zoo-shard": "read the folder that it is in with wflib.zoo.load_zoo",
    "zoo-labels": "read the folder that it is in with wflib.zoo.load_zoo",
}
"""Kind of another artifact → where its networks are."""

ORDINARY = ("trained", "aligned")
"""Forms of zoos whose networks have no scale of outputs of their own."""


@dataclass(frozen=True)
class StateFile:
    """What one file holds.

    Attributes:
        path: The file.
        tensors: Of one network, or of stacked ones.
        architecture: Where its header says it.
        names: Of its networks, where its header says them.
        metadata: Of its header.
    """

    path: Path
    tensors: dict[str, Tensor]
    architecture: Architecture | None = None
    names: tuple[str, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def header_of(path: Path, header: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Kind and metadata out of a header of ours.

    Raises:
        BrokenFileError: It is damaged, or of another version.
    """
    try:
        return read_header(path, header, remedy="write it again with this version")
    except ArtifactError as error:
        raise BrokenFileError(str(error)) from error


def architecture_in(path: Path, text: Any) -> Architecture:
    """The architecture that a header says.

    Raises:
        BrokenFileError: It says none that can be; names the file.
    """
    try:
        return architecture_of(text)
    except Exception as error:  # what is damaged can be wrong in any way
        said = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise BrokenFileError(f"{path}: its header does not say what its networks are ({said}); write it again.") from error


@lru_cache(maxsize=64)
def architecture_of(text: str) -> Architecture:
    return Architecture.from_json(text)


def names_in(path: Path, names: Any) -> tuple[str, ...] | None:
    """The names of networks that a header says; None for none.

    Raises:
        BrokenFileError: Something else than a list of them.
    """
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise BrokenFileError(f"{path}: expected a list of names in its header, found {names!r}; write it again.")
    return tuple(names) if names else None


def from_artifact(path: Path, tensors: dict[str, Tensor], kind: str, metadata: dict[str, Any]) -> StateFile:
    """Networks of an artifact of ours.

    Raises:
        BrokenFileError: Its header is damaged.
        ValueError: It holds something else than networks.
    """
    if kind not in ("networks", "zoo"):
        remedy = ELSEWHERE.get(kind, "give a file of networks")
        raise ValueError(f"{path}: expected networks, found a {kind} artifact; {remedy}.")
    architecture = architecture_in(path, metadata.pop("architecture", None))
    names = names_in(path, metadata.pop("names", None))
    if kind == "zoo":
        if (form := metadata.get("form")) not in ORDINARY:
            raise ValueError(
                f"{path}: expected ordinary networks, found a zoo of form {form}, perhaps in a flow's own form; read it "
                "with wflib.zoo.load_zoo, or read the aligned zoo or data/networks.safetensors."
            )
        metadata.pop("initial_architecture", None)
        tensors = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
    return StateFile(path, tensors, architecture, names, metadata)


def described(architecture: Architecture) -> str:
    """An architecture for a sentence: all in which two could differ."""
    widths = "-".join(str(group.size) for group in architecture.groups)
    activations = "/".join(dict.fromkeys(layer.activation for layer in architecture.layers))
    return f"{widths} {activations} {architecture.task_type} with {listed(spec.name for spec in architecture.tensors)}"
