"""The library of kernels for edges of given sizes."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from wflib.compiled import NoKernels, library
from wflib.velocity.edge_functions import EPSILON, keys_per_head

__all__ = ["build_kernels"]

SOURCE = Path(__file__).with_name("edge_kernels.cpp")


@functools.cache
def build_kernels(dimension: int, heads: int) -> ctypes.CDLL:
    """Compile the kernels, or find them compiled before.

    Args:
        dimension: Features of a node and of an edge, d; it and twice the width of queries and keys are multiples of 16.
        heads: Attention heads.

    Returns:
        Functions of ``edge_kernels.cpp``.

    Raises:
        NoKernels: There is no C++ compiler, it fails, or what it makes cannot be kept or loaded.
    """
    sizes = {"DIMENSION": dimension, "HEADS": heads, "KEYS": keys_per_head(dimension, heads), "EPSILON": EPSILON}
    try:
        return library(SOURCE, *(f"{name}={value}" for name, value in sizes.items()))
    except NoKernels as error:
        raise NoKernels(f"training.compile: {error}\nWithout kernels, set training.compile: false.") from error
