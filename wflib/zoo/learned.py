"""Which of the pipeline's zoos a flow learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wflib.architecture import Architecture
from wflib.zoo.base import AnyZoo
from wflib.zoo.checks import require_same_architecture
from wflib.zoo.stored import load_zoo

__all__ = ["learned_zoo", "zoo_of_flow"]


def learned_zoo(geometry: str, aligned: Path, canonical: Path) -> tuple[Path, str]:
    """File and form of the zoo that flows of a geometry learn, as ``load_zoo`` takes them."""
    return (aligned, "aligned") if geometry == "euclidean" else (canonical, "canonical")


def zoo_of_flow(
    file: Path,
    geometry: str,
    architecture: Architecture,
    aligned: Path,
    canonical: Path,
    read: Callable[[Path, str], AnyZoo] = load_zoo,
) -> Any:
    """The zoo that a flow of some geometry and architecture has learned, refused where its coordinates are others.

    In memory, unless ``read`` is ``open_zoo``.
    """
    path, form = learned_zoo(geometry, aligned, canonical)
    zoo = read(path, form)
    require_same_architecture(zoo.architecture, architecture, f"{path}", f"{file}")
    return zoo
