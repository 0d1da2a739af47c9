"""Every generative model of networks on one zoo, measured alike."""

from __future__ import annotations

import time
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field

from wflib.config import Section, Seed
from wflib.device import resolve_device
from wflib.evaluation import (
    audit_examples,
    audit_networks,
    average_curve,
    diagnose_networks,
    evaluate_networks,
    one_per_cluster,
    part_quality,
)
from wflib.flow import load_flow
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.measurements.outside import read_outside, uncertainty_tables
from wflib.models import METHODS, ChainModel, FlowModel, GenerativeModel, method_settings
from wflib.networks import Networks
from wflib.rng import generator
from wflib.storage import load_json
from wflib.tasks import Dataset
from wflib.zoo import Zoo, require_same_architecture

__all__ = ["CONTROLS", "MODEL"]

CONTROLS = ("held-out", "training")
"""What is no model: the ceiling, and training networks with their own runs left out, which no test may flag."""
FOLLOWED = 500
"""Most examples whose predictions are followed along chains."""


class Options(Section):
    """Which model, and how many of its networks."""

    model: Annotated[str, Field(description=f"flow, {', '.join(CONTROLS)}, or a name of wflib.models.")]
    seed: Annotated[Seed, Field(description="Of the fit and of the draws.")] = 0
    networks: Annotated[int, Field(ge=20, description="Networks drawn.")] = 500


def draw(
    inputs: Inputs, options: Options, zoo: Zoo, dataset: Dataset
) -> tuple[Networks, torch.Tensor | None, dict[str, float]]:
    """Networks of a model or a control, the trajectories of the latter, and seconds of fit and draw."""
    name, networks, settings = options.model, options.networks, inputs.settings
    random = generator(options.seed, "audit", name)
    if name in CONTROLS:
        part = zoo.held_out_part if name == "held-out" else zoo.training_part
        part = part[one_per_cluster(part.trajectory, random)]  # any snapshot, as models draw
        part = part[torch.randperm(len(part), generator=random)[:networks]]
        return part.networks, part.trajectory, {}
    started, seconds = time.perf_counter(), {}
    model: GenerativeModel
    if name == "flow" and "drawn-flow" in inputs.files:
        path = inputs.path("drawn-flow")
        flow = load_flow(path, resolve_device(settings.sample.device))
        model = FlowModel(flow, settings.sample, dataset.train, dataset.validation)
        require_same_architecture(model.flow.architecture, zoo.architecture, f"{path}", "the zoo")
        seconds["fit_seconds"] = load_json(inputs.path("flow-facts"), "train-flow")["seconds"]
    elif name == "flow":
        values = {key: getattr(settings, key) for key in ("task", "flow", "velocity", "sample")}
        training = settings.training.model_copy(update={"seed": options.seed})
        model = FlowModel.fit(zoo, dataset, FlowModel.Settings(**values, training=training))
    else:
        model = METHODS[name].fit(zoo, dataset, method_settings(settings.models, name), random)
    fitted = time.perf_counter()
    drawn = model.draw(networks, random)
    took = {"fit_seconds": fitted - started, "draw_seconds": (time.perf_counter() - fitted) / len(drawn)}
    return drawn.to("cpu"), None, took | seconds | mixing(model, dataset)


def mixing(model: GenerativeModel, dataset: Dataset) -> dict[str, float]:
    """Largest R̂ and least effective sample size of what a model's chains predict on validation examples."""
    if not isinstance(model, ChainModel):
        return {}
    chains, draws = model.state["chains"].shape[:2]
    if chains < 2 or draws < 4:
        return {}
    networks = model.networks()
    found = diagnose_networks(networks, chains, dataset.validation.inputs[:FOLLOWED])
    return {"r_hat": found.r_hat, "effective_draws": found.ess_bulk, "chain_draws": len(networks)}


def audit_model(inputs: Inputs, options: Options) -> Tables:
    """Fit one model to the zoo's training part, draw networks, and measure them as all others are.

    flow.geometry says on which form of the zoo. Seconds are of this machine; draws are timed all at once. With inputs of
    another kind, tables say what averages of networks are worth on test examples, and what the average of all predicts.

    Raises:
        ValueError: No such model.
    """
    name, settings = options.model, inputs.settings
    if name not in ("flow", *CONTROLS, *METHODS):
        raise ValueError(f"--model: {name}: expected one of flow, {', '.join((*CONTROLS, *METHODS))}.")
    zoo, dataset = inputs.learned_zoo()
    zoo.require_both_parts("audit")
    trained = load_json(inputs.path("zoo-facts"), "train-zoo")
    drawn, trajectory, took = draw(inputs, options, zoo, dataset)
    found: dict[str, object] = {**took, "zoo_seconds": trained["seconds"]}
    found["training_seconds"] = trained["seconds"] / trained["trajectories"]
    training, held_out = zoo.training_part, zoo.held_out_part
    random, bins = generator(options.seed, "audit", name, "evaluate"), settings.evaluate.calibration_bins
    _, group, _ = evaluate_networks(
        name, drawn, dataset.test, training, bins, random, zoo.reference, trajectory=trajectory, novelty_networks=200
    )
    parts = part_quality(name, drawn, dataset, generator(0, "audit", "parts"), trajectory)
    for row in parts.to_dict("records"):
        found |= {f"{row['part']}_{name}": row[name] for name in ("accuracy", "nll", "nll_error_examples")}
    keys = ("bma_accuracy", "bma_nll", "bma_ece", "variance_ratio", "nearest_distance_mean", "nearest_distance_min")
    found |= {key: group[key] for key in ("accuracy_mean", "accuracy_std", *keys)}  # of all test examples
    found |= average_curve(drawn, dataset.validation, random)
    if name != "held-out" and len(drawn) > 1:
        examples, most = audit_examples(dataset, generator(0, "audit", "examples")), max(options.networks, 100)
        result = audit_networks(name, drawn, training, held_out, examples, random, trajectory=trajectory, most=most)
        found |= result.figures | {"rejected": ", ".join(result.rejected()) or "none"}
    facts = {"model": name, "geometry": settings.flow.geometry, "seed": options.seed, "networks": len(drawn)}
    tables = {"rows": pd.DataFrame([facts | found])}
    if "outside" in inputs.files:
        outside, random = read_outside(inputs.path("outside"), dataset), generator(options.seed, "audit", name, "averages")
        tables |= uncertainty_tables(drawn, dataset, outside, facts, bins, random)
    return tables


MODEL = Measurement(
    "model",
    audit_model,
    Options,
    ("data", "aligned", "canonical", "drawn-flow", "flow-facts", "zoo-facts", "outside"),
    settings=True,
)
