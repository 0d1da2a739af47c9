"""Zoos that stay on disk: one file or a folder of shards, of which networks are read when they are needed.

A folder holds

- ``index.json``: what a file's header holds, and of every shard how many networks it has and by what it is told apart
- ``labels.safetensors``: trajectory, step, held_out; the network that the others were aligned to
- ``networks-00000.safetensors``, …: weights, permutations and record of the networks in order
- ``initial-00000.safetensors``, …: what trajectories began with, where that is known

and is written by :class:`~wflib.zoo.ZooWriter`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks import Networks
from wflib.storage import ArtifactError, RowFile, RowFiles, load_artifact, read_header, rerun
from wflib.zoo.base import FORMS, AnyZoo, fits_memory
from wflib.zoo.checks import check_initial, check_labels, check_places
from wflib.zoo.files import ROWS, file_errors, load_zoo_file, require_distinct, require_form, with_prefix
from wflib.zoo.stored_networks import StoredNetworks
from wflib.zoo.zoo import Zoo

__all__ = ["INDEX", "LABEL_FILE", "StoredZoo", "load_zoo", "open_zoo", "shard_name"]

INDEX, LABEL_FILE = "index.json", "labels.safetensors"
LABELS = ("trajectory", "step", "held_out")


def shard_name(what: str, number: int) -> str:
    """The file of some rows."""
    return f"{what}-{number:05d}.safetensors"


@dataclass(frozen=True, eq=False)
class StoredZoo(AnyZoo):
    """A zoo on disk. Labels are in memory, networks are read by indexing; parts of it stay on disk, too.

    Attributes:
        path: File or folder.
        architecture: Of every network.
        trajectory: As :class:`~wflib.zoo.Zoo` has it, like all that follow.
        step: Likewise.
        held_out: Likewise.
        form: Likewise.
        rows: Weights, permutations and record on disk.
        places: Which rows these networks are, (networks,).
        began: Networks at initialization on disk; None where unknown.
        aligned_to: The one network that alignment aimed at.
        metadata: Task, seed, provenance.
    """

    path: Path
    architecture: Architecture
    trajectory: Tensor
    step: Tensor
    held_out: Tensor
    form: str
    rows: RowFiles
    places: Tensor
    began: StoredNetworks | None = None
    aligned_to: Networks | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def networks(self) -> StoredNetworks:
        """The networks alone, which are read by indexing."""
        return StoredNetworks(self.architecture, self.rows, "weights.", self.places)

    @property
    def initial(self) -> Networks | StoredNetworks | None:
        """Networks at initialization, one for each trajectory; on disk where they are many."""
        began = self.began
        return began.kept if began is not None and fits_memory(len(began), self.architecture.dimension) else began

    def __getitem__(self, index: Tensor | slice) -> Zoo:
        """Some of the networks, in memory, without initial weights.

        Raises:
            ArtifactError: They are not what they should be; names the file.
        """
        found = self.rows.read(self.places[index])
        found = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
        with file_errors(self.path, self.form):
            return Zoo(
                networks=Networks(self.architecture, with_prefix(found, "weights.")),
                trajectory=self.trajectory[index],
                step=self.step[index],
                held_out=self.held_out[index],
                form=self.form,
                permutations=with_prefix(found, "permutations."),
                aligned_to=self.aligned_to,
                record=with_prefix(found, "record."),
                metadata=self.metadata,
            )

    def select(self, index: Tensor | slice) -> StoredZoo:
        """Some of the networks, which stay on disk."""
        labels = {name: getattr(self, name)[index] for name in ("trajectory", "step", "held_out", "places")}
        return replace(self, **labels)


def load_zoo(path: str | Path, form: str) -> Zoo:
    """Read a zoo artifact, one file or a folder, into memory, and check that it is what the caller needs.

    Weights come as float32, whatever precision they were written in: that is what flows compute in.

    Args:
        path: File or folder to read.
        form: Expected form, a key of ``FORMS``.

    Returns:
        The zoo.

    Raises:
        ArtifactError: The file is damaged, of another form, or its tensors do not fit its architecture.
    """
    return stored_folder(Path(path), form).whole() if Path(path).is_dir() else load_zoo_file(path, form)


def open_zoo(path: str | Path, form: str) -> Zoo | StoredZoo:
    """A zoo artifact: a small one in memory, a larger one (see :attr:`~wflib.zoo.Zoo.fits_memory`) on disk.

    Both are used alike; what differs is where networks are until they are asked for.

    Args:
        path: File or folder to read.
        form: Expected form, a key of ``FORMS``.

    Raises:
        ArtifactError: As :func:`load_zoo`; of a zoo on disk NaN and infinity are found when networks are read.
    """
    if Path(path).is_dir():
        found = stored_folder(Path(path), form)
        return found.whole() if found.fits_memory else found
    if Path(path).is_file():
        file = RowFile(path, rerun(FORMS[form]))
        weights = sum(
            torch.Size(shape).numel() for name, (_, shape, _) in file.tensors.items() if name.startswith("weights.")
        )
        if not fits_memory(1, weights):
            return stored_file(file, form)
    return load_zoo_file(path, form)


def stored_file(file: RowFile, form: str) -> StoredZoo:
    """The zoo of one large file."""
    facts = facts_for(file.path, file.header, form)
    rows, first = RowFiles((file,), ROWS), RowFiles((file,), ("initial.",))
    with file_errors(file.path, form):
        labels = {name: file.read([name], torch.arange(file.tensors[name][1][0]))[name] for name in LABELS}
        aim = [name for name in file.tensors if name.startswith("aligned_to.")]
        return checked(file.path, form, facts, labels | file.read(aim, torch.zeros(1, dtype=torch.int64)), rows, first)


def stored_folder(folder: Path, form: str) -> StoredZoo:
    """The zoo of a folder of shards, all of which are looked at."""
    remedy, index = rerun(FORMS[form]), folder / INDEX
    if not index.is_file():
        raise ArtifactError(f"{index}: expected the index of a zoo in shards, found no file; {remedy}.")
    facts = facts_for(index, {"wflib": index.read_text()}, form)
    with file_errors(index, form):
        shards = facts.pop("shards")
        networks, initial = (shards_of(folder, what, shards[what], index, remedy) for what in ("networks", "initial"))
        known = {INDEX, LABEL_FILE, *(file.path.name for file in (*networks, *initial))}
        if strange := sorted(path.name for path in folder.iterdir() if path.name not in known):
            raise ValueError(
                f"expected {len(known)} files in the folder, found others: {', '.join(strange[:3])}; remove them"
            )
        labels, _ = load_artifact(folder / LABEL_FILE, "zoo-labels", stage=FORMS[form])
        return checked(index, form, facts, labels, RowFiles(networks, ROWS), RowFiles(initial, ("initial.",)))


def facts_for(path: Path, header: dict[str, str], form: str) -> dict[str, Any]:
    """What a zoo's header says, of the form that is asked for."""
    kind, facts = read_header(path, header, rerun(FORMS[form]))
    if kind != "zoo":
        raise ArtifactError(f"{path}: expected a zoo artifact, found a {kind} one; {rerun(FORMS[form])}.")
    require_form(path, facts.pop("form", None), form)
    return facts


def shards_of(folder: Path, what: str, described: list[dict[str, Any]], index: Path, remedy: str) -> tuple[RowFile, ...]:
    """Shards as the index describes them.

    Raises:
        ArtifactError: One is missing, damaged, of other tensors than the first, or not what the index says.
    """
    files: list[RowFile] = []
    for number, one in enumerate(described):
        file = RowFile(folder / shard_name(what, number), remedy)
        files.append(file)
        if file.kinds != files[0].kinds:
            raise ArtifactError(
                f"{file.path}: expected tensors as in {files[0].path.name}, {files[0].kinds}, found {file.kinds}; {remedy}."
            )
        if file.rows != one["rows"]:
            raise ArtifactError(f"{file.path}: expected {one['rows']} rows, as {index} says, found {file.rows}; {remedy}.")
        if file.fingerprint() != one["fingerprint"]:
            raise ArtifactError(
                f"{file.path}: expected the shard that {index} describes, found other numbers, those of another run or of "
                f"another shard; {remedy}."
            )
    return tuple(files)


def checked(
    path: Path, form: str, facts: dict[str, Any], labels: dict[str, Tensor], rows: RowFiles, initial: RowFiles
) -> StoredZoo:
    """A zoo whose labels and first network are what they should be.

    Raises:
        ValueError: Something does not fit; says what.
    """
    architecture, began = Architecture.from_json(facts.pop("architecture")), None
    trajectory, step, held_out = (labels[name] for name in LABELS)
    check_labels(len(rows), trajectory, step, held_out)
    require_distinct(trajectory, step)
    if initial.files and initial.names:
        first = Architecture.from_json(facts.pop("initial_architecture"))
        check_initial(architecture, first)
        began = StoredNetworks(first, initial, "initial.", torch.arange(len(initial)))
    check_places(trajectory, step, None if began is None else len(began))
    aim = {name: tensor.float() for name, tensor in with_prefix(labels, "aligned_to.").items()}
    zoo = StoredZoo(
        path, architecture, trajectory, step, held_out, form, rows, torch.arange(len(rows)), began,
        Networks(architecture, aim) if aim else None, facts,
    )  # fmt: skip
    for part in (zoo, began):
        if part is not None:
            part[:1]
    return zoo
