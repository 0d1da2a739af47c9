"""train-zoo: train many networks at once and keep snapshots of their trajectories, or read those of others."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated

import typer

from stages.common import (
    CHECKPOINTS,
    DATASET,
    PARAMS,
    PRESETS,
    ZOO,
    DatasetFile,
    Params,
    Presets,
    Processes,
    application,
    checkpoint_folder,
    progress_bar,
    running,
)
from wflib.config import Settings, clear_errors, load_settings
from wflib.device import resolve_device
from wflib.distributed import process_group, rank, world_size
from wflib.networks import network_losses
from wflib.storage import KeptParts, save_table
from wflib.tasks import Dataset, load_dataset
from wflib.zoo import Zoo, ZooWriter, network_for, open_zoo, read_into, require_replaceable, train_zoo
from wflib.zoo.sources import copies_text

app = application("train-zoo")

FIGURES = "figures.parquet"
Source = Annotated[
    str | None, typer.Option(help="train, or a file or folder of networks that others have trained; else zoo.source.")
]
Format = Annotated[
    str | None, typer.Option(help="How these lie there: auto, modelzoo, gpt, small-cnn-zoo, …; else zoo.format.")
]


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: DatasetFile = DATASET,
    source: Source = None,
    format: Format = None,
    out: Annotated[Path, typer.Option(help="Zoo to write.")] = ZOO,
    checkpoints: Annotated[Path, typer.Option(help="Where unfinished runs keep their state.")] = CHECKPOINTS,
    processes: Processes = 1,
) -> None:
    """Train all networks of the zoo at once, or read networks that others have trained.

    With zoo.source: train every network has its own initialization and order of examples. After the skipped epochs a
    snapshot of all networks is kept every few iterations. Any other zoo.source is a file or folder of networks, in a format
    that is recognized or that zoo.format names; zoo.read says which of them are taken and how, and figures.parquet beside
    the zoo holds the figures of merit that the source gives. Of both, a share of the trajectories is held out from the flow.

    A zoo of more than zoo.shard_networks networks is a folder of files; others' networks go there as they are read, so that
    they need not fit the memory. Several processes share the training: --processes 2, or torchrun. On a CPU networks are
    trained in groups: a run that was killed goes on with the groups that were not trained when started again with the same
    settings and inputs.
    """
    chosen = {"zoo.source": source, "zoo.format": format}
    with clear_errors("train-zoo"):
        # In quotes: of zoo #2, YAML would take zoo alone, and 2024 for a number.
        changes = [f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in chosen.items() if text is not None]
        settings = load_settings(params, presets, changes)
        if settings.zoo.source != "train" or settings.zoo.sampler != "optimizer":
            processes = 1  # reading, and Markov chains, are not shared
    with process_group(processes), running("train-zoo") as facts:
        require_replaceable(out)
        dataset = load_dataset(data)
        if settings.zoo.source == "train":
            parts = KeptParts(checkpoint_folder(checkpoints, settings.zoo, [data]))
            made = trained(settings, dataset, parts)
            dataset = dataset.for_networks(made.architecture, "train-zoo")
            if rank() > 0:
                return
            with ZooWriter(out, settings.zoo.shard_networks) as writer:
                writer.append(made.networks)
                writer.append_initial_of(made)
                writer.finish(made.form, made.trajectory, made.step, made.held_out, metadata=made.metadata)
            facts["earlier_seconds"] = parts.seconds
            parts.discard()
        else:
            dataset = imported(settings, dataset, out)
        zoo = open_zoo(out, "trained")
        facts |= {
            "networks": int((~zoo.is_early).sum()),
            "trajectories": len(zoo.last_snapshots),
            "weights": zoo.architecture.dimension,
        }
        if dataset.has_examples:
            losses = zoo.last_snapshots.each(lambda networks: network_losses(networks, dataset.validation))
            facts["last_validation_nll"] = losses.mean().item()


def trained(settings: Settings, dataset: Dataset, parts: KeptParts) -> Zoo:
    """A zoo of networks trained here.

    Raises:
        ValueError: The task has no examples to train on.
    """
    if not dataset.has_examples and settings.zoo.sampler != "gaussian":
        raise ValueError("task: none has no examples to train on; name a file or folder of networks in zoo.source.")
    architecture = network_for(settings.zoo, dataset)
    dataset, device = dataset.for_networks(architecture, "train-zoo"), resolve_device(settings.zoo.device)
    with progress_bar(settings.zoo.epochs, f"train {settings.zoo.networks} networks", "epoch") as bar:

        def advance(done: float, epochs: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(done - bar.n)

        return train_zoo(architecture, dataset, settings.zoo, device, advance, parts)


def imported(settings: Settings, dataset: Dataset, out: Path) -> Dataset:
    """Write a zoo of networks trained elsewhere and their figures of merit; what was left out is said.

    Returns:
        The dataset as these networks take it.

    Raises:
        ValueError: Several processes, which reading does not share.
    """
    config = settings.zoo
    if world_size() > 1:
        raise ValueError(f"zoo.source: {config.source} is read by one process; start train-zoo without torchrun.")
    with ZooWriter(out, config.shard_networks) as writer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is said below
            found = read_into(writer, config.source, config.format, config.read)
        for reason, names in found.left_out.items():
            typer.secho(f"train-zoo: left out {len(names)}: {reason}.", fg="yellow", err=True)
        if found.copies:
            typer.secho(f"train-zoo: {copies_text(found.copies)}", fg="yellow", err=True)
        dataset = dataset.for_networks(found.architecture, config.source)
        found.finish(config.held_out, config.seed, {"task": settings.task, "seed": config.seed})
    save_table(out.parent / FIGURES, found.table, found.table.dtypes.astype(str).to_dict())
    return dataset


if __name__ == "__main__":
    app()
