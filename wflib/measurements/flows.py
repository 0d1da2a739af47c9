"""Flows that differ in a few settings: what each draws, by number of Euler steps."""

from __future__ import annotations

import time

import pandas as pd

from wflib.config import Section
from wflib.device import resolve_device
from wflib.evaluation import DrawQuality
from wflib.flow import FlowTrainer, flow_for_zoo, sample, save_flow, squared_path_length
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.rng import generator
from wflib.storage import save_json

__all__ = ["FLOW"]


def train_flow(inputs: Inputs, options: Section) -> Tables:
    """Train one flow and measure its draws on test examples, for every number of steps in evaluate.steps.

    Quality, spread relative to training networks, and the mean squared distance of coupled pairs. The flow is
    kept as flow.safetensors in the cell's folder, for other measurements of it, and flow.json says how long training
    took.
    """
    settings, config = inputs.settings, inputs.settings.evaluate
    zoo, dataset = inputs.learned_zoo()
    started = time.perf_counter()
    model = flow_for_zoo(settings, zoo, dataset.train).to(resolve_device(settings.training.device))
    trainer = FlowTrainer(model, zoo, settings.training, dataset.train)
    prepared = time.perf_counter() - started
    path_length = squared_path_length(trainer.pairs, settings.training.batch_size, config.seed)
    with inputs.progress(settings.training.iterations, inputs.out.name) as bar:
        model = trainer.run(lambda iteration, iterations, row: bar.update(iteration - bar.n))
    save_flow(inputs.out / "flow.safetensors", model)
    save_json(inputs.out / "flow.json", {"iterations": trainer.iteration, "seconds": prepared + trainer.seconds})
    facts = {
        "path_length": path_length,
        "validation_loss": trainer.history[-1]["validation_loss"],
        "training_seconds": trainer.seconds,
        "iterations": trainer.iteration,
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "zoo_networks": len(zoo.training_part),
    }
    if zoo.architecture.task_type != "classification" or not dataset.has_examples:
        return {"rows": pd.DataFrame([facts])}
    quality, rows = DrawQuality(zoo, dataset.test, config.seed), []
    for steps in config.steps:
        x = sample(model, config.curve_networks, steps, generator(config.seed, "study", "prior"))
        rows.append({"steps": steps, **quality(model.coordinates.decode_state(x)), **facts})
    return {"rows": pd.DataFrame(rows)}


FLOW = Measurement("flow", train_flow, reads=("data", "aligned", "canonical"), settings=True)
