"""ModelZoos (Schürholt et al. 2022, arXiv 2209.14764) and WeightCLIP: a folder of ray-tune for each model.

A folder with checkpoints is a model: ``params.json`` has its settings, ``result.json`` a line of figures for each epoch,
``checkpoint_5/checkpoints`` (or ``checkpoint_000005``) a state dict without a suffix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks.names import listed, natural_order
from wflib.networks.reading import require_text
from wflib.zoo.sources.base import BrokenFileError, Contents, Request, Source, canonical_figures, only_activation, require
from wflib.zoo.sources.files import read_json, read_lines, stacked_files
from wflib.zoo.sources.leaving_out import BROKEN
from wflib.zoo.sources.shapes import convolutional

__all__ = ["ARCHITECTURE", "CHECKPOINT", "ModelZoo", "models"]

CHECKPOINT = re.compile(r"checkpoint_([0-9]+)")
ARCHITECTURE = "wflib::architecture"
"""Key of ``params.json`` in zoos that wflib has written."""
SIZES = {
    "CNN": {"side": 28, "strides": (1, 1, 1), "paddings": (0, 0, 0), "pools": (2, 2, 1), "mean": False},
    "CNN3": {"side": 32, "strides": (1, 1, 1), "paddings": (0, 0, 0), "pools": (2, 2, 2), "mean": False},
}
"""``model::type`` → what its tensors do not say."""


class ModelZoo(Source):
    """See the module."""

    name = "modelzoo"
    what = "ModelZoos and WeightCLIP: ray-tune folders with params.json and checkpoint_<n>/checkpoints"

    def recognizes(self, path: Path) -> bool:
        """Some folder has ``checkpoint_<n>/checkpoints``."""
        return path.is_dir() and next(models(path, "checkpoints"), None) is not None

    def contents(self, request: Request) -> Contents:
        """One row a checkpoint."""
        common = first_of(request.path, ("config.json",))
        rows, found = [], Contents(pd.DataFrame(), {"reference": "Schürholt et al. 2022, arXiv 2209.14764"})
        for folder, steps in models(request.path, "checkpoints"):
            name = folder.relative_to(request.path).as_posix()
            try:
                settings = first_of(folder, ("params.json", "config.json")) or common or {}
                figures, cut = results(folder, steps)
            except BrokenFileError:
                if not request.config.skip_broken:
                    raise
                found.leave_out(BROKEN, [name])
                continue
            found.leave_out("last lines of result.json that were cut off", [name] if cut else [])
            kind, activation = settings.get("model::type"), settings.get("model::nlin")
            if ARCHITECTURE in settings:
                kind, activation = settings[ARCHITECTURE], "that of its architecture"
            for step, place in steps.items():
                labels = {"run": name, "step": step, "initial": step == 0, "place": place}
                labels |= {"kind": str(kind), "activation": activation}
                rows.append(labels | figures.get(step, {}))
        if not rows:
            raise ValueError(
                f"{request.path}: expected folders with checkpoint_<n>/checkpoints, found none that can be read."
            )
        found.rows = pd.DataFrame(rows)
        found.facts["settings"] = {"model::nlin": only_activation(request, found)}
        if bare := preprocessed(request.path):
            found.leave_out("preprocessed collections, which pickle classes of their own", bare)
        return found

    def load(self, request: Request, places: Sequence[Path]) -> Mapping[str, Tensor]:
        """A checkpoint's state dict."""
        return stacked_files(places, request)

    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """CNN-s and CNN-l by ``model::type``, with ``model::nlin``; others are the user's to say."""
        kind = contents.rows["kind"].iloc[0]
        if kind.startswith("{"):
            return Architecture.from_json(kind)
        require(
            request,
            kind in SIZES,
            f"model::type is {kind}, whose layers' wiring no file says (known are {listed(SIZES)})",
            "module",
        )
        sizes: dict[str, Any] = dict(SIZES[kind])
        side, channels = sizes.pop("side"), next(t for t in first.values() if t.ndim == 5).shape[2]
        settings = contents.facts["settings"]
        settings["model::type"] = kind
        return convolutional(first, request.inputs or (channels, side, side), settings["model::nlin"], **sizes)


def models(path: Path, file: str) -> Iterator[tuple[Path, dict[int, Path]]]:
    """Folders with checkpoints → step → file, in natural order; links to folders are not followed.

    Yields:
        A folder, and its files by step.

    Raises:
        ValueError: A folder cannot be read, or a name is no text.
    """

    def refuse(error: OSError) -> None:
        raise ValueError(f"{error.filename}: expected a folder that can be read, {error.strerror}.") from error

    for root, folders, _ in os.walk(path, onerror=refuse):
        require_text(root, folders)
        folders[:] = sorted(
            (f for f in folders if not f.startswith(".") and not (Path(root) / f).is_symlink()), key=natural_order
        )
        numbered = {f: int(found[1]) for f in folders if (found := CHECKPOINT.fullmatch(f))}
        steps = {step: Path(root) / f / file for f, step in numbered.items() if (Path(root) / f / file).is_file()}
        if steps:
            yield Path(root), dict(sorted(steps.items()))
        folders[:] = [f for f in folders if f not in numbered]


def first_of(folder: Path, names: Sequence[str]) -> dict[str, Any] | None:
    """Settings of the first file there is.

    Raises:
        BrokenFileError: It is damaged.
    """
    for name in names:
        if (folder / name).is_file():
            content = read_json(folder / name)
            return content if isinstance(content, dict) else None
    return None


def results(folder: Path, steps: Mapping[int, Path]) -> tuple[dict[int, dict[str, float]], bool]:
    """Checkpoint → figures of merit: the line of its epoch, lines being numbered from epoch 0 on where that was written."""
    if not (folder / "result.json").is_file():
        return {}, False
    lines, cut = read_lines(folder / "result.json")
    numbers = [line.get("training_iteration", line.get("epoch")) for line in lines]
    if not all(isinstance(number, int) for number in numbers):
        numbers = list(range(1, len(lines) + 1))
    if 0 in steps and numbers[:1] == [1] and len(lines) > max(steps):
        numbers = list(range(len(lines)))
    return {number: canonical_figures(line) for number, line in zip(numbers, lines, strict=True)}, cut


def preprocessed(path: Path) -> list[str]:
    """Collections in one file, made by other people's code."""
    return sorted(file.name for file in path.glob("dataset*.pt"))
