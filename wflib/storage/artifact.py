"""Artifacts: safetensors files whose header says what they are, checked on reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wflib.storage.atomic import atomic_path

__all__ = [
    "FORMAT_VERSION",
    "ArtifactError",
    "artifact_header",
    "header_text",
    "load_artifact",
    "load_tensors",
    "read_header",
    "require_same_kinds",
    "rerun",
    "save_artifact",
    "separate",
]

FORMAT_VERSION = 2
CHUNK = 2**22


class ArtifactError(ValueError):
    """A file that is missing, damaged or of another kind than expected; the message says which and what to rerun."""


def rerun(stage: str) -> str:
    """The remedy that errors about a stage's file name."""
    return f"rerun the stage that makes it: dvc repro --single-item --force {stage}"


def save_artifact(path: str | Path, kind: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata as one artifact, atomically.

    Args:
        path: File to write, by convention ``*.safetensors``.
        kind: What it holds: ``dataset``, ``zoo``, ``flow`` …
        tensors: Name → tensor; moved to the CPU.
        metadata: JSON-serializable facts needed to read the tensors alone.

    Raises:
        ArtifactError: A floating-point tensor holds NaN or infinity; nothing is written.
        ValueError: The metadata uses the reserved keys ``format`` or ``kind``, or is no JSON.
    """
    header = artifact_header(path, kind, metadata)
    refuse_non_finite(path, tensors, remedy="nothing was written; lower the learning rate or look at the input")
    with atomic_path(path) as temporary:
        save_file(separate(tensors), temporary, metadata=header)


def artifact_header(path: str | Path, kind: str, metadata: Mapping[str, Any]) -> dict[str, str]:
    """What an artifact's header holds, see :func:`save_artifact`; ``path`` is for errors.

    Raises:
        ValueError: The metadata uses the reserved keys ``format`` or ``kind``, or is no JSON.
    """
    if reserved := {"format", "kind"} & set(metadata):
        raise ValueError(f"{path}: metadata keys {sorted(reserved)} are reserved; rename them.")
    try:
        return {"wflib": json.dumps({"format": FORMAT_VERSION, "kind": kind, **metadata})}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected metadata that JSON can hold; {error}; nothing was written.") from error


def separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers, contiguous on the CPU; safetensors refuses tensors that share memory."""
    separated, storages = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        separated[name] = plain.clone() if storage in storages else plain
        storages.add(storage)
    return separated


def load_artifact(path: str | Path, kind: str, stage: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read and validate an artifact.

    Args:
        path: File to read.
        kind: The kind the caller needs.
        stage: The pipeline stage that makes the file, named in errors.

    Returns:
        Tensors on the CPU, and the metadata.

    Raises:
        ArtifactError: Missing or truncated file, no wflib header, wrong kind or version, NaN or infinity.
    """
    remedy = rerun(stage)
    if not Path(path).is_file():
        raise ArtifactError(f"{path}: expected a {kind} artifact, found no file; {remedy}.")
    tensors, header = load_tensors(path, remedy)
    found_kind, metadata = read_header(path, header, remedy)
    if found_kind != kind:
        raise ArtifactError(f"{path}: expected a {kind} artifact, found a {found_kind} one; {remedy}.")
    refuse_non_finite(path, tensors, remedy=remedy)
    return tensors, metadata


def load_tensors(path: str | Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of any safetensors file, on the CPU, and its header.

    Args:
        path: File to read.
        remedy: What the error tells to do.

    Returns:
        Tensors by name, and the header's text by key.

    Raises:
        ArtifactError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: expected a safetensors file, found a damaged one ({error}); {remedy}.") from error


def header_text(path: str | Path) -> dict[str, str]:
    """The header of any safetensors file, without its tensors.

    Raises:
        ArtifactError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: expected a safetensors file, found a damaged one ({error}).") from error


def read_header(path: str | Path, header: Mapping[str, str], remedy: str) -> tuple[str, dict[str, Any]]:
    """Kind and metadata out of an artifact's header.

    Args:
        path: The file it comes from, for errors.
        header: As :func:`load_tensors` gives it.
        remedy: What the error tells to do.

    Returns:
        The kind, and the metadata.

    Raises:
        ArtifactError: No wflib header, or one of another version.
    """
    try:
        metadata = json.loads(header["wflib"])
        kind, version = str(metadata.pop("kind")), metadata.pop("format")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: expected a wflib header, found {sorted(header) or 'none'}; {remedy}.") from error
    if version != FORMAT_VERSION:
        raise ArtifactError(f"{path}: expected format version {FORMAT_VERSION}, found {version}; {remedy}.")
    return kind, metadata


def refuse_non_finite(path: str | Path, tensors: Mapping[str, Tensor], remedy: str) -> None:
    for name, tensor in tensors.items():
        parts = tensor.flatten().split(CHUNK)  # the whole at once would take as much memory as the tensor does
        if tensor.is_floating_point() and not all(bool(torch.isfinite(part).all()) for part in parts):
            count = int((~torch.isfinite(tensor)).sum())
            raise ArtifactError(f"{path}: expected finite numbers, found {count} NaN or infinite ones in {name}; {remedy}.")


def require_same_kinds(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse integers for floating-point numbers and the reverse, which ``load_state_dict`` would convert.

    Raises:
        ValueError: Names the tensor, what was expected and what was found.
    """
    for name, tensor in expected.items():
        if name in found and found[name].is_floating_point() != tensor.is_floating_point():
            raise ValueError(f"{name} expected {tensor.dtype}, found {found[name].dtype}")
