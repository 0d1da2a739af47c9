"""Small CNN Zoo (Unterthiner et al. 2020, arXiv 2002.11448): one row of numbers a network.

``weights.npy`` (networks, 4970) stays on disk but for the rows that are read, ``layout.csv`` says what its columns are
(of each layer the bias first; kernels (height, width, inputs, outputs)), ``metrics.csv.gz`` has a row for each network.
"""

from __future__ import annotations

import ast
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks.names import natural_order
from wflib.zoo.sources.base import (
    BrokenFileError,
    Contents,
    Request,
    Source,
    canonical_figures,
    given,
    native,
    only_activation,
)
from wflib.zoo.sources.files import read_table_text
from wflib.zoo.sources.shapes import convolutional

__all__ = ["SmallCNNZoo"]

MOST_TENSORS = 1000
SIDES = {"mnist": 28, "fashion_mnist": 28, "cifar10": 32, "svhn_cropped": 32}
"""Folder of the published zoo → side of its images."""


class SmallCNNZoo(Source):
    """See the module."""

    name = "small-cnn-zoo"
    what = "Small CNN Zoo (Unterthiner et al.): weights.npy, layout.csv, metrics.csv.gz"
    chunk = 1024

    def recognizes(self, path: Path) -> bool:
        """A folder with ``weights.npy`` and ``layout.csv``."""
        return path.is_dir() and (path / "weights.npy").is_file() and (path / "layout.csv").is_file()

    def contents(self, request: Request) -> Contents:
        """One row a network, from the table of figures."""
        count = len(memory_map(request.path / "weights.npy"))
        file = next((f for f in (request.path / name for name in ("metrics.csv.gz", "metrics.csv")) if f.is_file()), None)
        if file is None:
            raise ValueError(f"{request.path}: expected metrics.csv.gz beside weights.npy, found none; copy it, too.")
        try:
            table = pd.read_csv(io.StringIO(read_table_text(file, count)))
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise BrokenFileError(f"{file}: expected a table, found a damaged one ({error}).") from error
        needed = ("step", "modeldir", "config.activation")
        if len(table) != count or not set(needed) <= set(table):
            raise ValueError(
                f"{file}: expected {count} rows, as weights.npy has, with columns {', '.join(needed)}; found "
                f"{len(table)} with "
                f"{', '.join(map(str, table.columns[:8]))}."
            )
        steps = pd.to_numeric(table["step"], errors="coerce")
        counts = (steps >= 0) & (steps < 2**53) & (steps % 1 == 0)
        if not counts.all():
            wrong = table["step"][~counts].iloc[0]
            raise BrokenFileError(f"{file}: expected steps that count from 0, found {wrong!r}.")
        figures = pd.DataFrame(
            [canonical_figures(row) for row in table.filter(regex="_(loss|accuracy)$").to_dict("records")]
        )
        rows = pd.DataFrame({
            "run": table["modeldir"].astype(str), "step": steps.astype(int), "initial": steps == 0,
            "place": np.arange(count), "activation": table["config.activation"].astype(str),
        })  # fmt: skip
        found = Contents(pd.concat([rows, figures], axis=1), {"reference": "Unterthiner et al. 2020, arXiv 2002.11448"})
        found.facts["settings"] = {"config.activation": only_activation(request, found)}
        return found

    def load(self, request: Request, places: Sequence[int]) -> Mapping[str, Tensor]:
        """Rows cut by the layout, with axes in torch's order."""
        vectors = np.asarray(memory_map(request.path / "weights.npy")[list(places)])
        found: dict[str, Tensor] = {}
        for name, (where, shape) in layout(request.path / "layout.csv", vectors.shape[1]).items():
            tensor = native(vectors[:, where]).view(len(places), *shape)
            found[name] = (
                tensor.permute(0, *range(tensor.ndim - 1, tensor.ndim - 3, -1), *range(1, tensor.ndim - 2))
                if tensor.ndim > 2
                else tensor
            )
        return {name: found[name].contiguous() for name in sorted(found, key=natural_order)}

    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """Convolutions of stride two without padding, means, a linear layer."""
        channels = next(tensor for tensor in first.values() if tensor.ndim == 5).shape[2]
        side = SIDES.get(request.path.resolve().name)
        known = request.inputs or (None if side is None else (channels, side, side))
        inputs = given(request, known, f"the folder is none of {', '.join(SIDES)}, whose images are known", "inputs")
        count = sum(tensor.ndim == 5 for tensor in first.values())
        activation = contents.facts["settings"]["config.activation"]
        strides, paddings, pools = ((number,) * count for number in (2, 0, 1))
        return convolutional(first, inputs, activation, strides=strides, paddings=paddings, pools=pools, mean=True)


def memory_map(path: Path) -> np.ndarray:
    """The table of weights, on disk.

    Raises:
        BrokenFileError: It is damaged, shortened, or holds other things than numbers.
    """
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        said = " ".join(str(error).split())
        raise BrokenFileError(
            f"{path}: expected a table of numbers, found a damaged file or objects ({said}); copy it again."
        ) from error
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.floating) or found.dtype.itemsize > 8:
        raise BrokenFileError(f"{path}: expected (networks, weights) of floats, found {found.shape} of {found.dtype}.")
    return found


def layout(path: Path, columns: int) -> dict[str, tuple[slice, tuple[int, ...]]]:
    """Tensor → its columns and shape, named as torch names them: ``layers.0.weight``, ….

    Raises:
        BrokenFileError: Columns that do not fit shapes, or shapes that are no numbers.
    """
    found: dict[str, tuple[slice, tuple[int, ...]]] = {}
    try:
        table: Any = pd.read_csv(io.StringIO(read_table_text(path, MOST_TENSORS)))
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise BrokenFileError(f"{path}: expected a table, found a damaged one ({error}).") from error
    if not {"varname", "start_idx", "end_idx", "shape"} <= set(table):
        raise BrokenFileError(
            f"{path}: expected columns varname, start_idx, end_idx, shape, found {', '.join(table.columns)}."
        )
    layers = {name: None for name in (re.sub(r"/?(kernel|bias)(:0)?$", "", str(v)) for v in table["varname"])}
    numbers = {name: index for index, name in enumerate(layers)}
    for row in table.itertuples():
        try:
            shape = ast.literal_eval(str(row.shape))
            shape = tuple(int(size) for size in (shape if isinstance(shape, tuple) else (shape,)))
            where = slice(int(row.start_idx), int(row.end_idx))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            raise BrokenFileError(
                f"{path}: {row.varname}: expected a shape such as (3, 3, 16, 16), got {row.shape!r}."
            ) from error
        if math.prod(shape) != where.stop - where.start or not 0 <= where.start < where.stop <= columns or min(shape) < 1:
            raise BrokenFileError(
                f"{path}: {row.varname}: columns {where.start} to {where.stop} of {columns} do not hold shape {shape}."
            )
        layer = numbers[re.sub(r"/?(kernel|bias)(:0)?$", "", str(row.varname))]
        found[f"layers.{layer}.{'bias' if 'bias' in str(row.varname) else 'weight'}"] = where, shape
    ends = sorted((where.start, where.stop) for where, _ in found.values())
    if len(found) < len(table) or [0, *(stop for _, stop in ends)] != [*(start for start, _ in ends), columns]:
        raise BrokenFileError(f"{path}: expected tensors that take each of {columns} columns once, found others or gaps.")
    return found
