"""study-polish: whether a draw from a flow saves steps of training; reports/studies/dvc.yaml runs it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
    FLOW,
    AlignedZoo,
    CanonicalZoo,
    DatasetFile,
    FlowFile,
    application,
    progress_bar,
    running,
    zoo_of_flow,
)
from wflib.device import resolve_device
from wflib.evaluation import DrawQuality
from wflib.flow import load_flow, sample
from wflib.models import LEARNING_RATES, best_learning_rate, trained_further
from wflib.networks import Networks, network_losses
from wflib.report import measures_markdown, polish_figure, save_study, saved_steps
from wflib.rng import generator
from wflib.tasks import Dataset, Split, load_dataset

app = application("study-polish")

STEPS = (0, 1, 2, 5, 10, 20, 50, 100)
RATES = (*LEARNING_RATES, 0.1, 0.3)
"""Two more than draws take: the prior's are far from where they go."""
TRIED = 100
EXPLAINED = (
    "Draws from the flow ({euler} Euler steps) and from its prior, after full-batch steps of Adam on {examples} training "
    "examples. Learning rate: of {rates} the one with the lowest mean validation loss of {tried} networks, for each start "
    "and number of steps. Seconds: for one network of {networks} computed together, drawing counted, but neither the choice "
    "of the rate nor what the flow and its zoo cost. NLL in nats, of training and validation examples, nll mean of test "
    "examples; variance ratio: variance over that of training networks, both matched to one reference."
)
SAVED = (
    "The fewest steps from the prior, of those measured, whose mean NLL (on training, on test data) is as low as that of "
    "the flow's draws after the steps in the first column."
)


def timed(work: Callable[[], Networks]) -> tuple[Networks, float]:
    """The networks that work makes, on the CPU, and its seconds."""
    started = time.perf_counter()
    networks = work().to("cpu")
    return networks, time.perf_counter() - started


def examples_of(dataset: Dataset, count: int, seed: int) -> Split:
    """Random training examples, all of them at most."""
    if not dataset.has_examples:
        raise ValueError("the dataset has no examples to train on; choose another task than none.")
    chosen = torch.randperm(len(dataset.train.targets), generator=generator(seed, "study", "examples"))[:count]
    return Split(dataset.train.inputs[chosen], dataset.train.targets[chosen])


def polished(
    drawn: Networks, batch: Split, validation: Split, device: torch.device
) -> Iterator[tuple[dict[str, float], Networks]]:
    """Steps, learning rate and seconds of all networks, and the networks after these steps."""
    yield {"steps": 0, "learning_rate": math.nan, "seconds": 0.0}, drawn
    for steps in STEPS[1:]:
        rate = best_learning_rate(drawn[:TRIED].to(device), batch, validation, steps, RATES)
        moved, seconds = timed(partial(trained_further, drawn.to(device), batch, steps, rate))
        yield {"steps": steps, "learning_rate": rate, "seconds": seconds}, moved


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv, .md and .svg.")],
    flow: FlowFile = FLOW,
    data: DatasetFile = DATASET,
    aligned: AlignedZoo = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
    networks: Annotated[int, typer.Option(help="Networks of each row.", min=2)] = 100,
    steps: Annotated[int, typer.Option(help="Euler steps of a draw from the flow.", min=1)] = 16,
    examples: Annotated[int, typer.Option(help="Training examples of a step of training, all at most.", min=1)] = 2048,
    seed: Annotated[int, typer.Option(help="Of every random number.", min=0)] = 0,
) -> None:
    """Train draws of a flow and of its prior by 0 to 100 full-batch steps, and compare cost, loss and spread of both.

    What sample.polish_steps does to draws of the flow, and what the same steps make of networks that were not drawn from it.
    """
    with running("study-polish", out.parent / "stages") as facts:
        model = load_flow(flow, resolve_device("auto"))
        dataset = load_dataset(data).for_networks(model.architecture, f"{flow}")
        zoo = zoo_of_flow(flow, model.config.geometry, model.architecture, aligned, canonical)
        batch = examples_of(dataset, examples, seed)
        quality, decode = DrawQuality(zoo, dataset.test, seed), model.coordinates.decode_state

        def from_flow(count: int) -> Networks:
            return decode(sample(model, count, steps, generator(seed, "study", "prior")))

        def from_prior(count: int) -> Networks:
            return decode(model.prior.sample(count, generator(seed, "study", "prior")))

        rows: list[dict[str, object]] = []
        with progress_bar(2 * len(STEPS), "steps of training", "row") as bar:
            for start, draw in (("flow", from_flow), ("prior", from_prior)):
                draw(2)  # what is slow once only
                drawn, seconds = timed(lambda draw=draw: draw(networks))
                drawn.require_finite(f"draws from the {start}", "take more --steps")
                for row, moved in polished(drawn, batch, dataset.validation, model.device):
                    row["seconds"] = (seconds + row["seconds"]) / networks
                    for part, split in (("train", dataset.train), ("validation", dataset.validation)):
                        row[f"{part}_nll"] = network_losses(moved, split, chunk=256).mean().item()
                    rows.append({"start": start, **row, **quality(moved)})
                    bar.update()
        table = pd.DataFrame(rows)
        saved = saved_steps(table, "flow", "prior", ("train_nll", "nll_mean"))
        given = {"euler": steps, "examples": len(batch.targets), "tried": min(TRIED, networks), "networks": networks}
        explained = EXPLAINED.format(rates=", ".join(map(str, RATES)), **given)
        text = f"{measures_markdown(table, explained)}\n{measures_markdown(saved, SAVED)}"
        save_study(out, table, text, polish_figure(table))
        facts |= {"networks": networks, "examples": len(batch.targets), "instead_of_a_draw": saved.iloc[0, -1]}


if __name__ == "__main__":
    app()
