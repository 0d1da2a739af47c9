"""Draws of a flow over regressions, single and averaged, beside held-out networks."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from wflib.config import Count, Section, Seed
from wflib.evaluation import (
    gaussian_nll,
    interval_coverage,
    mean_and_std,
    mixture_nll,
    noise_deviation,
    root_mean_squared_error,
)
from wflib.flow import sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.measurements.quality import FURTHER, learned_networks
from wflib.models import polish
from wflib.networks import Networks
from wflib.rng import generator
from wflib.tasks import Dataset

__all__ = ["REGRESSION"]


class Options(Section):
    """Which draws are measured."""

    networks: Annotated[int, Field(ge=2, description="Networks of each row.")] = 100
    steps: Annotated[tuple[Count, ...], Field(description="Steps of the settings' solver; repeat.")] = (8, 16, 64)
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def measure_regression(inputs: Inputs, options: Options) -> Tables:
    """Root mean squared error and NLL of single networks and of their average, on all parts of the data.

    In deviations of the target. The noise of an observation is one for each set of networks, by maximum likelihood on
    validation data; coverage is the share of test targets in the average's central 90 % interval. At the most steps there is
    a row after the steps of training that the settings' section sample asks for, if any.

    Raises:
        ValueError: A flow over classifiers.
    """
    flow, seed, config = inputs.flow(), options.seed, inputs.settings.sample
    if flow.architecture.task_type != "regression":
        raise ValueError(f"{inputs.path('flow')}: expected a flow over regressions, got one over classifiers.")
    zoo, dataset = inputs.of_flow(flow)
    rows = []
    for name, part in (("training", zoo.training_part), ("held-out", zoo.held_out_part)):
        networks = learned_networks(part, options.networks, seed, name)
        rows.append({"source": name, "steps": 0, **measured(networks, dataset)})
    for steps in options.steps:
        x = sample(flow, options.networks, steps, generator(seed, "paper", "prior"), **config.by_steps)
        drawn = flow.coordinates.decode_state(x).to("cpu")
        rows.append({"source": "samples", "steps": steps, **measured(drawn, dataset)})
        if config.polish_steps and steps == max(options.steps):
            after = polish(drawn, dataset.train, dataset.validation, config)
            rows.append({"source": FURTHER, "steps": steps, **measured(after.networks, dataset)})
    return {"rows": pd.DataFrame(rows)}


@torch.no_grad()
def measured(networks: Networks, dataset: Dataset) -> dict[str, Any]:
    """One row of :func:`measure_regression`."""

    def predictions(part: str) -> Tensor:
        return torch.cat([some.forward(getattr(dataset, part).inputs) for some in networks.split(256)])

    noise = noise_deviation(predictions("validation"), dataset.validation.targets)
    found: dict[str, Any] = {"networks": len(networks), "noise": noise}
    for part in ("train", "validation", "test"):
        values, targets = predictions(part), getattr(dataset, part).targets
        measures = {"rmse": root_mean_squared_error(values, targets), "nll": gaussian_nll(values, targets, noise)}
        for name, value in measures.items():
            found[f"{part}_{name}_mean"], found[f"{part}_{name}_std"] = mean_and_std(value)
        found[f"{part}_average_rmse"] = root_mean_squared_error(values.mean(0, keepdim=True), targets).item()
        found[f"{part}_average_nll"] = mixture_nll(values, targets, noise)
    coverage = interval_coverage(predictions("test"), dataset.test.targets, [0.9], noise)
    return found | {"coverage_90": coverage.item()}


REGRESSION = Measurement(
    "regression", measure_regression, Options, ("data", "aligned", "canonical", "flow"), settings=("sample",)
)
