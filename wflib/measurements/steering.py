"""Three ways to ask a flow for networks of a low loss: guidance, conditioning, and choosing where it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from wflib.config import Count, NonNegative, Positive, Section, Seed
from wflib.evaluation import DrawQuality, part_quality
from wflib.flow import Flow, network_figures, optimize_start, sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.measurements.quality import guidance_by
from wflib.networks import network_losses
from wflib.rng import generator
from wflib.tasks import Dataset

__all__ = ["STEERING"]

STRENGTHS, ASKED = (0.03, 0.1, 0.3, 1.0, 3.0), (0.0, 1.0, 2.0)

EXAMPLES = 512
"""Training examples whose loss starting points lower: one set, so that the best of several gradients is not luck."""


class Options(Section):
    """How strongly, and for how many networks."""

    networks: Annotated[int, Field(ge=2, description="Networks of each row.")] = 32
    steps: Annotated[Count, Field(description="Euler steps of a draw.")] = 8
    strength: Annotated[tuple[Positive, ...], Field(description="Strengths λ of guidance; repeat for more.")] = STRENGTHS
    asked: Annotated[tuple[NonNegative, ...], Field(description="Strengths w of classifier-free guidance; repeat.")] = ASKED
    iterations: Annotated[tuple[Count, ...], Field(description="Gradients of x_0; repeat for more.")] = (1, 3, 10, 30)
    rate: Annotated[Positive, Field(description="Learning rate of x_0, relative to the prior's deviations.")] = 0.1
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def compare_steering(inputs: Inputs, options: Options) -> Tables:
    """Draw networks plainly, guided on the way, asked for a low loss, and from optimised starting points.

    Guidance lowers the loss of mini-batches of training examples, starting points that of some hundred of them, always the
    same. Classifier-free guidance needs a second flow, --conditioned, which is asked for the 5th percentile of its zoo's
    losses. Evaluations: of the velocity network, for a network drawn; a gradient through one counts as two more. Seconds of
    one network; spread as in all draws.
    """
    flow, seed = inputs.flow(), options.seed
    zoo, dataset = inputs.of_flow(flow)
    quality, rows = DrawQuality(zoo, dataset.test, seed), []

    def add(way: str, setting: float, evaluations: float, who: Flow, draw: Callable[[], Tensor]) -> None:
        started = time.perf_counter()
        drawn = who.coordinates.decode_state(draw()).to("cpu")
        seconds = (time.perf_counter() - started) / len(drawn)
        row = {"way": way, "setting": setting, "evaluations": evaluations, "seconds": seconds, **quality(drawn)}
        rows.append(row | parts_of(drawn, dataset))
        bar.update()

    def prior() -> torch.Generator:
        return generator(seed, "paper", "prior")

    networks, steps = options.networks, options.steps
    with inputs.progress(1 + len(options.strength) + len(options.iterations), "steering") as bar:
        sample(flow, 2, 1, prior())  # what is slow once only
        add("plain", 0.0, steps, flow, lambda: sample(flow, networks, steps, prior()))
        for strength in options.strength:
            guidance = guidance_by(flow, dataset.train, strength, seed)
            add("guidance", strength, steps, flow, partial(sample, flow, networks, steps, prior(), guidance))
        for iterations in options.iterations:
            draw = started_well(flow, dataset, options, iterations)
            add("starting point", iterations, 3 * steps * (iterations + 1), flow, draw)
        if "conditioned" in inputs.files:
            asked, figure = conditioned(inputs)
            sample(asked, 2, 1, prior(), condition=figure)
            for w in options.asked:
                draw = partial(sample, asked, networks, steps, prior(), condition=figure, condition_strength=w)
                add("asked", w, steps * (1 + (w > 0)), asked, draw)
    return {"rows": pd.DataFrame(rows)}


def started_well(flow: Flow, dataset: Dataset, options: Options, iterations: int) -> Callable[[], Tensor]:
    """Draws from starting points that were optimised."""

    def draw() -> Tensor:
        examples = dataset.train.some(EXAMPLES, generator(options.seed, "paper", "start")).to(flow.device)
        x_0 = flow.start.sample(options.networks, generator(options.seed, "paper", "prior"))
        rate = options.rate * flow.prior.width.median().item()
        decode, steps = flow.coordinates.decode_state, options.steps
        return optimize_start(
            flow, lambda x: network_losses(decode(x), examples), x_0, steps, iterations, rate, flow.prior
        ).x_1

    return draw


def conditioned(inputs: Inputs) -> tuple[Flow, float]:
    """A flow to be asked, and the 5th percentile of its zoo's losses on training examples."""
    flow = inputs.flow("conditioned")
    path = inputs.path("conditioned")
    if flow.condition is None or flow.condition.name != "loss":
        raise ValueError(f"{path}: expected a flow trained with flow.condition=loss, got one of another condition or none.")
    zoo, dataset = inputs.of_flow(flow, "conditioned")
    losses = network_figures(zoo.training_part.networks, dataset.train, "loss")
    return flow, losses.quantile(0.05).item()


def parts_of(networks: Any, dataset: Dataset) -> dict[str, float]:
    """Losses on all parts of the data."""
    parts = part_quality("", networks, dataset, generator(0, "paper", "parts"))
    return {f"{row['part']}_nll": row["nll"] for row in parts.to_dict("records")}


STEERING = Measurement("steering", compare_steering, Options, ("data", "aligned", "canonical", "flow", "conditioned"))
