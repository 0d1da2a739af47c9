"""What a file of somebody else's declares, checked against its size before memory is taken for it."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["BrokenFileError", "declared_content", "refuse_expanded", "refuse_more_than_held", "refuse_no_file"]

LARGEST_PICKLE = 64 * 2**20
"""Bytes of a torch file's own description: names and shapes, never numbers."""


class BrokenFileError(ValueError):
    """A file that cannot be read at all, which ``skip_broken`` leaves out."""


def refuse_no_file(path: Path) -> None:
    """Refuse pipes, sockets and devices, whose reading may never end, and links that lead nowhere.

    Raises:
        BrokenFileError: It is no file.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return
        found = "something that is none, such as a pipe"
    except OSError as error:  # a link to itself, or a folder that cannot be entered
        found = f"none that can be read ({error.strerror})"
    raise BrokenFileError(f"{path}: expected a file, found {found}; move it away.")


def refuse_more_than_held(path: Path) -> None:
    """Refuse torch files that declare more bytes than they have.

    Torch writes zip files without compression, so that what their table of contents declares cannot be more than the file.
    Files of the old format say the sizes of their tensors in a pickle, which is read without taking memory for the tensors.

    Args:
        path: A torch file.

    Raises:
        BrokenFileError: It declares more than it has, or its description alone is giant; says how much.
    """
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        storages = {s._cdata: s for s in (t.untyped_storage() for t in tensors_in(declared_content(path)))}
        declared = sum(storage.nbytes() for storage in storages.values())
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                inside = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise BrokenFileError(f"{path}: expected a torch file, found a damaged zip file ({error}).") from error
        declared = sum(item.file_size for item in inside)
        described = sum(item.file_size for item in inside if item.filename.endswith(".pkl"))
        if described > LARGEST_PICKLE:
            raise BrokenFileError(
                f"{path}: expected a description of at most {LARGEST_PICKLE:,} bytes, found one of "
                f"{described:,}; it was not "
                "read."
            )
    if declared > size:
        raise BrokenFileError(
            f"{path}: declares {declared:,} bytes of numbers, but the file has {size:,}; it was not read. "
            f"Torch writes files "
            "without compression: save the state dict again with torch.save."
        )


def declared_content(path: Path) -> Any:
    """What a torch file holds, with tensors that have shapes and types but no memory; nothing of it is run.

    Raises:
        Exception: Whatever torch says of files that it cannot read.
    """
    from torch._subclasses import FakeTensorMode  # slow to import, and only files of the old format need it

    with FakeTensorMode():
        return torch.load(path, map_location="cpu", weights_only=True)


def tensors_in(content: Any) -> Iterator[Tensor]:
    """Dense tensors in nested mappings and sequences, each of which is looked into once."""
    pending, seen = [content], set()
    while pending:
        content = pending.pop()
        if isinstance(content, Tensor) and content.layout == torch.strided:
            yield content
        elif isinstance(content, (Mapping, list, tuple)) and id(content) not in seen:
            seen.add(id(content))
            pending += content.values() if isinstance(content, Mapping) else content


def refuse_expanded(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that show the numbers they hold several times over, as a giant one of a single number.

    Raises:
        ValueError: Names them.
    """
    for name, tensor in tensors.items():
        if tensor.layout == torch.strided and tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, but holds {tensor.untyped_storage().nbytes():,} "
                f"bytes; save it with "
                ".contiguous()."
            )
