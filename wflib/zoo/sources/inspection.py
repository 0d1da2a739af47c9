"""What a file or folder is, on a screen: looked at without being loaded whole."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from wflib.architecture import Architecture
from wflib.architecture.operations import Elementwise
from wflib.config import ReadConfig
from wflib.networks.names import listed
from wflib.storage import ArtifactError, header_text, read_header
from wflib.symmetry import Symmetries
from wflib.zoo.sources.assembly import assemble, with_one_architecture
from wflib.zoo.sources.base import LABELS
from wflib.zoo.sources.reading import asked, beginnings, recognized
from wflib.zoo.sources.selection import select

__all__ = ["Inspection", "inspect"]

SAMPLE = 64
"""Networks that are looked into for NaN and for broken files."""


@dataclass(frozen=True)
class Inspection:
    """What was found; ``str`` is a screen of text.

    Attributes:
        path: What was looked at.
        lines: Facts in reading order.
        architecture: What the networks are, None where it does not follow.
    """

    path: Path
    lines: tuple[tuple[str, str], ...]
    architecture: Architecture | None

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.lines)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in self.lines)


def inspect(
    path: str | Path,
    format: str = "auto",
    *,
    module: nn.Module | Any | None = None,
    config: ReadConfig | None = None,
) -> Inspection:
    """Look at a file or folder: format, architecture, networks, runs, figures of merit, symmetries, NaN in some networks.

    Args:
        path: File or folder.
        format: A key of ``FORMATS``, or ``auto``.
        module: An instance of the networks' class, or what makes one.
        config: Settings of reading.

    Raises:
        ValueError: Nothing is there, nothing of a known format, or no such format.
    """
    path, config = Path(path), replaced(config or ReadConfig())
    if (kind := artifact_kind(path)) is not None:
        return Inspection(path, (("path", str(path)), *kind), None)
    source = recognized(path, format, config.activation)()
    request = asked(path, config, module=module)
    lines = [("path", str(path)), ("size", size_text(path)), ("format", f"{source.name}: {source.what}")]
    try:
        contents = source.contents(request)
        rows = select(path, contents, config)
    except ValueError as error:
        return Inspection(path, (*lines, ("to read it", str(error))), None)
    lines += counted(rows, beginnings(contents, rows) is not None) + figures(rows)
    lines += [(name, str(value)) for name, value in contents.facts.items()]
    try:
        rows = with_one_architecture(source, request, contents, rows)
        some = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, SAMPLE).round().astype(int))].reset_index(drop=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            architecture, weights, kept = assemble(source, request, contents, some)
        looked = ("looked into", f"{len(some)} networks, {len(kept)} of them readable and finite")
        lines += [*described(architecture, weights), looked]
    except ValueError as error:
        lines.append(("to read it", str(error)))
        architecture = None
    lines += [("doubtful", doubt) for doubt in contents.doubts]
    lines += [("left out", f"{len(names)} {reason}: {listed(names, 3)}") for reason, names in contents.left_out.items()]
    return Inspection(path, tuple(lines), architecture)


def replaced(config: ReadConfig) -> ReadConfig:
    """The same, looking past broken files: they are counted."""
    return config.model_copy(update={"skip_broken": True, "precision": "as-is"})


def artifact_kind(path: Path) -> list[tuple[str, str]] | None:
    """Facts of an artifact of ours that holds no networks to read; None for all else."""
    if not path.is_file() or path.suffix != ".safetensors":
        return None
    try:
        header = header_text(path)
        if "wflib" not in header:
            return None
        kind, metadata = read_header(path, header, remedy="write it again")
    except ArtifactError as error:
        return [("to read it", str(error))]
    if kind in ("zoo", "networks") and metadata.get("form", "trained") in ("trained", "aligned"):
        return None
    facts = [
        (key, str(value)) for key, value in metadata.items() if isinstance(value, (str, int, float)) and len(str(value)) < 90
    ]
    return [("format", f"a wflib artifact: {kind}"), *facts]


def size_text(path: Path) -> str:
    """Files and bytes."""
    files = [path] if path.is_file() else [Path(root) / name for root, _, names in os.walk(path) for name in names]
    total = sum(file.lstat().st_size for file in files)
    return f"{len(files):,} files, {total / 1e6:,.1f} MB"


def counted(rows: pd.DataFrame, began: bool) -> list[tuple[str, str]]:
    """Networks, runs and steps, and whether it is known what all runs began with."""
    runs, steps = rows["run"].nunique(), rows["step"]
    each = rows.groupby("run").size()
    found = [("networks", f"{len(rows):,}")]
    found.append(
        ("trajectories", f"{runs:,}, {each.min()} to {each.max()} networks each: {listed(rows['run'].unique(), 3)}")
    )
    if steps.max() > 0:
        found.append(("steps", f"{steps.min()} to {steps.max()}; initial weights {'known' if began else 'unknown'}"))
    return found


def figures(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Smallest, middle and largest of each figure of merit."""
    found = []
    for name in (column for column in rows if column not in (*LABELS, "order")):
        values = rows[name].dropna()
        if len(values) and pd.api.types.is_numeric_dtype(values):
            low, middle, high = (f"{values.quantile(q):.4g}" for q in (0, 0.5, 1))
            found.append((str(name), f"{low} … {middle} … {high}"))
    return found


def described(architecture: Architecture, weights: dict[str, torch.Tensor]) -> list[tuple[str, str]]:
    """Tensors, precision and symmetries."""
    inputs = " × ".join(map(str, architecture.inputs))
    outputs, found = architecture.groups[-1].size, Symmetries(architecture)
    names = listed((f"{name} {tuple(shape)}" for name, shape in architecture.shapes), 6)
    functions = list(dict.fromkeys(o.function for o in architecture.operations if isinstance(o, Elementwise)))
    dtypes = listed(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()}))
    signs = sum(scaling.size for scaling in architecture.scalings if scaling.kind == "sign")
    groups, kinds = len(architecture.hidden_groups), ", ".join(functions) or "linear"
    symmetries = f"{found.permutable:,} permutable neurons in {groups} groups, {found.scalable:,} scalings, {signs:,} signs"
    return [
        ("architecture", f"{inputs} inputs, {outputs} outputs, {architecture.task_type}, {kinds}"),
        ("weights", f"{architecture.dimension:,} in {dtypes}: {names}"),
        ("symmetries", f"{symmetries}, {found.mixable:,} dimensions between queries and keys"),
    ]
