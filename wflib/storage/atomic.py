"""Atomic writing: a file is either the old one or the whole new one, a folder complete or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_folder", "atomic_path", "readable", "require_writable"]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well and vanishes when it does not.

    Args:
        path: The file to write; its folder is made.

    Yields:
        Where to write.

    Raises:
        OSError: Its folder cannot be made or written, or it is a folder itself; says so.
    """
    path = Path(path)
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        require_no_folder(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        readable(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its name when the block ends well and vanishes when it does not.

    Args:
        path: The folder to make; its parent is made, an empty folder of that name is replaced.

    Yields:
        Where to write files.

    Raises:
        OSError: Its parent cannot be made or written; says so.
    """
    path = Path(path).resolve()
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        readable(temporary)
        if path.is_dir():
            path.rmdir()
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_writable(path: str | Path) -> None:
    """Refuse a place where :func:`atomic_path` could not write, before the work whose result goes there; makes nothing.

    Args:
        path: The file to write.

    Raises:
        OSError: Its folder cannot be made or written, or it is a folder itself; says so.
    """
    path = Path(path)
    with refusals(path):  # a trial, since permissions do not say what a file system lets happen
        tempfile.TemporaryFile(dir=nearest(path)).close()
        require_no_folder(path)


def require_no_folder(path: Path) -> None:
    """Refuse the name of a folder for a file, which would be told after the file is written."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """What a folder does not let happen in a sentence that names it, not the temporary file in it.

    Raises:
        OSError: Of the same kind.
    """
    try:
        yield
    except OSError as error:
        folder = nearest(path)
        found = (error.strerror or str(error)) if folder.is_dir() else "that is a file"
        raise type(error)(
            f"{path}: expected a place to write in the folder {folder}, found: {found}; choose another."
        ) from error


def nearest(path: Path) -> Path:
    """The folder that a path is in, or the nearest above it that is there."""
    return next(parent for parent in path.absolute().parents if os.path.exists(parent))  # which raises nothing


def readable(path: Path) -> None:
    """Give a temporary file or folder the permissions that new ones get."""
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask())


def umask() -> int:
    """Permissions that new files do not get; reading them means setting them."""
    found = os.umask(0)
    os.umask(found)
    return found
