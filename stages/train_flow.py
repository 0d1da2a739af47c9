"""train-flow: learn to draw networks by flow matching."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    CHECKPOINTS,
    DATASET,
    FLOW,
    HISTORY,
    PARAMS,
    PRESETS,
    AlignedZoo,
    CanonicalZoo,
    Params,
    Presets,
    Processes,
    application,
    checkpoint_folder,
    progress_bar,
    running,
)
from wflib.config import TrainingConfig, clear_errors, load_settings
from wflib.device import resolve_device
from wflib.distributed import process_group, rank
from wflib.flow import HISTORY_SCHEMA, TRAJECTORIES, Flow, FlowTrainer, distill, flow_for_zoo, save_flow
from wflib.storage import atomic_path
from wflib.tasks import load_dataset
from wflib.zoo import learned_zoo, open_zoo, require_training_examples

app = application("train-flow")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; its training inputs may weight the loss.")] = DATASET,
    aligned: AlignedZoo = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
    out: Annotated[Path, typer.Option(help="Flow to write.")] = FLOW,
    history: Annotated[Path, typer.Option(help="Training history to write, readable while training runs.")] = HISTORY,
    checkpoints: Annotated[Path, typer.Option(help="Where unfinished runs keep their state.")] = CHECKPOINTS,
    processes: Processes = 1,
) -> None:
    """Train a velocity network that transports the prior to the zoo.

    flow.geometry chooses flat space (euclidean), normalized weights on straight paths (normalized) or geodesics on the
    product of spheres (geometric). A run that was killed goes on from its last checkpoint when started again with the same
    settings and inputs, and ends in the same numbers. On several GPUs, or several processes of one machine:
    --processes 2, or torchrun.

    The zoo may be larger than memory: batches are then read from disk, and the prior's moments are taken part by part of all
    networks.

    training.distillation_iterations > 0 trains a student after the flow, on the flow's own trajectories, that draws in one,
    two or four jumps (sample.jumps); it is kept in the flow's file.
    """
    with clear_errors("train-flow"):
        settings = load_settings(params, presets)
    with process_group(math.gcd(processes, settings.training.batch_size)), running("train-flow") as facts:
        path, form = learned_zoo(settings.flow.geometry, aligned, canonical)
        dataset, zoo, device = load_dataset(data), open_zoo(path, form), resolve_device(settings.training.device)
        dataset = dataset.for_networks(zoo.architecture, f"{path}")
        require_training_examples(zoo.metadata, dataset, f"{path}")
        flow = flow_for_zoo(settings, zoo, dataset.train).to(device)
        folder = checkpoint_folder(checkpoints, (settings.flow, settings.velocity, settings.training), [data, path])
        trainer = FlowTrainer(flow, zoo, settings.training, dataset.train, folder)
        with progress_bar(settings.training.iterations, f"train {settings.flow.geometry} flow") as bar:

            def advance(iteration: int, iterations: int, row: dict[str, float]) -> None:
                if row:
                    bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
                bar.update(iteration - bar.n)
                if rank() == 0 and (iteration % settings.training.validate_every == 0 or iteration == iterations):
                    with atomic_path(history) as temporary:
                        pd.DataFrame(trainer.history, columns=list(HISTORY_SCHEMA)).to_csv(temporary, index=False)

            flow = trainer.run(advance)
        if rank() == 0:
            save_flow(out, flow, student_of(flow, settings.training))
        trainer.discard_checkpoints()
        facts |= {
            "geometry": settings.flow.geometry,
            "parameters": sum(parameter.numel() for parameter in flow.network.parameters()),
            "iterations": trainer.iteration,
            "training_seconds": trainer.seconds,
            "loss": trainer.history[-1]["loss"],
            "validation_loss": trainer.history[-1]["validation_loss"],
            "earlier_seconds": trainer.earlier_seconds,
        }


def student_of(flow: Flow, config: TrainingConfig) -> Flow | None:
    """The flow distilled into few jumps, where settings ask for it."""
    iterations = config.distillation_iterations
    if iterations == 0:
        return None
    with distillation_bars(TRAJECTORIES, iterations) as advance:
        bfloat16 = config.precision == "bfloat16"
        return distill(flow, config.seed, iterations=iterations, bfloat16=bfloat16, progress=advance)


@contextmanager
def distillation_bars(trajectories: int, iterations: int) -> Iterator[Callable[[str, int, int, float], None]]:
    """What :func:`wflib.flow.distill` calls about its progress."""
    with progress_bar(trajectories, "teacher's trajectories") as drawn, progress_bar(iterations, "distill") as trained:

        def advance(part: str, done: int, total: int, loss: float) -> None:
            bar = drawn if part == "trajectories" else trained
            bar.update(done - bar.n)
            if part == "training":
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

        yield advance


if __name__ == "__main__":
    app()
