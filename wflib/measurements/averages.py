"""What averages of a flow's draws predict, beside averages of trained networks."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
import torch
from pydantic import Field

from wflib.config import Count, Section, Seed
from wflib.evaluation import bayesian_model_average, expected_calibration_error, mean_and_std
from wflib.flow import sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.measurements.quality import BINS, FURTHER, learned_networks
from wflib.models import polish
from wflib.networks import Networks, accuracy, negative_log_likelihood, predict
from wflib.rng import generator
from wflib.tasks import Dataset

__all__ = ["AVERAGES"]

COUNTS = (1, 2, 4, 8, 16, 32, 64, 100)


class Options(Section):
    """Which averages."""

    networks: Annotated[int, Field(ge=2, description="Networks to choose from.")] = 200
    count: Annotated[tuple[Count, ...], Field(description="Networks in an average; repeat for more.")] = COUNTS
    repeats: Annotated[int, Field(ge=2, description="Averages of each size, at least.")] = 20
    steps: Annotated[Count, Field(description="Steps of a draw, by the sampler of the settings.")] = 64
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def measure_averages(inputs: Inputs, options: Options) -> Tables:
    """Accuracy, NLL and calibration error on test data of averages of 1, 2, … random draws, as mean and deviation.

    The same of these draws after the steps of training that the settings' section sample asks for, if any, of networks of
    training trajectories, any snapshot, and the accuracy on validation data.
    """
    flow, seed, config = inputs.flow(), options.seed, inputs.settings.sample
    zoo, dataset = inputs.of_flow(flow)
    x = sample(flow, options.networks, options.steps, generator(seed, "paper", "averages"), **config.by_steps)
    sets = {"samples": flow.coordinates.decode_state(x).to("cpu")}
    if config.polish_steps:
        sets[FURTHER] = polish(sets["samples"], dataset.train, dataset.validation, config).networks
    sets["training"] = learned_networks(zoo.training_part, options.networks, seed, "averages")
    return {"rows": pd.concat([averages_of(name, part, dataset, options) for name, part in sets.items()])}


@torch.no_grad()
def averages_of(source: str, networks: Networks, dataset: Dataset, options: Options) -> pd.DataFrame:
    """A row for each size of average that there are networks for; of small ones as many as take each network about once."""
    parts = {name: predict(networks, getattr(dataset, name).inputs) for name in ("validation", "test")}
    random, rows = generator(options.seed, "paper", "chosen", source), []
    for count in options.count:
        if count > len(networks):
            break
        repeats = max(options.repeats, len(networks) // count)
        chosen = torch.rand(repeats, len(networks), generator=random).argsort(1)[:, :count]
        row: dict[str, object] = {"source": source, "count": count}
        for part, log_probabilities in parts.items():
            averages = torch.stack([bayesian_model_average(log_probabilities[some]) for some in chosen])
            targets = getattr(dataset, part).targets
            measures = {
                "accuracy": accuracy(averages, targets),
                "nll": negative_log_likelihood(averages, targets),
                "ece": expected_calibration_error(averages, targets, BINS),
            }
            for name, values in measures.items():
                row[f"{part}_{name}_mean"], row[f"{part}_{name}_std"] = mean_and_std(values.double())
        rows.append(row)
    return pd.DataFrame(rows)


AVERAGES = Measurement("averages", measure_averages, Options, ("data", "aligned", "canonical", "flow"), settings=("sample",))
