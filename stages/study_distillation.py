"""study-distillation: a sampler of one to four steps; reports/studies/dvc.yaml runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
    FLOW,
    AlignedZoo,
    CanonicalZoo,
    DatasetFile,
    application,
    distillation_bars,
    running,
    zoo_of_flow,
)
from wflib.device import resolve_device
from wflib.evaluation import DrawQuality
from wflib.flow import TRAJECTORIES, distill, load_flow, sample, save_flow
from wflib.report import distillation_figure, measures_markdown, save_study
from wflib.rng import generator
from wflib.tasks import load_dataset

app = application("study-distillation")

JUMPS, STEPS = (1, 2, 4), (1, 2, 4, 8, 16, 64)
EXPLAINED = (
    "Euler steps of the trained flow against jumps of the distilled one, from the same starting points; NLL in nats on test "
    "data. Variance ratio: samples' variance over that of training networks, both matched to one reference. Error: mean "
    f"squared distance to what {STEPS[-1]} steps of the trained flow reach, relative to the variance of that."
)


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv, .md and .svg.")],
    student: Annotated[Path, typer.Option(help="Distilled flow to write.")] = Path("data/studies/distilled.safetensors"),
    flow: Annotated[Path, typer.Option(help="Flow from train-flow, the teacher.")] = FLOW,
    data: DatasetFile = DATASET,
    aligned: AlignedZoo = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
    trajectories: Annotated[int, typer.Option(help="Trajectories of the teacher to learn from.", min=2)] = TRAJECTORIES,
    iterations: Annotated[int, typer.Option(help="Optimizer steps.", min=1)] = 2000,
    networks: Annotated[int, typer.Option(help="Samples of each row.", min=2)] = 100,
    seed: Annotated[int, typer.Option(help="Of every random number.", min=0)] = 0,
) -> None:
    """Distill a trained flow into jumps of one, two and four steps, and compare them with its own few steps and with 64.

    The student learns from trajectories of the teacher alone, no data are involved. It is written as a flow like any other:
    `sample` draws from it with sample.steps 1, 2 or 4.
    """
    with running("study-distillation", out.parent / "stages") as facts:
        model = load_flow(flow, resolve_device("auto"))
        dataset = load_dataset(data).for_networks(model.architecture, f"{flow}")
        zoo = zoo_of_flow(flow, model.config.geometry, model.architecture, aligned, canonical)
        with distillation_bars(trajectories, iterations) as advance:
            jumping = distill(model, seed, trajectories, jumps=JUMPS, iterations=iterations, progress=advance)
        save_flow(student, jumping)
        quality, rows = DrawQuality(zoo, dataset.test, seed), []
        far = sample(model, networks, STEPS[-1], generator(seed, "study", "prior"))
        for name, who, counts in (("trained flow", model, STEPS), ("distilled flow", jumping, JUMPS)):
            for steps in counts:
                x = sample(who, networks, steps, generator(seed, "study", "prior"))
                error = ((x - far).square().sum(1).mean() / far.var(0).sum()).item()
                rows.append({"flow": name, "steps": steps, **quality(who.coordinates.decode_state(x)), "error": error})
        table = pd.DataFrame(rows)
        save_study(out, table, measures_markdown(table, EXPLAINED), distillation_figure(table))
        facts |= {"trajectories": trajectories, "iterations": iterations}


if __name__ == "__main__":
    app()
