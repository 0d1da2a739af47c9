"""G.pt (Peebles et al. 2022, arXiv 2209.12892): an LMDB folder for each run, or for several.

A key ``000123/ep003_it00120.pt`` holds a flat vector in float32, the same with ``_arch`` the sizes of its tensors;
``runs.json`` holds losses, and errors in percent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks.names import listed
from wflib.zoo.sources.base import (
    BrokenFileError,
    Contents,
    Request,
    Source,
    as_tensor,
    canonical_figures,
    ordered_runs,
    require,
)
from wflib.zoo.sources.files import read_json
from wflib.zoo.sources.shapes import convolutional, perceptron

__all__ = ["GPT"]

KEY = re.compile(r"(?P<run>.+)/ep(?P<epoch>[0-9]{1,15})_it(?P<iteration>[0-9]{1,15})\.pt")
CIFAR = ((16, 3, 3, 3), (32, 16, 3, 3), (10, 32), (10,))
CIFAR_NAMES = ("conv1.weight", "conv2.weight", "fc.weight", "fc.bias")
LARGEST_VECTOR = 2**31
MAPPED = 2**28
"""Bytes that are read before databases are opened anew: their pages, which are mapped, count as memory until then."""


class GPT(Source):
    """See the module."""

    name = "gpt"
    what = "G.pt: LMDB folders with data.mdb and runs.json (needs pip install wflib[gpt])"

    def __init__(self) -> None:
        self.opened: dict[Path, Any] = {}
        self.mapped = 0

    def recognizes(self, path: Path) -> bool:
        """A ``data.mdb`` in it or in a folder of it."""
        return path.is_dir() and next(databases(path), None) is not None

    def contents(self, request: Request) -> Contents:
        """One row a checkpoint, from keys alone; ``step`` counts a run's checkpoints, beside ``epoch`` and ``iteration``."""
        found = Contents(pd.DataFrame(), {"reference": "Peebles et al. 2022, arXiv 2209.12892"})
        rows, keys, unknown = [], [], []
        for folder in ordered_runs(databases(request.path)):
            try:
                keys = self.keys(folder)
                figures = run_figures(folder)
            except BrokenFileError:
                if not request.config.skip_broken:
                    raise
                found.leave_out("files that cannot be read", [folder.relative_to(request.path).as_posix()])
                continue
            self.close()  # going through keys maps pages all over the file
            for key in keys:
                if (match := KEY.fullmatch(key)) is None:
                    if not key.endswith("_arch"):
                        unknown.append(key)
                    continue
                labels = {"run": match["run"], "step": 0, "initial": False, "place": (folder, key)}
                labels |= {"epoch": int(match["epoch"]), "iteration": int(match["iteration"])}
                rows.append(labels | figures.get(key, {}))
        own_names(rows, request.path)
        found.leave_out("keys that name no checkpoint", unknown)
        if not rows:
            raise ValueError(
                f"{request.path}: expected keys such as 000123/ep003_it00120.pt, found {listed(keys, 3) or 'none'}."
            )
        table = pd.DataFrame(rows).sort_values(["run", "epoch", "iteration"], kind="stable", ignore_index=True)
        table["step"] = table.groupby("run").cumcount()
        table["initial"] = table["step"] == 0
        found.rows = table
        return found

    def environment(self, folder: Path) -> Any:
        """An open database.

        Raises:
            ValueError: The package lmdb is missing.
            BrokenFileError: A damaged or shortened file.
        """
        if folder not in self.opened:
            try:
                import lmdb
            except ImportError as error:
                raise ValueError(f"{folder}: G.pt's files need the package lmdb: pip install wflib[gpt].") from error
            try:
                opened = lmdb.open(str(folder), readonly=True, lock=False, create=False, readahead=False, max_readers=1)
            except lmdb.Error as error:
                raise BrokenFileError(f"{folder}/data.mdb: expected an LMDB file, found a damaged one ({error}).") from error
            needed = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
            if (size := (folder / "data.mdb").stat().st_size) < needed:
                opened.close()
                raise BrokenFileError(f"{folder}/data.mdb: expected {needed:,} bytes, found {size:,}; copy it again.")
            while len(self.opened) >= 8:  # each holds a file and an address range
                self.opened.pop(next(iter(self.opened))).close()
            self.opened[folder] = opened
        return self.opened[folder]

    def close(self) -> None:
        """Give back the pages of all databases."""
        while self.opened:
            self.opened.popitem()[1].close()
        self.mapped = 0

    def keys(self, folder: Path) -> list[str]:
        """All keys of a database."""
        with self.environment(folder).begin() as transaction, transaction.cursor() as cursor:
            return [bytes(key).decode("utf-8", "replace") for key in cursor.iternext(values=False)]

    def load(self, request: Request, places: Sequence[tuple[Path, str]]) -> Mapping[str, Tensor]:
        """A checkpoint's vector, cut as its sizes say."""
        ((folder, key),) = places
        if self.mapped > MAPPED:
            self.close()
        with self.environment(folder).begin(buffers=True) as transaction:
            vector, sizes = (numbers(folder, name, transaction.get(name.encode())) for name in (key, f"{key}_arch"))
        self.mapped += vector.nbytes
        whole = [int(size) if math.isfinite(size) and 0 < size < LARGEST_VECTOR else 0 for size in sizes.tolist()]
        if not whole or min(whole) < 1 or sum(whole) != len(vector):
            raise BrokenFileError(
                f"{folder}: {key}_arch says sizes {listed(sizes.tolist(), 6)}, but the vector has {len(vector)} numbers."
            )
        shapes = shapes_of(whole)
        if shapes is None:
            return {"vector": as_tensor(vector)[None], "sizes": as_tensor(sizes)[None]}
        parts = np.split(vector, np.cumsum(whole)[:-1])
        return {name: as_tensor(part).view(1, *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """Perceptrons, and the collection's convolutional network; both with ReLU, as their authors trained them."""
        known = "sizes" not in first
        sizes = [] if known else first["sizes"][0].long().tolist()
        require(
            request,
            known,
            f"tensors of sizes {sizes} are neither a perceptron's nor G.pt's convolutional network's",
            "module",
        )
        activation = request.activation or "relu"
        if "conv1.weight" not in first:
            return perceptron(first, activation, request.config.task_type or "classification")
        strides, inputs = (2, 1), request.inputs or (3, 32, 32)
        return convolutional(first, inputs, activation, strides=strides, paddings=(1, 1), pools=(1, 1), mean=True)


def databases(path: Path) -> Iterator[Path]:
    """Folders with a ``data.mdb``: this one, or those in it."""
    if (path / "data.mdb").is_file():
        yield path
    else:
        yield from (file.parent for file in path.glob("*/data.mdb") if not file.parent.is_symlink())


def own_names(rows: list[dict[str, Any]], path: Path) -> None:
    """Put the folder before the name of a run that several databases have: their checkpoints are of different trainings."""
    homes: dict[str, set[Path]] = {}
    for row in rows:
        homes.setdefault(row["run"], set()).add(row["place"][0])
    for row in rows:
        if len(homes[row["run"]]) > 1:
            row["run"] = f"{row['place'][0].relative_to(path).as_posix()}/{row['run']}"


def run_figures(folder: Path) -> dict[str, dict[str, float]]:
    """Key → figures of merit, of one run or of several.

    Raises:
        BrokenFileError: ``runs.json`` is damaged or holds something else.
    """
    if not (folder / "runs.json").is_file():
        return {}
    content = read_json(folder / "runs.json")
    try:
        runs = [content] if "checkpoints" in content else list(content.values())
        figures = [one for run in runs for one in (run.get("checkpoints") or {}).items()]
        return {key: canonical_figures(of_key) for key, of_key in figures}
    except (AttributeError, TypeError) as error:
        raise BrokenFileError(
            f"{folder}/runs.json: expected checkpoints with figures of each, or runs with checkpoints, found others "
            f"({error}); restore it."
        ) from error


def numbers(folder: Path, key: str, value: Any) -> np.ndarray:
    """A value's numbers, in the database's memory.

    Raises:
        BrokenFileError: None is there, or no float32.
    """
    if value is None or len(value) % 4:
        found = "none" if value is None else f"{len(value)} bytes"
        raise BrokenFileError(f"{folder}: {key}: expected numbers in float32, found {found}.")
    return np.frombuffer(value, dtype="<f4")


def shapes_of(sizes: Sequence[int]) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of tensors of known sizes; None for other networks than G.pt's."""
    if list(sizes) == [math.prod(shape) for shape in CIFAR]:
        return dict(zip(CIFAR_NAMES, CIFAR, strict=True))
    weights, biases = sizes[::2], sizes[1::2]
    if len(weights) != len(biases) or any(weight % bias for weight, bias in zip(weights, biases, strict=True)):
        return None
    widths = [weights[0] // biases[0], *biases]
    if any(weight != wide * narrow for weight, (wide, narrow) in zip(weights, pairwise(widths), strict=True)):
        return None
    layers = enumerate(pairwise(widths), 1)
    return {
        f"fc{index}.{role}": shape
        for index, (wide, narrow) in layers
        for role, shape in (("weight", (narrow, wide)), ("bias", (narrow,)))
    }
