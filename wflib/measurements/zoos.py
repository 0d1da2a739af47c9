"""Zoos for cells: made from settings of their own, or another cell's networks aligned in another way."""

from __future__ import annotations

import time

import pandas as pd

from wflib.config import Section
from wflib.device import resolve_device
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.tasks import TASKS, Dataset, save_dataset
from wflib.zoo import Zoo, align_zoo, canonical_zoo, network_for, save_zoo, train_zoo

__all__ = ["ALIGN", "ZOO"]


def make_zoo(inputs: Inputs, options: Section) -> Tables:
    """Fetch the task's data, train a zoo, align and canonicalize it: all that flows of a task learn from.

    The cell's folder holds dataset, trained, aligned and canonical.safetensors. Seconds of each step.
    """
    settings = inputs.settings
    dataset = TASKS[settings.task]()
    architecture = network_for(settings.zoo, dataset)
    save_dataset(inputs.out / "dataset.safetensors", dataset)
    dataset, started = dataset.for_networks(architecture, "zoo"), time.perf_counter()
    with inputs.progress(settings.zoo.epochs, f"train {settings.zoo.networks} networks") as bar:
        device = resolve_device(settings.zoo.device)
        zoo = train_zoo(architecture, dataset, settings.zoo, device, lambda epoch, epochs, loss: bar.update())
    save_zoo(inputs.out / "trained.safetensors", zoo)
    facts = {"networks": len(zoo), "trajectories": len(zoo.last_snapshots), "weights": architecture.dimension}
    return {"rows": pd.DataFrame([{**facts, "zoo_seconds": time.perf_counter() - started, **aligned(inputs, zoo, dataset)}])}


def align(inputs: Inputs, options: Section) -> Tables:
    """Align and canonicalize a trained zoo in another way, for cells that compare ways of alignment.

    The cell's folder holds aligned and canonical.safetensors.
    """
    zoo = inputs.zoo("trained")
    return {"rows": pd.DataFrame([aligned(inputs, zoo, inputs.dataset(zoo.architecture, inputs.path("trained")))])}


def aligned(inputs: Inputs, zoo: Zoo, dataset: Dataset) -> dict[str, float]:
    """Write the zoo's other forms, and say how long it took."""
    started = time.perf_counter()
    moved = align_zoo(zoo, inputs.settings.align, dataset)
    save_zoo(inputs.out / "aligned.safetensors", moved)
    save_zoo(inputs.out / "canonical.safetensors", canonical_zoo(moved, inputs.settings.canonicalize.norm))
    return {"align_seconds": time.perf_counter() - started}


ZOO = Measurement("zoo", make_zoo, settings=True)
ALIGN = Measurement("align", align, reads=("data", "trained"), settings=True)
