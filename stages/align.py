"""align: permute every network's hidden neurons to match one reference."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from stages.common import (
    ALIGNED,
    CHECKPOINTS,
    DATASET,
    PARAMS,
    PRESETS,
    ZOO,
    Params,
    Presets,
    TrainedZoo,
    application,
    checkpoint_folder,
    progress_bar,
    running,
)
from wflib.config import load_settings
from wflib.symmetry import squared_distance
from wflib.tasks import load_dataset
from wflib.testing import assert_same_function
from wflib.zoo import align_zoo, load_zoo, save_zoo

app = application("align")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; its validation inputs check the function.")] = DATASET,
    zoo: TrainedZoo = ZOO,
    out: Annotated[Path, typer.Option(help="Aligned zoo to write.")] = ALIGNED,
    checkpoints: Annotated[Path, typer.Option(help="Where unfinished runs keep their state.")] = CHECKPOINTS,
) -> None:
    """Align the last network of every trajectory to one reference; the trajectory's other networks follow it.

    weight-matching: coordinate descent over hidden layers, each step an exact assignment, the best of several starts.
    activation-matching: one assignment per hidden layer on activations over training inputs. sinkhorn: gradient descent on
    relaxed permutations, for the distance or the loss between the networks, never worse than weight matching's answer. none:
    keep every network as trained. Every aligned network is checked to compute the same function as before, to 1e-4. A run
    that was killed goes on where it stopped when started again with the same settings and inputs.
    """
    with running("align") as facts:
        settings = load_settings(params, presets)
        dataset, trained = load_dataset(data), load_zoo(zoo, "trained")
        dataset = dataset.for_networks(trained.architecture, f"{zoo}")
        folder = checkpoint_folder(checkpoints, settings.align, [data, zoo])
        with progress_bar(1, f"align {int(trained.trajectory.max()) + 1} trajectories", "chunk") as bar:

            def advance(what: str, done: int, chunks: int) -> None:
                bar.set_postfix_str(what)
                bar.total, bar.n = chunks, done
                bar.refresh()

            aligned = align_zoo(trained, settings.align, dataset, advance, folder)
        assert_same_function(trained.networks, aligned.networks, dataset.probes(trained.architecture), 1e-4)
        save_zoo(out, aligned)
        shutil.rmtree(folder, ignore_errors=True)
        for name, part in (("distance_before", trained), ("distance_after", aligned)):
            facts[name] = squared_distance(aligned.reference, part.networks).sqrt().mean().item()


if __name__ == "__main__":
    app()
