"""Zoos for cells: trained by settings of their own, and aligned in whatever way."""

from __future__ import annotations

import time

import pandas as pd

from wflib.config import Section
from wflib.device import resolve_device
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.storage import save_json
from wflib.tasks import fetch_dataset, save_dataset
from wflib.zoo import align_zoo, canonical_zoo, network_for, save_zoo, train_zoo

__all__ = ["ALIGN", "DATA", "ZOO"]


def fetch(inputs: Inputs, options: Section) -> Tables:
    """Fetch the task's data in three parts: dataset.safetensors in the cell's folder."""
    dataset = fetch_dataset(inputs.settings.task, inputs.settings.data.split)
    save_dataset(inputs.out / "dataset.safetensors", dataset)
    parts = {part: len(getattr(dataset, part).inputs) for part in ("train", "validation", "test")}
    return {"rows": pd.DataFrame([parts])}


def make_zoo(inputs: Inputs, options: Section) -> Tables:
    """Fetch the task's data and train a zoo on it.

    In the cell's folder: dataset.safetensors, trained.safetensors, and trained.json, which says how long training took.
    """
    settings = inputs.settings
    dataset = fetch_dataset(settings.task, settings.data.split)
    architecture = network_for(settings.zoo, dataset)
    save_dataset(inputs.out / "dataset.safetensors", dataset)
    dataset, started = dataset.for_networks(architecture, "zoo"), time.perf_counter()
    with inputs.progress(settings.zoo.epochs, f"train {settings.zoo.networks} networks") as bar:
        device = resolve_device(settings.zoo.device)
        zoo = train_zoo(architecture, dataset, settings.zoo, device, lambda done, epochs, loss: bar.update(done - bar.n))
    save_zoo(inputs.out / "trained.safetensors", zoo)
    facts = {
        "networks": int((~zoo.is_early).sum()),
        "trajectories": len(zoo.last_snapshots),
        "weights": architecture.dimension,
    }
    seconds = time.perf_counter() - started
    save_json(inputs.out / "trained.json", {**facts, "seconds": seconds})
    return {"rows": pd.DataFrame([{**facts, "zoo_seconds": seconds}])}


def align(inputs: Inputs, options: Section) -> Tables:
    """Align and canonicalize a trained zoo: aligned.safetensors and canonical.safetensors in the cell's folder."""
    settings, zoo, started = inputs.settings, inputs.zoo("trained"), time.perf_counter()
    dataset = inputs.dataset(zoo.architecture, inputs.path("trained"))
    aligned = align_zoo(zoo, settings.align, dataset)
    save_zoo(inputs.out / "aligned.safetensors", aligned)
    save_zoo(inputs.out / "canonical.safetensors", canonical_zoo(aligned, settings.canonicalize.norm))
    return {"rows": pd.DataFrame([{"align_seconds": time.perf_counter() - started}])}


DATA = Measurement("data", fetch, settings=True)
ZOO = Measurement("zoo", make_zoo, settings=True)
ALIGN = Measurement("align", align, reads=("data", "trained"), settings=True)
