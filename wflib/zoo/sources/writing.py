"""Zoos for others: state dicts of their own class, a folder as ModelZoos have it, or one stacked file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wflib.networks import Networks, states_for
from wflib.networks.names import listed
from wflib.storage import atomic_folder
from wflib.zoo.sources.base import run_and_step
from wflib.zoo.sources.collection import Collection
from wflib.zoo.sources.modelzoo import ARCHITECTURE
from wflib.zoo.zoo import Zoo

__all__ = ["WRITERS", "write"]

WRITERS = ("state-dicts", "modelzoo", "stacked")
"""Formats that can be written."""


def write(
    path: str | Path, zoo: Zoo | Collection | Networks, format: str = "state-dicts", module: nn.Module | None = None
) -> None:
    """Write networks as others take them; reading them back gives the same numbers, exact to the bit.

    - ``state-dicts``: a folder with a torch file for each network, ``<run>.pt`` or ``<run>@<step>.pt``, which reading takes
      for run and step
    - ``modelzoo``: a folder for each run with ``params.json``, ``result.json`` and ``checkpoint_<step>/checkpoints``
    - ``stacked``: one safetensors file of stacked tensors, with the architecture in its header

    Args:
        path: A new or empty folder, or a file that ends in ``.safetensors``.
        zoo: A zoo as trained or aligned, without its early snapshots; what :func:`wflib.zoo.read` gives, or networks.
        format: One of ``WRITERS``.
        module: An instance of the class that the state dicts are for: they get its names, its tied tensors and counters.

    Raises:
        ValueError: Another format, canonical networks, a folder with files in it, or a class of other networks.
    """
    path = Path(path)
    if format not in WRITERS:
        raise ValueError(f"{path}: format: expected one of {', '.join(WRITERS)}, got {format!r}.")
    networks, runs, steps, figures = labelled(zoo.counted_part if isinstance(zoo, Zoo) else zoo)
    if networks.architecture.canonical:
        raise ValueError(
            f"{path}: expected ordinary networks, got canonical ones; write the aligned zoo, or networks that sample has "
            "written to data/networks.safetensors."
        )
    if format == "stacked":
        if module is not None:
            raise ValueError(f"{path}: stacked networks have their architecture's names; write state-dicts for a module.")
        names = labels(runs, steps)
        replace(networks, names=names if len(set(names)) == len(names) else None).save(path)
        return
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ValueError(f"{path}: expected a new or an empty folder, found files; choose another.")
    states = networks.state_dicts() if module is None else states_for(networks, module)
    with atomic_folder(path) as folder:
        if format == "state-dicts":
            names = labels(runs, steps)
            require_distinct(path, names)
            for name, state in zip(names, states, strict=True):
                torch.save(state, folder / f"{name}.pt")
        else:
            write_modelzoo(folder, networks, runs, steps, figures, states)


def labelled(zoo: Zoo | Collection | Networks) -> tuple[Networks, list[str], list[int], list[dict[str, float]]]:
    """Networks, names of their runs, their steps, and figures of merit."""
    networks = zoo if isinstance(zoo, Networks) else zoo.networks
    count = len(networks)
    if isinstance(zoo, Networks):
        runs, steps = list(networks.names or (f"network-{index:0{len(str(count))}d}" for index in range(count))), [0] * count
        told = [run_and_step(run) for run in runs]
        if len({run for run, _ in told}) < count:  # snapshots, as a collection's networks are called
            runs, steps = [run for run, _ in told], [step for _, step in told]
    elif isinstance(zoo, Collection):
        runs, steps = zoo.table["run"].tolist(), zoo.table["step"].tolist()
    else:
        digits = len(str(int(zoo.trajectory.max()))) if count else 1
        runs, steps = [f"run-{run:0{digits}d}" for run in zoo.trajectory.tolist()], zoo.step.tolist()
    figures: list[dict[str, float]] = [{} for _ in range(count)]
    if isinstance(zoo, Collection):
        kept = zoo.table.drop(columns=["run", "step"]).select_dtypes("number")
        figures = [{str(k): float(v) for k, v in row.items() if v == v} for row in kept.to_dict("records")]
    return networks, [plain(run) for run in runs], steps, figures


def plain(name: str) -> str:
    """A run's name as one of a file: no folders, nothing hidden."""
    return re.sub(r"[^\w.@=+-]+", "_", name).strip("._") or "run"


def labels(runs: Sequence[str], steps: Sequence[int]) -> tuple[str, ...]:
    """Names of networks: their run's, with the step where a run has several."""
    several = len(set(runs)) < len(runs)
    return tuple(f"{run}@{step}" if several else run for run, step in zip(runs, steps, strict=True))


def require_distinct(path: Path, names: Sequence[str]) -> None:
    """Refuse to write two networks to one file.

    Raises:
        ValueError: Names them.
    """
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{path}: several networks would be called {listed(twice, 3)}; give them names of their own.")


def write_modelzoo(
    folder: Path,
    networks: Networks,
    runs: Sequence[str],
    steps: Sequence[int],
    figures: Sequence[Any],
    states: Sequence[Any],
) -> None:
    """A folder for each run, as ray-tune leaves them."""
    require_distinct(folder, [f"{run}@{step}" for run, step in zip(runs, steps, strict=True)])
    for run in dict.fromkeys(runs):
        (folder / run).mkdir()
        (folder / run / "params.json").write_text(json.dumps({ARCHITECTURE: networks.architecture.to_json()}))
    short = {"accuracy": "acc"}
    for run, step, found, state in zip(runs, steps, figures, states, strict=True):
        place = folder / run / f"checkpoint_{step:06d}"
        place.mkdir()
        torch.save(state, place / "checkpoints")
        named = {re.sub("accuracy$", lambda m: short[m[0]], name): value for name, value in found.items()}
        with (folder / run / "result.json").open("a") as file:
            file.write(json.dumps({"epoch": step, **named}) + "\n")
