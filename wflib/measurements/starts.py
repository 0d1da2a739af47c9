"""Draws of a flow as initial weights on another task, beside random and trained ones (thesis figure 7.6)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field

from wflib.config import Count, Positive, Section, Seed
from wflib.flow import Flow, sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.measurements.quality import guidance_by, learned_networks
from wflib.measurements.transfer import aimed_at, trained_by_adam
from wflib.models import LEARNING_RATES, best_learning_rate, trained_further
from wflib.networks import Networks, accuracy, negative_log_likelihood, network_losses, predict
from wflib.rng import generator
from wflib.symmetry import decanonicalize
from wflib.zoo import initialize

__all__ = ["STARTS"]

STEPS = (1, 2, 5, 10, 20, 50, *range(100, 1000, 100), 1000, 1500, 2000, 4000)
PUBLISHED_VARIANCE = 0.1
STRENGTHS = (10.0, 20.0, 40.0, 60.0)


class Options(Section):
    """How networks are trained, and how often."""

    runs: Annotated[int, Field(ge=2, description="Training runs from every start.")] = 5
    steps: Annotated[tuple[Count, ...], Field(description="Steps after which runs are measured; repeat for more.")] = STEPS
    rate: Annotated[Positive, Field(description="Learning rate of Adam, for all starts.")] = 0.001
    draw_steps: Annotated[Count, Field(description="Euler steps of a draw.")] = 64
    guided: Annotated[Count, Field(description="Euler steps of a guided draw, each a gradient.")] = 256
    strength: Annotated[tuple[Positive, ...], Field(description="Strengths λ to choose from; repeat for more.")] = STRENGTHS
    batch: Annotated[Count, Field(description="Training examples of such a gradient.")] = 256
    few: Annotated[Count, Field(description="Full-batch steps of the start few-steps.")] = 20
    examples: Annotated[Count, Field(description="Training examples of these steps, at most.")] = 2048
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def compare_starts(inputs: Inputs, options: Options) -> Tables:
    """Train networks on another task by Adam from several kinds of initial weights, each run measured on the way.

    Starts: draws of the flow; such draws guided by the new task's training loss, the flow seeing its gradient if it sees
    one; N(0, σ²) with the σ of the flow's own zoo, the thesis' N(0, 0.1), and He's; trained networks of that zoo; and a few
    full-batch steps on the new task from N(0, σ²). Strength of guidance and learning rate of these steps have the lowest
    validation loss of those tried. All runs of a start are trained together; seconds are of one: what making the start
    took, all tries included, and what a step takes. Gradients of the new task that went into a start are counted apart.
    """
    flow, seed, runs = inputs.flow(), options.seed, options.runs
    zoo = inputs.zoo_of(flow)
    dataset = inputs.dataset(flow.architecture, inputs.path("flow"), "target")
    aimed = aimed_at(flow, dataset, seed)
    ordinary = flow.architecture.ordinary_form()
    std = float(zoo.metadata.get("init_std", 0.1))

    def random_start(init: str, std: float = std) -> Networks:
        return initialize(ordinary, runs, std, generator(seed, "paper", init), init)

    def few_steps() -> Networks:
        start, random = random_start("normal"), generator(seed, "paper", "examples")
        batch = dataset.train.some(options.examples, random)
        rate = best_learning_rate(start, batch, dataset.validation, options.few, (*LEARNING_RATES, 0.1))
        return trained_further(start, batch, options.few, rate)

    def draws(who: Flow = flow, steps: int = options.draw_steps, strength: float = 0.0) -> Networks:
        guidance = guidance_by(who, dataset.train, strength, seed, options.batch)
        x = sample(who, runs, steps, generator(seed, "paper", "starts"), guidance)
        return decanonicalize(flow.coordinates.decode_state(x).to("cpu"))

    def guided() -> Networks:
        tried = [draws(aimed, options.guided, strength) for strength in options.strength]
        losses = torch.stack([network_losses(networks, dataset.validation).mean() for networks in tried])
        return tried[int(losses.nan_to_num(torch.inf).argmin())]

    gradients = {"guided flow": options.guided, "few-steps": options.few}
    starts: dict[str, Callable[[], Networks]] = {
        "flow": draws,
        "guided flow": guided,
        "gaussian": lambda: random_start("normal"),
        "wide-gaussian": lambda: random_start("normal", PUBLISHED_VARIANCE**0.5),
        "he": lambda: random_start("he"),
        "zoo": lambda: decanonicalize(learned_networks(zoo.training_part, runs, seed, "starts")),
        "few-steps": few_steps,
    }
    sample(flow, 2, 1, generator(seed, "paper", "once"))  # what is slow once only
    tables, steps = [], sorted({0, *options.steps})
    with inputs.progress(len(starts), "starts") as bar:
        for name, start in starts.items():
            bar.set_postfix_str(name)
            started = time.perf_counter()
            first = start()
            making = (time.perf_counter() - started) / runs
            started = time.perf_counter()
            on_the_way = trained_by_adam(first, dataset.train, options.rate, steps, seed)
            step_seconds = (time.perf_counter() - started) / (runs * steps[-1])
            for step, networks in zip(steps, on_the_way, strict=True):
                columns: dict[str, object] = {"start": name, "run": range(len(networks)), "step": step}
                for part in ("validation", "test"):
                    split = getattr(dataset, part)
                    found = predict(networks, split.inputs)
                    columns[f"{part}_accuracy"] = accuracy(found, split.targets).tolist()
                    columns[f"{part}_nll"] = negative_log_likelihood(found, split.targets).tolist()
                cost = {"making_gradients": gradients.get(name, 0), "making_seconds": making, "step_seconds": step_seconds}
                tables.append(pd.DataFrame(columns | cost))
            bar.update()
    return {"rows": pd.concat(tables)}


STARTS = Measurement("starts", compare_starts, Options, ("aligned", "canonical", "flow", "target"))
