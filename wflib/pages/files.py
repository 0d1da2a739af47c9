"""Files of a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wflib.storage import atomic_path

__all__ = ["Contents", "save_page"]

Contents = Mapping[str, bytes]
"""Endings of files, such as ``.md``, or names of files in a folder → what they hold."""


def save_page(out: Path, contents: Contents) -> None:
    """Write a page.

    Args:
        out: Its files without their endings, or the folder of files that have names.
        contents: Files.
    """
    for name, content in contents.items():
        with atomic_path(out.with_name(out.name + name) if name.startswith(".") else out / name) as temporary:
            temporary.write_bytes(content)
