"""Libraries of kernels: compiled for the machine they run on, and kept in the user's cache folder."""

from __future__ import annotations

import ctypes
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

__all__ = ["NoKernels", "compiler", "library"]

HEADERS = Path(__file__).parent
# Not -ffast-math: a library linked with it changes how the whole process rounds small numbers.
FLAGS = [
    *("-std=c++17", "-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-pthread"),
    # Apple's compilers know their own processors, and older ones refuse to be told.
    *([] if (sys.platform, platform.machine()) == ("darwin", "arm64") else ["-march=native"]),
]
REMEDY = "name one that takes the options of g++ in CXX"
PATIENCE = 600.0
"""Seconds that a compiler may take."""


class NoKernels(RuntimeError):
    """There is no library of kernels; the message says why, and what to do."""


def compiler() -> list[str]:
    """The C++ compiler's command, which CXX may name."""
    return shlex.split(os.environ.get("CXX", "")) or ["clang++" if sys.platform == "darwin" else "g++"]


def library(source: Path, *definitions: str) -> ctypes.CDLL:
    """Compile kernels, or find them compiled before.

    Args:
        source: Their C++ file, which may include headers of this package and those beside it.
        *definitions: Macros, as ``NAME=value``.

    Returns:
        Their functions.

    Raises:
        NoKernels: There is no C++ compiler, it fails, or what it makes cannot be kept or loaded.
    """
    command = [*compiler(), *FLAGS, f"-I{HEADERS}", *(f"-D{definition}" for definition in definitions)]
    if shutil.which(command[0]) is None:
        raise NoKernels(f"a C++ compiler is needed, and {command[0]!r} was not found; {REMEDY}.")
    folder = Path(pooch.os_cache("wflib")) / "kernels"
    try:
        # What the compiler predefines tells its version and the processor it compiles for.
        defined = output([*command, "-dM", "-E", "-x", "c++", os.devnull])
        read = b"".join(file.read_bytes() for file in (source, *sorted((*HEADERS.glob("*.h"), *source.parent.glob("*.h")))))
        path = folder / f"{hashlib.sha256(read + defined + shlex.join(command).encode()).hexdigest()[:20]}.so"
        if not path.exists():
            with atomic_path(path) as temporary:
                output([*command, str(source), "-o", str(temporary)])
        return ctypes.CDLL(str(path))
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()[-2000:]
        raise NoKernels(f"{command[0]} cannot compile {source.name}; {REMEDY}.\n{said or error}") from error
    except OSError as error:
        raise NoKernels(
            f"kernels cannot be kept in {folder} or loaded from there ({error}); delete what is in it, or name "
            "another cache folder in XDG_CACHE_HOME."
        ) from error


def output(command: list[str]) -> bytes:
    """What a command prints.

    Raises:
        subprocess.SubprocessError: It fails, is killed, or does not end.
    """
    return subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE).stdout
