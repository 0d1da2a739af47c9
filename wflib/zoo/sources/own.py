"""Artifacts of ours: a zoo as trained or aligned, one file or a folder, or stacked networks with their architecture.

Of a zoo trajectories, held-out labels, initial weights and the recipe come along. Initial weights of an aligned one are put
in the order that alignment gave the neurons of their trajectory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks.headers import architecture_in, names_in
from wflib.storage import ArtifactError, RowFile, header_text, read_header
from wflib.symmetry import permute
from wflib.zoo.sources.base import BrokenFileError, Contents, Request, Source, run_and_step
from wflib.zoo.sources.headers import holds_one, require_as_said
from wflib.zoo.stored import INDEX, StoredZoo, stored_file, stored_folder
from wflib.zoo.stored_networks import StoredNetworks

__all__ = ["Own"]

AGAIN = "write it again with this version"
KEPT = ("recipe", "init", "init_std")
"""What a zoo says of its training, as the next one does."""
PART = 2**16
"""Networks whose permutations are compared at a time."""
BEGAN = -1
"""Step of what runs began with; their places are −1 − trajectory."""


class Own(Source):
    """See the module."""

    name = "wflib"
    what = "a zoo or stacked networks that wflib has written"
    chunk = 1024

    def __init__(self) -> None:
        self.opened = cache(opened)

    def recognizes(self, path: Path) -> bool:
        """A safetensors file with our header, of more than a single network's tensors, or a folder with our index."""
        try:
            if path.is_dir():
                return (path / INDEX).is_file() and '"kind": "zoo"' in (path / INDEX).read_text()
            return path.is_file() and path.suffix == ".safetensors" and "wflib" in header_text(path) and not holds_one(path)
        except (ArtifactError, OSError, ValueError):
            return False

    def contents(self, request: Request) -> Contents:
        """One row a network, with trajectory, step and held-out label of a zoo, or what its name says, ``run@step``."""
        found, metadata = self.opened(request.path)
        require_as_said(request.path, said(found, metadata), request)
        facts: dict[str, Any] = {key: metadata[key] for key in ("task", "provenance") if key in metadata}
        if isinstance(found, RowFile):
            names = metadata.get("names") or [str(place) for place in range(found.rows)]
            named, steps = zip(*map(run_and_step, names), strict=True) if names else ((), ())
            return Contents(table(named, steps, range(found.rows)), facts)
        runs = [str(run) for run in found.trajectory.tolist()]
        rows = table(runs, found.step.tolist(), range(len(found)))
        rows["held_out"] = found.held_out.tolist()
        early = found.is_early.tolist()
        rows = rows[[not there for there in early]].reset_index(drop=True)
        contents = Contents(rows, facts, metadata={key: metadata[key] for key in KEPT if key in metadata})
        if any(early):
            contents.leave_out(
                "snapshots on the way to others", [run for run, there in zip(runs, early, strict=True) if there]
            )
        if found.began is not None and not one_order_each(found):
            contents.leave_out("initial weights of runs whose networks were permuted in different ways", map(str, set(runs)))
        elif found.began is not None:
            began = torch.unique(found.trajectory[~found.is_early]).tolist()
            contents.starts = table(map(str, began), [BEGAN] * len(began), [-1 - run for run in began], initial=True)
        return contents

    def load(self, request: Request, places: Sequence[int]) -> Mapping[str, Tensor]:
        """Networks of the file, or what runs of those began with."""
        found, _ = self.opened(request.path)
        try:
            if isinstance(found, RowFile):
                return found.read(found.tensors, torch.tensor(places), finite=False)
            rows = torch.tensor(places)  # networks come first, then what runs began with
            parts: list[Mapping[str, Tensor]] = []
            if bool((rows >= 0).any()):
                parts.append(found.networks.read(rows[rows >= 0], finite=False))
            if found.began is not None and bool((rows < 0).any()):
                parts.append(beginnings(found, found.began, -1 - rows[rows < 0]))
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        except ArtifactError as error:
            raise BrokenFileError(str(error)) from error

    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """As the header says."""
        found, metadata = self.opened(request.path)
        return said(found, metadata)


def said(found: RowFile | StoredZoo, metadata: Mapping[str, Any]) -> Architecture:
    """The header's architecture."""
    made: Architecture = metadata["architecture"] if isinstance(found, RowFile) else found.architecture
    return made


def table(runs: Iterable[str], steps: Iterable[int], places: Iterable[int], initial: bool = False) -> pd.DataFrame:
    """Rows of contents."""
    return pd.DataFrame({"run": list(runs), "step": list(steps), "initial": initial, "place": list(places)})


def one_order_each(zoo: StoredZoo) -> bool:
    """Whether alignment permuted all networks of a run alike, so that there is one order for what it began with."""
    names = [name for name in zoo.rows.names if name.startswith("permutations.")]
    last = zoo.last_snapshots
    same = last.places[torch.searchsorted(last.trajectory, zoo.trajectory)]
    chunks = zip(zoo.places.split(PART), same.split(PART), strict=True)
    read = ((zoo.rows.read(one, names), zoo.rows.read(other, names)) for one, other in chunks if names)
    return all(torch.equal(ours[name], theirs[name]) for ours, theirs in read for name in names)


def beginnings(zoo: StoredZoo, began: StoredNetworks, runs: Tensor) -> Mapping[str, Tensor]:
    """What runs began with, neurons in the order of the run's last network."""
    last = zoo.last_snapshots
    order = last[torch.searchsorted(last.trajectory, runs)].permutations
    return permute(began[runs], order).weights


def opened(path: Path) -> tuple[RowFile | StoredZoo, dict[str, Any]]:
    """A zoo, or a file of networks, and metadata.

    Raises:
        BrokenFileError: Another artifact, or networks in a flow's own form.
    """
    try:
        if path.is_dir():
            text = (path / INDEX).read_text(errors="replace") if (path / INDEX).is_file() else ""
            kind, metadata = read_header(path / INDEX, {"wflib": text}, AGAIN)
        else:
            file = RowFile(path, AGAIN)
            kind, metadata = read_header(path, file.header, AGAIN)
        form = metadata.get("form", "trained")
        if kind not in ("zoo", "networks") or form not in ("trained", "aligned"):
            raise BrokenFileError(
                f"{path}: expected networks, or a zoo as trained or aligned, found a {metadata.get('form', '')} {kind}; "
                "read data/zoo/trained.safetensors or data/networks.safetensors."
            )
        if kind == "networks":
            metadata["architecture"] = architecture_in(path, metadata.get("architecture"))
            metadata["names"] = names_in(path, metadata.get("names"))
            return file, metadata
        zoo = stored_folder(path, form) if path.is_dir() else stored_file(file, form)
    except ArtifactError as error:
        raise BrokenFileError(str(error)) from error
    return zoo, zoo.metadata
