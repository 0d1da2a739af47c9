"""Conditioned flows: whether networks have the figure they were asked for."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
import torch
from pydantic import Field

from wflib.config import Count, Section, Seed
from wflib.flow import network_figures, sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.rng import generator

__all__ = ["CONDITION"]

STRENGTHS = (0.0, 1.0, 2.0)


class Options(Section):
    """How many networks are asked for, and how they are drawn."""

    networks: Annotated[int, Field(ge=10, description="Samples of each strength, each asked for its own figure.")] = 400
    steps: Annotated[Count, Field(description="Euler steps.")] = 32
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def ask(inputs: Inputs, options: Options) -> Tables:
    """Ask a conditioned flow for figures over the zoo's range, at several strengths of guidance, and measure what comes.

    The flow is one trained with flow.condition: loss or accuracy. Figures are on training examples, evenly spaced between
    the zoo's 1st and 99th percentile (of logarithms for a loss).

    Raises:
        ValueError: The flow has no condition.
    """
    model = inputs.flow()
    if model.condition is None:
        path = inputs.path("flow")
        raise ValueError(f"{path}: this flow has no condition; train one with flow.condition=loss or accuracy.")
    zoo, dataset = inputs.of_flow(model)
    name, networks, rows = model.condition.name, options.networks, []
    figures = network_figures(zoo.training_part.networks, dataset.train, name)
    low, high = (figures.quantile(level).clamp_min(1e-12).item() for level in (0.01, 0.99))
    asked = torch.linspace(0, 1, networks)
    asked = low * (high / low) ** asked if name == "loss" else low + (high - low) * asked
    with inputs.progress(len(STRENGTHS) * networks, "samples") as bar:
        for strength in STRENGTHS:
            done = bar.n

            def show(count: int, done: float = done) -> None:
                bar.update(done + count - bar.n)

            x = sample(
                model,
                networks,
                options.steps,
                generator(options.seed, "study", "prior"),
                condition=asked.to(model.device),
                condition_strength=strength,
                progress=show,
            )
            drawn = model.coordinates.decode_state(x)
            found = network_figures(drawn, dataset.train, name).tolist()
            test = network_figures(drawn, dataset.test, "loss").tolist()
            columns = {"figure": name, "strength": strength, "asked": asked.tolist(), "found": found, "test_loss": test}
            rows.append(pd.DataFrame(columns))
    return {"rows": pd.concat(rows)}


CONDITION = Measurement("condition", ask, Options, ("data", "aligned", "canonical", "flow"))
