"""Networks to files: one of stacked tensors, or a folder with one for each network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from wflib.architecture import Architecture, Weights
from wflib.networks.names import listed
from wflib.storage import atomic_folder, atomic_path, save_artifact, separate

__all__ = ["file_names", "save_networks"]

RESERVED = {"architecture", "format", "kind", "names"}


def save_networks(
    path: Path, architecture: Architecture, weights: Weights, names: Sequence[str] | None, metadata: Mapping[str, Any]
) -> None:
    """Write networks as :meth:`wflib.networks.Networks.save` says.

    Args:
        path: Its suffix chooses the form.
        architecture: Of every network.
        weights: Tensors (networks, *shape).
        names: Of networks.
        metadata: JSON-serializable.

    Raises:
        ValueError: No networks, a name that cannot be written, or metadata that cannot; nothing is written.
    """
    count, suffix = len(next(iter(weights.values()))), path.suffix.lower()
    check(path, count, metadata)
    header = {**metadata, "architecture": architecture.to_json()}
    if suffix == ".safetensors":
        save_artifact(path, "networks", weights, header | ({"names": list(names)} if names else {}))
    elif suffix in (".pt", ".pth"):
        with atomic_path(path) as temporary:
            # Clones, since torch writes the whole memory that a view looks into.
            torch.save({name: tensor.clone() for name, tensor in separate(weights).items()}, temporary)
    else:
        with atomic_folder(path) as temporary:
            for index, name in enumerate(file_names(count)):
                one = header | ({"names": [names[index]]} if names else {})
                save_artifact(temporary / name, "networks", {key: tensor[index] for key, tensor in weights.items()}, one)


def file_names(count: int) -> list[str]:
    """Names of files in a folder: in alphabetical order, networks are in their own."""
    digits = max(4, len(str(count - 1)))
    return [f"network-{index:0{digits}d}.safetensors" for index in range(count)]


def check(path: Path, count: int, metadata: Mapping[str, Any]) -> None:
    if count == 0:
        raise ValueError(f"{path}: there are no networks to save.")
    if reserved := RESERVED & set(metadata):
        raise ValueError(f"{path}: metadata keys {sorted(reserved)} are reserved; rename them.")
    try:
        json.dumps(dict(metadata))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: metadata must be what JSON can hold; {error}.") from error
    if blocked := next((parent for parent in path.absolute().parents if parent.exists() and not parent.is_dir()), None):
        raise ValueError(f"{path}: expected {blocked} to be a folder, found a file; choose another place.")
    if path.suffix and path.suffix.lower() not in (".safetensors", ".pt", ".pth"):
        raise ValueError(
            f"{path}: expected a name that ends in .safetensors, .pt or .pth for one file, or has no suffix for a folder; "
            f"got {path.suffix}."
        )
    if path.suffix and path.is_dir():
        raise ValueError(f"{path}: expected the name of a file, found a folder of that name; choose another.")
    if not path.suffix and path.is_file():
        raise ValueError(f"{path}: expected the name of a folder, found a file of that name; choose another.")
    if not path.suffix and path.is_dir() and (present := sorted(inner.name for inner in path.iterdir())):
        raise ValueError(f"{path}: the folder holds files already ({listed(present, 3)}); name a new or an empty one.")
