"""Folders of state dicts as people keep them, one file a network: DeepWeightFlow, p-diff, RPG, one's own.

What the networks are comes from headers where wflib has written the files, from a class (``zoo.read.module``), or for
perceptrons from shapes and an asked-for activation.
``zoo.read.pattern`` says where runs, steps and figures of merit stand in paths; without one each file is a run of its own,
but for names as ``run@step``, with a warning where names look like snapshots of fewer runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks.headers import described
from wflib.networks.names import listed, natural_order
from wflib.networks.reading import SUFFIXES, network_files
from wflib.zoo.sources.base import LABELS, BrokenFileError, Contents, Request, Source, require, run_and_step
from wflib.zoo.sources.files import is_shard_index, shard_files, stacked_files
from wflib.zoo.sources.headers import Header, header_in, require_as_said
from wflib.zoo.sources.inr import may_be_signal
from wflib.zoo.sources.shapes import perceptron

__all__ = ["StateDicts"]

FINE_TUNED = re.compile(r"(?P<step>\d+)_acc(?P<test_accuracy>[0-9.]+)_(?P<seed>seed\d+)_.*")
"""Names of p-diff and RPG: checkpoints of one fine-tuned run."""
SNAPSHOT = re.compile(
    r"(?<![a-z])(?P<word>epochs?|ep|steps?|iter(?:ation)?s?|checkpoint|ckpt|snapshot)(?P<sign>[-_=.]?)(?P<step>\d+)",
    re.IGNORECASE,
)
"""A number by which snapshots of one run differ."""
FIGURE = re.compile(r"(acc(?:uracy)?|loss)([-_=]?)\d+\.\d+", re.IGNORECASE)
OWN_WORDS = r"(?P<run>…)…(?P<step>\d+)"
"""What to say where no pattern is found that would do."""
PART = re.compile(r"-[0-9]+-of-[0-9]+$")
PREPROCESSED = (
    "Collections that others have preprocessed pickle classes of their own: give the raw folder of checkpoints behind it."
)
REMEDY = (
    "the kind of network does not follow from its tensors (strides, pooling, norms, order of layers do not "
    "show in them); give "
    "its class as package:function, which makes an instance"
)


class StateDicts(Source):
    """See the module."""

    name = "state-dicts"
    what = "a folder of state dicts, one file a network (.pt, .pth, .ckpt, .bin, .safetensors, shards with an index)"

    def __init__(self) -> None:
        self.headers: dict[Path, Header] = {}
        self.said: Architecture | None = None

    def recognizes(self, path: Path) -> bool:
        """A file of networks, or a folder with some."""
        if path.is_file():
            return path.suffix.lower() in SUFFIXES or is_shard_index(path)
        return path.is_dir() and any(
            name.lower().endswith(SUFFIXES) for _, _, names in os.walk(path) for name in names if not name.startswith(".")
        )

    def contents(self, request: Request) -> Contents:
        """One row a file, or an index of shards."""
        root = request.path
        files, left_out = network_files(root) if root.is_dir() else ([root], [])
        indices = [root / name for name in left_out if is_shard_index(root / name)]
        parts = {part for index in indices for part in shards(index, files, request.config.skip_broken)}
        files = sorted((*(f for f in files if f not in parts), *indices), key=lambda file: natural_order(file.as_posix()))
        names = [file.relative_to(root).as_posix() if root.is_dir() else file.name for file in files]
        self.headers = {file: header for file in files if (header := header_in(file)) is not None}
        rows = labels(root, names, files, request.config.pattern, own_names(names, files, self.headers))
        kinds = list(dict.fromkeys(header.architecture for header in self.headers.values()))
        self.said = kinds[0] if len(kinds) == 1 else None
        if len(kinds) > 1 and len(self.headers) == len(files):
            told = [described(kind) for kind in kinds]
            apart = [f"{text} ({number})" if told.count(text) > 1 else text for number, text in enumerate(told, 1)]
            rows["kind"] = [apart[kinds.index(self.headers[file].architecture)] for file in files]
        found = Contents(rows)
        if request.config.trajectories != "each":
            pattern, runs = request.config.pattern, [str(run) for run in rows["run"]]
            found.doubts += (doubts_of_steps(pattern, names) if pattern else []) or doubts(runs, names)
        found.leave_out("files that are no networks", (name for name in left_out if root / name not in indices))
        return found

    def load(self, request: Request, places: Sequence[Path]) -> Mapping[str, Tensor]:
        """A file's state dict.

        Raises:
            BrokenFileError: It cannot be read.
            ValueError: Its header says other networks than those before it are, or than are asked for.
        """
        if (header := self.headers.get(places[0])) is not None:
            require_as_said(places[0], header.architecture, request)
            self.said = header.architecture if self.said is None else self.said
            if header.architecture != self.said:
                raise ValueError(
                    f"{places[0]}: its networks are {described(header.architecture)}, others here {described(self.said)}; "
                    "read them apart."
                )
        try:
            return stacked_files(places, request)
        except BrokenFileError as error:
            if not places[0].name.startswith(("dataset", "data.")):
                raise
            raise BrokenFileError(f"{error} {PREPROCESSED}") from error

    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """As headers say, or a perceptron by its shapes, whose activation must be said."""
        if self.said is not None:
            return self.said
        activation = request.activation
        try:
            found = perceptron(first, activation or "relu", request.config.task_type or "classification")
        except ValueError as error:
            require(request, False, f"{REMEDY} (no perceptron: {error})", "module")
        signal = " (or a signal's representation by sines: zoo.format: inr)" if may_be_signal(first) else ""
        require(
            request,
            activation is not None,
            f"the tensors are a perceptron's{signal}, whose activation they do not show",
            "activation",
        )
        return found


def shards(index: Path, files: Sequence[Path], skip_broken: bool) -> set[Path]:
    """Files that an index names; where it is damaged and left out, the numbered ones beside it.

    Raises:
        BrokenFileError: It is damaged, and not to be left out.
    """
    try:
        return set(shard_files(index))
    except BrokenFileError:
        if not skip_broken:
            raise
        return {file for file in files if file.parent == index.parent and PART.search(file.stem)}


def own_names(names: Sequence[str], files: Sequence[Path], headers: Mapping[Path, Header]) -> dict[Path, str]:
    """What headers call networks, where no two are called the same."""
    found = {file: header.name for file, header in headers.items() if header.name is not None}
    chosen = [found.get(file, name) for name, file in zip(names, files, strict=True)]
    return found if len(set(chosen)) == len(chosen) else {}


def labels(
    root: Path, names: Sequence[str], files: Sequence[Path], pattern: str | None, own: Mapping[Path, str]
) -> pd.DataFrame:
    """Runs, steps and figures of merit by what paths say.

    Raises:
        ValueError: A pattern that does not fit a path, or has groups that are no figures.
    """
    given = None if pattern is None else re.compile(pattern)
    if reserved := ({*LABELS, "order"} - {"run", "step"}) & set(given.groupindex if given else ()):
        raise ValueError(
            f"{root}: zoo.read.pattern: groups {listed(sorted(reserved))} would be taken for labels of ours; rename them."
        )
    rows = []
    for name, file in zip(names, files, strict=True):
        plain = re.sub(r"\.(safetensors|bin)\.index\.json$", "", name)
        plain = plain if plain != name else Path(name).with_suffix("").as_posix()
        run, step = run_and_step(own.get(file, plain)) if given is None else (plain, 0)
        row = {"run": run, "step": step, "initial": False, "place": file}
        fine_tuned = FINE_TUNED.fullmatch(Path(plain).name) if given is None else None
        match = fine_tuned if given is None else given.search(name)
        if match is None and given is not None:
            raise ValueError(f"{root}: zoo.read.pattern {pattern!r} does not fit {name}; change it, or move that file away.")
        if match is not None:
            told = {key: value for key, value in match.groupdict().items() if value is not None}
            run, when = told.pop("run", ""), told.pop("step", "0")
            told.pop("seed", None)
            if not when.isdecimal():
                raise ValueError(
                    f"{root}: zoo.read.pattern: expected the group step to be a number, got {when!r} of {name}."
                )
            run = run or (str(Path(plain).parent) if fine_tuned else plain)
            row |= {"run": run, "step": int(when)} | {key: number(value) for key, value in told.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def doubts(runs: Sequence[str], paths: Sequence[str]) -> list[str]:
    """What to say where runs, which count for themselves, look like snapshots of fewer ones; empty where they do not."""
    alike: dict[str, dict[str, str]] = {}
    for run, path in zip(runs, paths, strict=True):
        if SNAPSHOT.search(run):
            whole, steps = SNAPSHOT.sub("#", FIGURE.sub("", run)), str(SNAPSHOT.findall(run))
            alike.setdefault(whole, {}).setdefault(steps, path)
    several = [list(found.values()) for found in alike.values() if len(found) > 1]
    return doubt(several, naming) if several else []


def doubts_of_steps(pattern: str, paths: Sequence[str]) -> list[str]:
    """What to say where a pattern tells steps, no runs, and files differ in steps and figures alone, whatever the words."""
    alike: dict[str, dict[str, str]] = {}
    for path in paths:
        match = re.search(pattern, path)
        told = {} if match is None else {group: text for group, text in match.groupdict().items() if text}
        if match is None or "step" not in told or "run" in told:
            continue
        figures = [match.span(group) for group, text in told.items() if group != "seed" and isinstance(number(text), float)]
        rest = path
        for start, end in sorted(figures, reverse=True):
            rest = f"{rest[:start]}#{rest[end:]}"
        alike.setdefault(FIGURE.sub("", rest), {}).setdefault(told["step"], path)

    def with_runs(files: Sequence[str], count: int) -> str:
        asked = (rf"(?P<run>.+){pattern}", rf"(?P<run>.+\D){pattern}", rf"{pattern}[-_/]?(?P<run>.+)\.\w+$")
        return next((longer for longer in asked if tells_apart(longer, files, count)), OWN_WORDS)

    several = [list(found.values()) for found in alike.values() if len(found) > 1]
    return doubt(several, with_runs) if several else []


def doubt(several: Sequence[Sequence[str]], remedy: Callable[[Sequence[str], int], str]) -> list[str]:
    """The sentence about files that look like snapshots of one run each, with a pattern that takes them so."""
    files = [path for paths in several for path in paths]
    pattern = remedy(files, len(several))
    return [
        f"{len(files)} files, each a run of its own, look like snapshots of {len(several)} ({listed(files, 3)}): flows "
        f"would learn from snapshots of runs that are held out. Say zoo.read.pattern (pattern=r'{pattern}'), "
        "or where they are runs, zoo.read.trajectories: each."
    ]


def naming(paths: Sequence[str], runs: int) -> str:
    """A pattern by which paths are snapshots of so many runs."""
    for found in SNAPSHOT.finditer(paths[0]):
        lead = re.sub(r"[^\W_]", "", paths[0][: found.start()][-1:])
        number = rf"{re.escape(found['sign'])}(?P<step>\d+)"
        for pattern in (
            rf"(?P<run>.+){re.escape(lead)}{found['word']}{number}",
            rf"(?P<run>{found['word']}){number}",
            rf"{found['word']}{number}[-_/]?(?P<run>.+)\.\w+$",
        ):
            if tells_apart(pattern, paths, runs):
                return pattern
    return OWN_WORDS


def tells_apart(pattern: str, paths: Sequence[str], runs: int) -> bool:
    """Whether by a pattern paths are snapshots of so many runs."""
    try:
        told = [(match["run"], match["step"]) for path in paths if (match := re.search(pattern, path))]
    except re.error:  # somebody's pattern, which need not be a part of another
        return False
    return len(set(told)) == len(paths) and len({run for run, _ in told}) == runs


def number(text: str) -> float | str:
    """A figure of merit, or a label that is no number."""
    try:
        return float(text)
    except ValueError:
        return text
