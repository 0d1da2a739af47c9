"""One call from a folder of somebody else's to a zoo: look, choose, read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import ValidationError
from torch import nn

from wflib.architecture import Architecture
from wflib.config import ReadConfig
from wflib.networks import Networks
from wflib.networks.names import listed, natural_order
from wflib.zoo.sources.assembly import assemble, with_one_architecture
from wflib.zoo.sources.base import LABELS, Contents, Request, Source
from wflib.zoo.sources.collection import Collection
from wflib.zoo.sources.gpt import GPT
from wflib.zoo.sources.hdf5 import HDF5
from wflib.zoo.sources.inr import INR
from wflib.zoo.sources.leaving_out import BROKEN, DIVERGED, NEGATIVE, OTHER, copies, copies_text, fingerprints
from wflib.zoo.sources.modelzoo import ModelZoo
from wflib.zoo.sources.modules import module_and_example, shape_of, traced
from wflib.zoo.sources.own import Own
from wflib.zoo.sources.selection import select
from wflib.zoo.sources.small_cnn_zoo import SmallCNNZoo
from wflib.zoo.sources.state_dicts import StateDicts
from wflib.zoo.sources.wild_park import WildPark

__all__ = ["FORMATS", "Collection", "read", "read_settings", "recognized"]

FORMATS: dict[str, type[Source]] = {
    source.name: source for source in (Own, SmallCNNZoo, GPT, ModelZoo, WildPark, HDF5, INR, StateDicts)
}
"""Name → format, in the order in which ``auto`` looks; the last takes any folder of state dicts."""
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
FOREIGN = {".npz": "arrays", ".pkl": "a pickle, which could run code", ".pickle": "a pickle, which could run code"}


def recognized(path: Path, format: str = "auto", activation: str | None = None) -> type[Source]:
    """The format of a file or folder, the given one or that it looks like.

    Args:
        path: File or folder.
        format: A key of ``FORMATS``, or ``auto`` to look.
        activation: The asked-for one: networks that have one of their own are not meant.

    Raises:
        ValueError: Nothing is there, nothing that can be read, or no such format; says what helps.
    """
    if format not in ("auto", *FORMATS):
        raise ValueError(f"zoo.format: expected auto or one of {listed(FORMATS)}, got {format!r}.")
    require_networks(path)
    if format != "auto":
        return FORMATS[format]
    for source in FORMATS.values():
        if not (activation and source.one_activation) and source().recognizes(path):
            return source
    known = "; ".join(f"{name}: {source.what}" for name, source in FORMATS.items())
    there = (
        f" but {listed(sorted(file.name for file in path.iterdir()), 3)}" if path.is_dir() and any(path.iterdir()) else ""
    )
    raise ValueError(f"{path}: expected networks in a format that is known, found none{there}. Known are {known}.")


def require_networks(path: Path) -> None:
    """Refuse what is not there, and what no format is.

    Raises:
        ValueError: Says what helps.
    """
    if not path.exists():
        raise ValueError(f"{path}: expected a file or a folder of networks, found neither; look at zoo.source.")
    if path.is_file() and path.suffix.lower() in ARCHIVES:
        raise ValueError(f"{path}: expected networks, found an archive; unpack it, and name the folder.")
    if path.is_file() and path.suffix.lower() in FOREIGN:
        raise ValueError(
            f"{path}: expected networks, found {FOREIGN[path.suffix.lower()]}; save state dicts with torch.save or as "
            "safetensors."
        )


def read(
    path: str | Path,
    format: str = "auto",
    *,
    architecture: Architecture | None = None,
    module: nn.Module | Any | None = None,
    inputs: Sequence[int] | None = None,
    config: ReadConfig | None = None,
    **options: Any,
) -> Collection:
    """Read networks that others have trained, with runs, steps, figures of merit and where they come from.

    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from torch import nn
    >>> folder = TemporaryDirectory()
    >>> make = lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> for seed in range(5):
    ...     torch.save(make().state_dict(), f"{folder.name}/net_{seed}.pt")
    >>> zoo = read(folder.name, module=make, inputs=(3,)).zoo()
    >>> len(zoo.training_part), len(zoo.held_out_part)
    (4, 1)
    >>> folder.cleanup()

    Args:
        path: File or folder.
        format: A key of ``FORMATS``, or ``auto`` to look.
        architecture: What the networks are, where you know.
        module: An instance of their class, a function that makes one, or ``"package:function"``; it is traced.
        inputs: Shape of one example, for tracing, and for formats that do not say it.
        config: Further settings, as ``zoo.read`` of ``params.yaml`` has them.
        options: The same one by one, such as ``activation="relu"``, ``snapshots="last"`` or ``skip_broken=True``.

    Returns:
        The networks. Warns of what is broken, not finite or of another architecture.

    Raises:
        ValueError: What the source holds cannot be read or does not suffice; names the file, what was expected and found,
            and the option that helps.
    """
    request = asked(Path(path), read_settings(options, config), architecture, module, inputs)
    source = recognized(request.path, format, request.activation)()
    contents = source.contents(request)
    rows = with_one_architecture(source, request, contents, select(path, contents, request.config))
    wanted = with_initial(contents, rows)
    made, weights, wanted = assemble(source, request, contents, wanted)
    networks, chosen, initial = separated(Networks.unchecked(made, weights), wanted)
    contents.copies = copies(chosen, fingerprints(networks.weights))
    warn_of(request.path, contents)
    labels = labels_of(source, request, contents, chosen)
    return Collection(
        networks=Networks(made, networks.weights, names(chosen), {"provenance": labels["provenance"]}),
        initial=initial,
        **labels,
    )


def asked(
    path: Path,
    config: ReadConfig,
    architecture: Architecture | None = None,
    module: nn.Module | Any | None = None,
    inputs: Sequence[int] | None = None,
) -> Request:
    """What the arguments of :func:`read` ask for; a class of the caller's is traced."""
    shape = shape_of(inputs if inputs is not None else config.inputs)
    instance = None
    if module is not None or config.module is not None:
        instance, example = module_and_example(module if module is not None else config.module, shape)
        architecture = architecture or traced(instance, example, config.task_type)
        shape = None if example is None else tuple(example.shape[1:])
    return Request(path, config, architecture, instance, shape)


def labels_of(source: Source, request: Request, contents: Contents, chosen: pd.DataFrame) -> dict[str, Any]:
    """Attributes of :class:`Labels` of the networks that were read."""
    runs = {name: number for number, name in enumerate(sorted(chosen["run"].unique(), key=natural_order))}
    return {
        "trajectory": torch.tensor([runs[run] for run in chosen["run"]]),
        "step": torch.tensor(chosen["step"].tolist()),
        "table": chosen.drop(columns=[name for name in LABELS[2:] if name in chosen]).reset_index(drop=True),
        "provenance": provenance(request.path, source, contents, request.config, len(chosen), len(runs)),
        "left_out": contents.left_out,
        "copies": contents.copies,
        "held_out_runs": request.config.held_out_runs,
        "held_out": torch.tensor(chosen["held_out"].tolist()) if "held_out" in chosen else None,
        "metadata": contents.metadata,
    }


def read_settings(options: Mapping[str, Any], config: ReadConfig | None = None) -> ReadConfig:
    """Settings of reading by name, on top of others.

    Raises:
        ValueError: An unknown option, or a value that is none of its own; says what is allowed.
    """
    try:
        return ReadConfig(**{**(config.model_dump() if config else {}), **options})
    except ValidationError as error:
        told = []
        for item in error.errors():
            name = ".".join(map(str, item["loc"]))
            allowed = (
                f"; options are {listed(sorted(ReadConfig.model_fields), 30)}" if item["type"] == "extra_forbidden" else ""
            )
            told.append(f"{name}: {item['msg'].removeprefix('Value error, ')}, got {item['input']!r}{allowed}")
        raise ValueError(f"zoo.read: {'; '.join(told)}.") from error


def with_initial(contents: Contents, rows: pd.DataFrame) -> pd.DataFrame:
    """The chosen rows, and those of what their runs began with, where all runs have that."""
    began = beginnings(contents, rows)
    if began is None:
        return rows.assign(initial=False, chosen=True)
    taken = set(rows["place"])
    more = began[[place not in taken for place in began["place"]]]
    return pd.concat([rows.assign(chosen=True), more.assign(chosen=False)], ignore_index=True)


def beginnings(contents: Contents, rows: pd.DataFrame) -> pd.DataFrame | None:
    """Rows of what the runs of some networks began with, one for each; None where one has none or several."""
    known = contents.rows[contents.rows["initial"].astype(bool)] if contents.starts is None else contents.starts
    began = known[known["run"].isin(rows["run"])]
    return None if set(began["run"]) != set(rows["run"]) or began["run"].duplicated().any() else began


def separated(everything: Networks, wanted: pd.DataFrame) -> tuple[Networks, pd.DataFrame, Networks | None]:
    """The chosen networks, their rows, and what their runs began with, in the order of runs."""
    chosen = torch.tensor(wanted["chosen"].tolist())
    kept = wanted[chosen.numpy()].drop(columns="chosen")
    if not len(kept):
        raise ValueError("zoo.read: none of the chosen networks could be read; nothing is left.")
    places = {run: place for place, (run, first) in enumerate(zip(wanted["run"], wanted["initial"], strict=True)) if first}
    order = sorted(kept["run"].unique(), key=natural_order)
    initial = everything[[places[run] for run in order]] if all(run in places for run in order) else None
    return (everything if bool(chosen.all()) else everything[chosen]), kept, initial


def names(rows: pd.DataFrame) -> tuple[str, ...] | None:
    """Runs, with steps where a run has several networks; None where these are not distinct."""
    several = rows["run"].duplicated().any()
    found = [f"{run}@{step}" if several else run for run, step in zip(rows["run"], rows["step"], strict=True)]
    return tuple(found) if len(set(found)) == len(found) else None


def warn_of(path: Path, contents: Contents) -> None:
    """Say what one would not expect to be left out, or to be a run."""
    for reason in (BROKEN, DIVERGED, NEGATIVE, OTHER):
        if left := contents.left_out.get(reason):
            warnings.warn(f"{path}: left out {len(left)} {reason}: {listed(left, 5)}.", stacklevel=3)
    for doubt in contents.doubts:
        warnings.warn(f"{path}: {doubt}", stacklevel=3)
    if contents.copies:
        warnings.warn(f"{path}: {copies_text(contents.copies)}", stacklevel=3)


def provenance(
    path: Path, source: Source, contents: Contents, config: ReadConfig, networks: int, runs: int
) -> dict[str, Any]:
    """Where networks come from, for the header of a zoo."""
    licence = next((file for file in sorted(path.glob("LICEN[CS]E*")) if file.is_file()), None) if path.is_dir() else None
    with_text = {} if licence is None else {"licence": licence.read_text(errors="replace").strip().partition("\n")[0][:200]}
    return {
        "source": str(path), "format": source.name, **contents.facts, **with_text, "networks": networks, "runs": runs,
        "read": config.model_dump(exclude_defaults=True),
        **({"copies": len(contents.copies)} if contents.copies else {}),
        "left_out": {reason: len(found) for reason, found in contents.left_out.items()},
    }  # fmt: skip
