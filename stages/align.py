"""align: permute every network's hidden neurons to match one reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from stages.common import (
    ALIGNED,
    CHECKPOINTS,
    DATASET,
    PARAMS,
    PRESETS,
    ZOO,
    Params,
    Presets,
    Processes,
    TrainedZoo,
    application,
    checkpoint_folder,
    progress_bar,
    running,
)
from wflib.config import load_settings
from wflib.distributed import process_group, rank
from wflib.storage import KeptParts
from wflib.symmetry import squared_distance
from wflib.tasks import load_dataset
from wflib.testing import assert_same_function
from wflib.zoo import Alignment, AnyZoo, ZooWriter, find_alignment, open_zoo, require_replaceable, require_training_examples

app = application("align")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; its validation inputs check the function.")] = DATASET,
    zoo: TrainedZoo = ZOO,
    out: Annotated[Path, typer.Option(help="Aligned zoo to write.")] = ALIGNED,
    checkpoints: Annotated[Path, typer.Option(help="Where unfinished runs keep their state.")] = CHECKPOINTS,
    processes: Processes = 1,
) -> None:
    """Align the last network of every trajectory to one reference; the trajectory's other networks follow it.

    weight-matching: coordinate descent over hidden layers, each step an exact assignment, the best of several starts.
    activation-matching: one assignment per hidden layer on activations over training inputs. sinkhorn: gradient descent on
    relaxed permutations, for the distance or the loss between the networks, never worse than weight matching's answer. none:
    keep every network as trained. Every aligned network is checked to compute the same function as before, to 1e-4. A run
    that was killed goes on where it stopped when started again with the same settings and inputs.

    Several processes share the work: --processes 2, or torchrun. A zoo larger than memory is read, aligned
    and written part by part.
    """
    with process_group(processes), running("align") as facts:
        require_replaceable(out)
        settings = load_settings(params, presets)
        dataset, trained = load_dataset(data), open_zoo(zoo, "trained")
        dataset = dataset.for_networks(trained.architecture, f"{zoo}")
        require_training_examples(trained.metadata, dataset, f"{zoo}")
        parts = KeptParts(checkpoint_folder(checkpoints, settings.align, [data, zoo]))
        with progress_bar(1, f"align {int(trained.trajectory.max()) + 1} trajectories", "chunk") as bar:

            def advance(what: str, done: int, chunks: int) -> None:
                bar.set_postfix_str(what)
                bar.total, bar.n = chunks, done
                bar.refresh()

            alignment = find_alignment(trained, settings.align, dataset, advance, parts)
        if rank() == 0:
            probes = dataset.probes(trained.architecture)
            facts |= write_aligned(out, trained, alignment, probes, settings.zoo.shard_networks)
            facts["earlier_seconds"] = parts.seconds
            parts.discard()


def write_aligned(out: Path, trained: AnyZoo, alignment: Alignment, probes: Tensor, shard_networks: int) -> dict[str, float]:
    """Write the aligned zoo part by part, each checked to compute the same; returns mean distances to the reference."""
    before, after = torch.empty(len(trained)), torch.empty(len(trained))  # small tensors in between would scatter the heap
    done = 0
    with ZooWriter(out, shard_networks) as writer:
        for part in trained.chunks():
            aligned = alignment(part)
            assert_same_function(part.networks, aligned.networks, probes, 1e-4)
            writer.append(aligned.networks, aligned.permutations)
            for distances, networks in ((before, part.networks), (after, aligned.networks)):
                distances[done : done + len(part)] = squared_distance(alignment.reference, networks).sqrt()
            done += len(part)
        writer.append_initial_of(trained)
        labels = (trained.trajectory, trained.step, trained.held_out)
        writer.finish("aligned", *labels, alignment.reference, {**trained.metadata, **alignment.metadata})
    counted = ~trained.is_early
    return {"distance_before": before[counted].mean().item(), "distance_after": after[counted].mean().item()}


if __name__ == "__main__":
    app()
