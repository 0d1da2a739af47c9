"""Flat vectors in HDF5: one data set ``dataset`` (networks, D), of all weights and then of all biases.

Weights lie (inputs, outputs) in some files and (outputs, inputs) in others; nothing in the file tells, so the user must.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from wflib.architecture import Architecture, mlp
from wflib.networks.names import listed
from wflib.zoo.sources.base import BrokenFileError, Contents, Request, Source, given, native, require

__all__ = ["HDF5"]


class HDF5(Source):
    """See the module."""

    name = "hdf5"
    what = "flat vectors in HDF5, all weights and then all biases (needs pip install wflib[hdf5])"
    chunk = 1024

    def recognizes(self, path: Path) -> bool:
        """A file that ends in .h5 or .hdf5."""
        return path.is_file() and path.suffix.lower() in (".h5", ".hdf5")

    def contents(self, request: Request) -> Contents:
        """One row a vector, each a run of its own."""
        with opened(request.path) as file:
            count = len(data_set(request.path, file))
        rows = {"run": [str(n) for n in range(count)], "step": 0, "initial": False, "place": np.arange(count)}
        return Contents(pd.DataFrame(rows))

    def load(self, request: Request, places: Sequence[int]) -> Mapping[str, Tensor]:
        """Vectors cut by the architecture's shapes."""
        architecture = self.architecture(request, Contents(pd.DataFrame()), {})
        require(request, request.config.orientation is not None, "nothing says how weights lie", "orientation")
        with opened(request.path) as file:
            vectors = np.asarray(data_set(request.path, file)[list(places)])
        if vectors.shape[1] != architecture.dimension:
            raise ValueError(
                f"{request.path}: expected vectors of {architecture.dimension} numbers for {architecture.inputs} inputs and "
                f"widths {[group.size for group in architecture.groups[1:]]}, found {vectors.shape[1]}; "
                f"change zoo.read.layers."
            )
        flat, found, start = native(vectors), {}, 0
        for name, shape in sorted(architecture.shapes, key=lambda one: len(one[1]) < 2):
            width = int(np.prod(shape))
            turned = request.config.orientation == "in-out" and len(shape) == 2
            part = flat[:, start : start + width].reshape(-1, *(shape[::-1] if turned else shape))
            found[name], start = (part.mT if turned else part).contiguous(), start + width
        return {name: found[name] for name, _ in architecture.shapes}

    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """A perceptron of the asked-for widths and activation, or the user's own."""
        if request.architecture is not None:
            return request.architecture
        config = request.config
        layers = given(request, config.layers, "flat vectors say no widths", "layers")
        activation = given(request, request.activation, "flat vectors say no activation", "activation")
        return mlp(list(layers), activation, config.task_type or "classification")


def opened(path: Path) -> Any:
    """An HDF5 file to read.

    Raises:
        ValueError: The package h5py is missing.
        BrokenFileError: A damaged file.
    """
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f"{path}: HDF5 files need the package h5py: pip install wflib[hdf5].") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise BrokenFileError(f"{path}: expected an HDF5 file, found a damaged one ({error}); copy it again.") from error


def data_set(path: Path, file: Any) -> Any:
    """The vectors, which lie in the file itself and are no larger than it.

    Raises:
        BrokenFileError: None of this name and shape, links to other files, or more numbers than the file can hold.
    """
    import h5py

    link = file.get("dataset", getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file["dataset"], h5py.Dataset):
        seen = "a link to elsewhere" if isinstance(link, (h5py.ExternalLink, h5py.SoftLink)) else listed(file) or "nothing"
        raise BrokenFileError(f"{path}: expected the data set 'dataset' in the file, found {seen}.")
    found = file["dataset"]
    if found.external or found.is_virtual:
        raise BrokenFileError(f"{path}: its data set takes numbers from other files, which are not read; copy them into it.")
    if found.ndim != 2 or found.dtype.kind != "f" or found.dtype.itemsize > 8:
        raise BrokenFileError(f"{path}: expected (networks, weights) of floats, found {found.shape} of {found.dtype}.")
    size = path.stat().st_size
    if found.id.get_storage_size() > size or (found.size * found.dtype.itemsize > 20 * size):
        raise BrokenFileError(
            f"{path}: declares {found.size:,} numbers, more than its {size:,} bytes hold; it was not read."
        )
    return found
