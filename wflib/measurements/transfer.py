"""Draws of a flow guided to another task, beside as many steps of plain training on it (thesis table 7.3)."""

from __future__ import annotations

import time
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from wflib.config import Count, Positive, Section, Seed, ZooConfig
from wflib.evaluation import sampling_quality, without_output_scale
from wflib.flow import Flow, sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.measurements.quality import BATCH, guidance_by, tested
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import decanonicalize
from wflib.tasks import Dataset, Split
from wflib.zoo import train_networks

__all__ = ["TRANSFER", "aimed_at", "recipe_of", "trained_by_adam"]

PUBLISHED = 0.1
"""The thesis' λ."""
STRENGTHS, RATES = (0.1, 1.0, 3.0, 10.0, 30.0), (0.001, 0.003, 0.01, 0.03)
STRONGER = (1, 3, 10, 30)
"""Strengths at more steps, times the best at fewer: a step of guidance is λ / steps long, and short ones do no harm."""


class Options(Section):
    """How networks are guided, and what they are compared with."""

    networks: Annotated[int, Field(ge=2, description="Networks of each row.")] = 32
    steps: Annotated[tuple[Count, ...], Field(description="Euler steps, each a gradient; repeat for more.")] = (64, 512)
    strength: Annotated[tuple[Positive, ...], Field(description="Strengths λ of guidance; repeat for more.")] = STRENGTHS
    rate: Annotated[tuple[Positive, ...], Field(description="Learning rates of plain training; repeat for more.")] = RATES
    batch: Annotated[Count, Field(description="Training examples of a gradient, of guidance as of training.")] = 256
    epochs: Annotated[Count, Field(description="Of the networks that are trained on the task for longer.")] = 5
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def recipe_of(rate: float, epochs: int, seed: int, batch: int) -> ZooConfig:
    """Adam on mini-batches."""
    return ZooConfig(
        seed=seed,
        network="mlp",
        widths=[1],
        activation="relu",
        networks=2,
        held_out=0.5,
        optimizer="adam",
        learning_rate=rate,
        momentum=0.0,
        weight_decay=0.0,
        batch_size=batch,
        epochs=epochs,
        skip_epochs=0,
        snapshot_every=1,
        init="normal",
        init_std=1.0,
        device="cpu",
    )


def trained_by_adam(
    start: Networks, train: Split, rate: float, steps: list[int], seed: int, batch: int = BATCH
) -> list[Networks]:
    """Networks after some numbers of mini-batch steps from given ones, in their own form's ordinary one."""
    start = decanonicalize(start).to("cpu")
    an_epoch = max(1, len(train.targets) // batch)
    flat = train_networks(start, train, recipe_of(rate, -(-steps[-1] // an_epoch), seed, batch), steps)
    return [Networks.from_flat(start.architecture, flat[:, place]) for place in range(len(steps))]


def measure_transfer(inputs: Inputs, options: Options) -> Tables:
    """Draw networks guided by another task's training loss, and train others by as many gradients.

    Guided draws take several strengths, most of them at the fewest steps; where a flow sees the loss' gradient, they see
    that of the other task. Beside them: such draws without guidance, draws from the flow as it is without guidance and with
    the published strength and batch; as many mini-batch steps of Adam from the flow's prior and from its draws, and some
    epochs of them, for every learning rate. Guidance and training see training data only, validation rows say which strength
    or rate to take, test rows what it is worth. Seconds count drawing.
    """
    flow, seed = inputs.flow(), options.seed
    dataset = inputs.dataset(flow.architecture, inputs.path("flow"), "target")
    rows: list[dict[str, Any]] = []

    def add(way: str, steps: int, setting: float, networks: Networks, seconds: float) -> float:
        row = {"way": way, "steps": steps, "setting": setting, "seconds": seconds / len(networks)}
        rows.append(row | measured(networks.to("cpu"), dataset))
        bar.update()
        return float(rows[-1]["validation_nll"])

    def draw(who: Flow, steps: int, strength: float = 0.0, batch: int = options.batch) -> tuple[Networks, float]:
        started = time.perf_counter()
        guidance = guidance_by(who, dataset.train, strength, seed, batch)
        x = sample(who, options.networks, steps, generator(seed, "paper", "prior"), guidance)
        return who.coordinates.decode_state(x), time.perf_counter() - started

    def train(way: str, steps: int, start: Networks, drawing: float = 0.0) -> None:
        for rate in options.rate:
            started = time.perf_counter()
            (networks,) = trained_by_adam(start, dataset.train, rate, [steps], seed, options.batch)
            add(way, steps, rate, networks, drawing + time.perf_counter() - started)

    aimed, strengths, several = aimed_at(flow, dataset, seed), options.strength, sorted(options.steps)
    each = 1 + (aimed is not flow) + 2 * len(options.rate)
    total = len(several) * (each + len(STRONGER)) + len(strengths) - len(STRONGER) + 1 + len(options.rate)
    with inputs.progress(total, "transfer") as bar:
        draw(flow, 1)  # what is slow once only
        unguided, seconds = draw(flow, 16)
        prior = flow.coordinates.decode_state(flow.prior.sample(options.networks, generator(seed, "paper", "prior")))
        for steps in several:
            add("not guided", steps, 0.0, *draw(flow, steps))
            if aimed is not flow:
                add("sees the other task", steps, 0.0, *draw(aimed, steps))
            losses = {strength: add("guided", steps, strength, *draw(aimed, steps, strength)) for strength in strengths}
            strengths = tuple(factor * min(losses, key=losses.__getitem__) for factor in STRONGER)
            train("trained from the prior", steps, prior)
            train("trained from draws", steps, unguided, seconds)
        add("guided as published", several[-1], PUBLISHED, *draw(flow, several[-1], PUBLISHED, BATCH))
        train("trained for epochs", options.epochs * max(1, len(dataset.train.targets) // options.batch), prior)
    return {"rows": pd.DataFrame(rows)}


def aimed_at(flow: Flow, dataset: Dataset, seed: int) -> Flow:
    """The flow as it sees the loss' gradient on another task's training examples; itself if it sees none."""
    if flow.examples is None:
        return flow
    return flow.with_examples(dataset.train.some(len(flow.examples.targets), generator(seed, "paper", "seen")))


def measured(networks: Networks, dataset: Dataset) -> dict[str, Any]:
    """What :func:`tested` says, and of canonical networks the test loss without their output scale."""
    found = tested(networks, dataset)
    if networks.architecture.log_scale is not None:
        bare = sampling_quality(without_output_scale(networks), dataset.test)
        found |= {"bare_nll_mean": bare["nll_mean"], "bare_nll_std": bare["nll_std"]}
    return found


TRANSFER = Measurement("transfer", measure_transfer, Options, ("flow", "target"))
