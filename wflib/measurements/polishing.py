"""Whether a draw from a flow saves steps of training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field

from wflib.config import Count, Section, Seed
from wflib.evaluation import DrawQuality
from wflib.flow import sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.models import LEARNING_RATES, best_learning_rate, trained_further
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.tasks import Dataset, Split

__all__ = ["POLISH"]

STEPS = (0, 1, 2, 5, 10, 20, 50, 100)
RATES = (*LEARNING_RATES, 0.1, 0.3)
"""Two more than draws take: the prior's are far from where they go."""
TRIED = 100


class Options(Section):
    """How many networks, how they are drawn, and what trains them."""

    networks: Annotated[int, Field(ge=2, description="Networks of each row.")] = 100
    steps: Annotated[Count, Field(description="Euler steps of a draw from the flow.")] = 16
    examples: Annotated[Count, Field(description="Training examples of a step of training, all at most.")] = 2048
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def timed(work: Callable[[], Networks]) -> tuple[Networks, float]:
    """The networks that work makes, on the CPU, and its seconds."""
    started = time.perf_counter()
    networks = work().to("cpu")
    return networks, time.perf_counter() - started


def examples_of(dataset: Dataset, count: int, seed: int) -> Split:
    """Random training examples, all of them at most."""
    if not dataset.has_examples:
        raise ValueError("the dataset has no examples to train on; choose another task than none.")
    return dataset.train.some(count, generator(seed, "study", "examples"))


def polished(
    drawn: Networks, batch: Split, validation: Split, device: torch.device
) -> Iterator[tuple[dict[str, float], Networks]]:
    """Steps, learning rate and seconds of all networks, and the networks after these steps."""
    yield {"steps": 0, "learning_rate": math.nan, "seconds": 0.0}, drawn
    for steps in STEPS[1:]:
        rate = best_learning_rate(drawn[:TRIED].to(device), batch, validation, steps, RATES)
        moved, seconds = timed(partial(trained_further, drawn.to(device), batch, steps, rate))
        yield {"steps": steps, "learning_rate": rate, "seconds": seconds}, moved


def compare_with_training(inputs: Inputs, options: Options) -> Tables:
    """Train draws of a flow and of its prior by 0 to 100 full-batch steps, and compare cost, loss and spread of both.

    What sample.polish_steps does to draws of the flow, and what the same steps make of networks that were not drawn from it.
    """
    model, networks, seed = inputs.flow(), options.networks, options.seed
    zoo, dataset = inputs.of_flow(model)
    batch = examples_of(dataset, options.examples, seed)
    quality, decode = DrawQuality(zoo, dataset.test, seed), model.coordinates.decode_state

    def from_flow(count: int) -> Networks:
        return decode(sample(model, count, options.steps, generator(seed, "study", "prior")))

    def from_prior(count: int) -> Networks:
        return decode(model.prior.sample(count, generator(seed, "study", "prior")))

    rows: list[dict[str, object]] = []
    with inputs.progress(2 * len(STEPS), "steps of training") as bar:
        for start, draw in (("flow", from_flow), ("prior", from_prior)):
            draw(2)  # what is slow once only
            drawn, seconds = timed(partial(draw, networks))
            drawn.require_finite(f"draws from the {start}", "take more --steps")
            for row, moved in polished(drawn, batch, dataset.validation, model.device):
                row["seconds"] = (seconds + row["seconds"]) / networks
                for part, split in (("train", dataset.train), ("validation", dataset.validation)):
                    row[f"{part}_nll"] = network_losses(moved, split, chunk=256).mean().item()
                rows.append({"start": start, **row, **quality(moved)})
                bar.update()
    return {"rows": pd.DataFrame(rows)}


POLISH = Measurement("polish", compare_with_training, Options, ("data", "aligned", "canonical", "flow"))
