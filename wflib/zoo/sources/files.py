"""Files of a zoo's folder: found, read within bounds, and never outside of the folder."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wflib.networks.beside import own_part
from wflib.networks.guards import refuse_expanded, refuse_no_file
from wflib.networks.names import listed
from wflib.networks.reading import StateFile, read_file, read_torch_file
from wflib.networks.states import check_floating, is_counter, plain_state
from wflib.storage import ArtifactError, load_tensors
from wflib.zoo.sources.base import BrokenFileError, Request

__all__ = [
    "is_shard_index",
    "read_json",
    "read_lines",
    "read_state",
    "read_table_text",
    "shard_files",
    "stacked_files",
    "state_of_content",
    "total_bytes",
    "untied",
]

LARGEST_TEXT = 64 * 2**20
"""Bytes of a file of settings or figures."""
LARGEST_ROW = 4096
"""Bytes of a row of a table."""


def read_text(path: Path) -> str:
    """A small text file.

    Raises:
        BrokenFileError: It cannot be read, or is giant.
    """
    try:
        refuse_no_file(path)
        if (size := path.stat().st_size) > LARGEST_TEXT:
            raise BrokenFileError(
                f"{path}: expected settings of at most {LARGEST_TEXT:,} bytes, found {size:,}; move it away."
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenFileError(f"{path}: expected text, found none that can be read ({error}).") from error


def read_json(path: Path) -> Any:
    """A JSON file's content.

    Raises:
        BrokenFileError: It is damaged.
    """
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise BrokenFileError(f"{path}: expected JSON, found damaged text ({error}); restore it.") from error


def read_lines(path: Path) -> tuple[list[Mapping[str, Any]], bool]:
    """A file of one JSON mapping a line, and whether its last line was cut off, as in a run that was killed.

    Raises:
        BrokenFileError: Another line is damaged.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    found: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
            if not isinstance(found[-1], dict):
                raise BrokenFileError(f"{path}: line {number}: expected a mapping, found {type(found[-1]).__name__}.")
        except (json.JSONDecodeError, RecursionError) as error:
            if number == len(lines):
                return found, True
            raise BrokenFileError(f"{path}: line {number}: expected JSON, found damaged text ({error}).") from error
    return found, False


def read_table_text(path: Path, rows: int) -> str:
    """A compressed table of so many rows, read as far as such a table can be long.

    Raises:
        BrokenFileError: It is damaged, or longer than its rows can be.
    """
    bound = LARGEST_ROW * (rows + 2)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(bound + 1)
        if len(content) > bound:
            raise BrokenFileError(
                f"{path}: expected a table of {rows:,} rows, at most {bound:,} bytes, found more when "
                f"unpacking; it was not read."
            )
        return content.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BrokenFileError(f"{path}: expected a table, found a damaged file ({error}).") from error


def is_shard_index(path: Path) -> bool:
    """Whether a file says in which shards a network's tensors lie."""
    return path.name.endswith((".safetensors.index.json", ".bin.index.json"))


def shard_files(path: Path) -> dict[Path, set[str]]:
    """The shards that an index names, all beside it, and which tensors it says are in each.

    Raises:
        BrokenFileError: No index, or it names files elsewhere.
    """
    content = read_json(path)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise BrokenFileError(f"{path}: expected a weight_map of tensors to files, found {type(places).__name__}.")
    names = sorted(set(places.values()))
    if outside := [name for name in names if Path(name).name != name or (path.parent / name).is_symlink()]:
        raise BrokenFileError(
            f"{path}: names files that do not lie beside it: {listed(outside, 3)}; nothing of it was read."
        )
    return {path.parent / name: {tensor for tensor, file in places.items() if file == name} for name in names}


def read_state(path: Path, key: str | None) -> StateFile:
    """One file's tensors: a state dict of torch or safetensors, shards by their index, or an artifact of ours.

    Raises:
        BrokenFileError: It cannot be read.
        ValueError: It holds something else than networks.
    """
    if not is_shard_index(path):
        return read_file(path, key) if path.suffix else StateFile(path, state_of_content(path, read_torch_file(path), key))
    tensors: dict[str, Tensor] = {}
    for shard, named in shard_files(path).items():
        refuse_no_file(shard)
        if shard.suffix == ".safetensors":
            try:
                part = load_tensors(shard, remedy="copy it again")[0]
            except ArtifactError as error:
                raise BrokenFileError(str(error)) from error
        else:
            content = read_torch_file(shard)
            part = state_of_content(shard, content, key)
            named -= {name for name in named - set(part) if is_counter(name, content.get(name))}
        if missing := named - set(part):
            raise BrokenFileError(f"{path}: says that {shard.name} holds {listed(sorted(missing))}, which it does not.")
        tensors |= {name: part[name] for name in sorted(named)}
    return StateFile(path, {name: tensor for name, tensor in tensors.items() if not is_counter(name, tensor)})


def state_of_content(path: Path, content: Any, key: str | None) -> dict[str, Tensor]:
    """The network in a checkpoint's content.

    Raises:
        ValueError: There is none; names the file.
    """
    try:
        tensors = plain_state(content, key)
        refuse_expanded(tensors)
        check_floating(tensors)
        return tensors
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without those that are the same memory as one before them, under another name."""
    found: dict[str, Tensor] = {}
    seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() == 0 or place not in seen:
            found[name] = tensor
        seen.add(place)
    return found


def stacked_files(paths: Sequence[Path], request: Request) -> dict[str, Tensor]:
    """One network's tensors (1, *shape), of one file, without what is known to be constants or tied.

    Raises:
        BrokenFileError: It cannot be read, or holds something else than a network.
        ValueError: Constants or tied tensors hold other numbers than the class says.
    """
    (path,) = paths
    try:
        tensors: Mapping[str, Tensor] = read_state(path, request.config.key).tensors
    except ValueError as error:
        raise BrokenFileError(str(error)) from error
    try:
        if request.architecture is not None:
            tensors = own_part(request.architecture, tensors, request.module)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    try:
        check_floating(tensors)
    except ValueError as error:
        raise BrokenFileError(f"{path}: {error}") from error
    return {name: tensor[None] for name, tensor in untied(tensors).items()}


def total_bytes(shapes: Sequence[tuple[int, ...]], count: int, dtype: torch.dtype) -> int:
    """Memory of so many networks."""
    return count * dtype.itemsize * sum(torch.Size(shape).numel() for shape in shapes)
