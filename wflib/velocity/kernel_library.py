"""The library of kernels for edges: compiled for the machine it runs on, and kept in the user's cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pooch

from wflib.storage import atomic_path
from wflib.velocity.edge_functions import EPSILON, keys_per_head

__all__ = ["build_kernels", "compiler"]

SOURCE = Path(__file__).with_name("edge_kernels.cpp")
# Not -ffast-math: a library linked with it changes how the whole process rounds small numbers.
FLAGS = [
    *("-std=c++17", "-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-pthread"),
    # Apple's compilers know their own processors, and older ones refuse to be told.
    *([] if (sys.platform, platform.machine()) == ("darwin", "arm64") else ["-march=native"]),
]


def compiler() -> list[str]:
    """The C++ compiler's command, which CXX may name."""
    return shlex.split(os.environ.get("CXX", "")) or ["clang++" if sys.platform == "darwin" else "g++"]


@functools.cache
def build_kernels(dimension: int, heads: int) -> ctypes.CDLL:
    """Compile the kernels, or find them compiled before.

    Args:
        dimension: Features of a node and of an edge, d; it and twice the width of queries and keys are multiples of 16.
        heads: Attention heads.

    Returns:
        Functions of ``edge_kernels.cpp``.

    Raises:
        RuntimeError: There is no C++ compiler, it fails, or what it makes cannot be kept or loaded.
    """
    sizes = {"DIMENSION": dimension, "HEADS": heads, "KEYS": keys_per_head(dimension, heads), "EPSILON": EPSILON}
    command = [*compiler(), *FLAGS, *(f"-D{name}={value}" for name, value in sizes.items())]
    remedy = "name one that takes the options of g++ in CXX, or set training.compile: false"
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"training.compile needs a C++ compiler, and {command[0]!r} was not found; {remedy}.")
    folder = Path(pooch.os_cache("wflib")) / "kernels"
    try:
        # What the compiler predefines tells its version and the processor it compiles for.
        asked = [*command, "-dM", "-E", "-x", "c++", os.devnull]
        defined = subprocess.run(asked, capture_output=True, check=True).stdout
        path = folder / f"{hashlib.sha256(SOURCE.read_bytes() + defined + shlex.join(command).encode()).hexdigest()[:20]}.so"
        if not path.exists():
            with atomic_path(path) as temporary:
                subprocess.run([*command, str(SOURCE), "-o", str(temporary)], capture_output=True, check=True)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-2000:]
        raise RuntimeError(f"training.compile: {command[0]} cannot compile {SOURCE.name}; {remedy}.\n{said}") from error
    except OSError as error:
        raise RuntimeError(
            f"training.compile: kernels cannot be kept in {folder} or loaded from there ({error}); delete what is in it, "
            "name another cache folder in XDG_CACHE_HOME, or set training.compile: false."
        ) from error
