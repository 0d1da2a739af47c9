"""Spread of a flow's draws in weights: what deterministic and stochastic sampling keep of it (thesis figure 7.1)."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from wflib.config import Count, NonNegative, Section, Seed
from wflib.evaluation import variance_ratio
from wflib.flow import AddedNoise, Diffusion, diffusion_of, sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.rng import generator

__all__ = ["TOY"]


class Options(Section):
    """How networks are drawn."""

    networks: Annotated[int, Field(ge=2, description="Draws of each way.")] = 500
    steps: Annotated[Count, Field(description="Euler steps.")] = 100
    noise: Annotated[NonNegative, Field(description="Deviation ε of noise before each step, the thesis' way.")] = 0.05
    diffusion: Annotated[NonNegative, Field(description="Strength η of the diffusion that keeps marginals.")] = 1.0
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def measure_spread(inputs: Inputs, options: Options) -> Tables:
    """Means over each drawn network's weights, and variances of every weight over networks, by way of sampling.

    Beside networks of the zoo's training part: the variance ratio is the mean over weights of the draws' variance over
    theirs. The table means has one row a network.
    """
    flow, seed = inputs.flow(), options.seed
    zoo = inputs.zoo_of(flow)
    target = flow.coordinates.encode(zoo.training_part.networks)
    ways: dict[str, AddedNoise | Diffusion | None] = {"deterministic": None}
    ways["noise"] = AddedNoise(options.noise, generator(seed, "paper", "noise"))
    with suppress(ValueError):  # of flows without a known score there is none
        ways["diffusion"] = diffusion_of(flow, options.diffusion, generator(seed, "paper", "noise"))
    rows, means = [], []
    sets: dict[str, Tensor] = {"target": target[torch.randperm(len(target), generator=generator(seed, "paper", "target"))]}
    with inputs.progress(len(ways), "ways of sampling") as bar:
        for name, stochastic in ways.items():
            random = generator(seed, "paper", "prior")
            sets[name] = sample(flow, options.networks, options.steps, random, stochastic=stochastic)
            bar.update()
    for name, x in sets.items():
        of_each = x[: options.networks].double().mean(1)
        ratio = variance_ratio(x[: options.networks], target).mean if name != "target" else math.nan
        rows.append({"way": name, "mean": of_each.mean().item(), "std": of_each.std().item(), "variance_ratio": ratio})
        means.append(pd.DataFrame({"way": name, "mean_weight": of_each.tolist()}))
    return {"rows": pd.DataFrame(rows), "means": pd.concat(means)}


TOY = Measurement("toy", measure_spread, Options, ("aligned", "canonical", "flow"))
