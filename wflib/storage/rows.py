"""Rows of safetensors files larger than memory: read where they lie, written one part after another.

Rows are read from their places in a file, not mapped: pages of a mapped file count as the process's memory.

>>> from tempfile import TemporaryDirectory
>>> folder = TemporaryDirectory()
>>> with RowWriter(folder.name) as writer:
...     for start in (0, 2):
...         writer.append({"x": torch.arange(start, start + 2)})
...     writer.finish(f"{folder.name}/rows.safetensors", {}, {})
>>> RowFile(f"{folder.name}/rows.safetensors", "write it again").read(["x"], torch.tensor([3, 0]))["x"]
tensor([3, 0])
>>> folder.cleanup()
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wflib.storage.artifact import ArtifactError, refuse_non_finite, separate

__all__ = ["RowFile", "RowFiles", "RowWriter"]

DTYPES = {
    "I64": torch.int64, "F64": torch.float64, "F32": torch.float32, "I32": torch.int32, "BF16": torch.bfloat16,
    "F16": torch.float16, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""As safetensors names them → as torch does, in the order in which it writes them: wide numbers first, so that all align."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}
ALIGNMENT = 8
"""Bytes of which a header is a whole number."""
COPIED = 2**24
"""Bytes that are copied at once."""


class RowFile:
    """The tensors of a safetensors file, of which rows are read on demand.

    Attributes:
        path: The file.
        header: Its text by key.
        tensors: Name → dtype, shape, and where in the file it begins.

    Args:
        path: A file; nothing of it stays open.
        remedy: What errors tell to do.

    Raises:
        ArtifactError: The file is not there, damaged or shortened, or holds numbers of another kind.
    """

    def __init__(self, path: str | Path, remedy: str) -> None:
        self.path, self.remedy = Path(path), remedy
        if not self.path.is_file():
            raise ArtifactError(f"{path}: expected a safetensors file, found no file; {remedy}.")
        try:
            with safe_open(self.path, framework="pt") as file:  # which checks that all bytes are there
                self.header: dict[str, str] = file.metadata() or {}
            with self.path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                described = json.loads(file.read(size))
            described.pop("__metadata__", None)
            self.tensors = {
                name: (DTYPES[one["dtype"]], tuple(one["shape"]), 8 + size + one["data_offsets"][0])
                for name, one in described.items()
            }
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{path}: expected a safetensors file, found a damaged one ({error}); {remedy}.") from error
        except KeyError as error:
            raise ArtifactError(f"{path}: expected numbers of {', '.join(DTYPES)}, found {error}; {remedy}.") from error

    def read(self, names: Iterable[str], rows: Tensor, finite: bool = True) -> dict[str, Tensor]:
        """Some rows of some tensors, (rows, …) each.

        Args:
            names: Of tensors that have rows.
            rows: Their indices, in any order, repeated or not, (rows,) int64, within each tensor.
            finite: Whether NaN and infinity are refused.

        Raises:
            ArtifactError: NaN or infinity in what was read, or a file that became shorter.
        """
        wanted, places = torch.unique(rows, return_inverse=True)
        breaks = (wanted.diff() != 1).nonzero().flatten() + 1
        runs = list(zip([0, *breaks.tolist()], [*breaks.tolist(), len(wanted)], strict=True)) if len(wanted) else []
        in_order = torch.equal(places, torch.arange(len(places)))
        found = {}
        with self.path.open("rb", buffering=0) as file:
            for name in names:
                dtype, shape, begin = self.tensors[name]
                tensor = torch.empty(len(wanted), *shape[1:], dtype=dtype)
                width = tensor[:1].nbytes
                memory = tensor.view(-1).view(torch.uint8).numpy().data if width else memoryview(b"")
                for start, end in runs if width else ():
                    self.fill(file, memory[start * width : end * width], begin + int(wanted[start]) * width)
                found[name] = tensor if in_order else tensor[places]
        if finite:
            refuse_non_finite(self.path, found, remedy=self.remedy)
        return found

    def fill(self, file: FileIO, memory: memoryview, place: int) -> None:
        """Bytes from a place in the file on."""
        file.seek(place)
        done = 0
        while done < len(memory):
            read = file.readinto(memory[done : done + COPIED])
            if not read:
                raise ArtifactError(
                    f"{self.path}: expected {place + len(memory):,} bytes, found {place + done:,}; {self.remedy}."
                )
            done += read

    def fingerprint(self) -> str:
        """SHA-256 of kinds, first and last rows of all tensors, by which a file in another's place is told apart."""
        digest = hashlib.sha256(repr(sorted(self.kinds.items())).encode())
        for _, tensor in sorted(self.read(self.tensors, torch.tensor([0, self.rows - 1])).items()):
            digest.update(bytes(tensor.view(-1).view(torch.uint8).numpy()) if tensor.numel() else b"")
        return digest.hexdigest()

    @property
    def kinds(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Name → dtype and shape of a row."""
        return {name: (dtype, shape[1:]) for name, (dtype, shape, _) in self.tensors.items()}

    @property
    def rows(self) -> int:
        """How many rows the tensors of a file have, all of whose tensors have as many."""
        return next((shape[0] for _, shape, _ in self.tensors.values() if shape), 0)


@dataclass(frozen=True)
class RowFiles:
    """Files whose rows follow one another.

    Attributes:
        files: In order; each with the same tensors, at least one file.
        prefix: Names of tensors begin with one of these; others are no rows.
    """

    files: tuple[RowFile, ...]
    prefix: tuple[str, ...] = ("",)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of tensors that have rows."""
        return tuple(name for name in self.files[0].tensors if name.startswith(self.prefix))

    @cached_property
    def ends(self) -> Tensor:
        """How many rows there are up to the end of each file."""
        return torch.tensor([file.tensors[self.names[0]][1][0] for file in self.files]).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, rows: Tensor, names: Iterable[str] | None = None, finite: bool = True) -> dict[str, Tensor]:
        """Some rows of all tensors, or of those named, (rows, …) each; see :meth:`RowFile.read`."""
        names = self.names if names is None else tuple(names)
        where = torch.bucketize(rows, self.ends, right=True)
        owners: list[int] = where.unique().tolist() or [0]
        if len(owners) == 1:
            return self.files[owners[0]].read(names, rows - self.starts[owners[0]], finite)
        found: dict[str, Tensor] = {}
        for owner in owners:
            ours = where == owner
            for name, tensor in self.files[owner].read(names, rows[ours] - self.starts[owner], finite).items():
                found.setdefault(name, tensor.new_empty(len(rows), *tensor.shape[1:]))[ours] = tensor
        return found

    @cached_property
    def starts(self) -> Tensor:
        """Number of each file's first row."""
        return torch.cat([self.ends.new_zeros(1), self.ends[:-1]])


class RowWriter:
    """Collects rows on disk, tensor by tensor, until they become one file.

    Attributes:
        rows: How many there are so far.

    Args:
        folder: Where rows wait; what is left of them is removed in the end.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self.rows = Path(folder), 0
        self.waiting: dict[str, tuple[torch.dtype, tuple[int, ...], BinaryIO]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    def append(self, tensors: Mapping[str, Tensor]) -> None:
        """More rows of every tensor, (rows, …) each, of the same dtypes and shapes as before.

        Raises:
            ArtifactError: NaN or infinity.
            ValueError: Other tensors than before.
        """
        refuse_non_finite(self.folder, tensors, remedy="nothing was written; leave those networks out")
        kinds = {name: (tensor.dtype, tuple(tensor.shape[1:])) for name, tensor in tensors.items()}
        known = {name: (dtype, shape) for name, (dtype, shape, _) in self.waiting.items()}
        if (known and known != kinds) or len({len(tensor) for tensor in tensors.values()}) != 1:
            raise ValueError(f"RowWriter: expected as many rows of each of {known or 'some tensors'}, got {kinds}.")
        for number, (name, tensor) in enumerate(separate(tensors).items()):
            if not known:
                file = (self.folder / f".{id(self)}-{number}").open("w+b")
                self.waiting[name] = (*kinds[name], file)
            if tensor.numel():
                self.waiting[name][2].write(tensor.view(-1).view(torch.uint8).numpy().data)
        self.rows += len(next(iter(tensors.values())))

    def finish(self, path: str | Path, others: Mapping[str, Tensor], header: Mapping[str, str], *more: RowWriter) -> None:
        """Write all rows as one file, byte for byte what ``safetensors.torch.save_file`` writes, and forget them.

        Args:
            path: The file.
            others: Tensors beside the rows.
            header: Text by key.
            more: Writers whose rows become tensors of the same file.
        """
        sources: dict[str, tuple[torch.dtype, tuple[int, ...], BinaryIO | Tensor]] = {}
        for writer in (self, *more):
            sources |= {name: (dtype, (writer.rows, *shape), file) for name, (dtype, shape, file) in writer.waiting.items()}
        sources |= {name: (tensor.dtype, tuple(tensor.shape), tensor) for name, tensor in separate(others).items()}
        order = sorted(sources, key=lambda name: (list(NAMES).index(sources[name][0]), name))
        described: dict[str, object] = {"__metadata__": dict(header)} if header else {}
        end = 0
        for name in order:
            dtype, shape, _ = sources[name]
            begin, end = end, end + dtype.itemsize * torch.Size(shape).numel()
            described[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        with Path(path).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                source = sources[name][2]
                if isinstance(source, Tensor):
                    file.write(source.view(-1).view(torch.uint8).numpy().data)
                else:
                    source.seek(0)
                    shutil.copyfileobj(source, file, COPIED)
            file.flush()
            os.fsync(file.fileno())
        for writer in (self, *more):
            writer.discard()

    def discard(self) -> None:
        """Forget the rows that wait."""
        for _, _, file in self.waiting.values():
            file.close()
            Path(file.name).unlink(missing_ok=True)
        self.waiting, self.rows = {}, 0
