"""train-zoo: train many networks at once and keep snapshots of their trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.common import DATASET, PARAMS, PRESETS, ZOO, DatasetFile, Params, Presets, application, progress_bar, running
from wflib.config import load_settings
from wflib.device import resolve_device
from wflib.networks import network_losses
from wflib.tasks import load_dataset
from wflib.zoo import network_for, save_zoo, train_zoo

app = application("train-zoo")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: DatasetFile = DATASET,
    out: Annotated[Path, typer.Option(help="Zoo to write.")] = ZOO,
) -> None:
    """Train all networks of the zoo as slices of the same batched matrices.

    Every network has its own initialization and order of examples. After the skipped epochs a snapshot of all networks is
    kept every few iterations; a share of the trajectories is held out from the flow.
    """
    with running("train-zoo") as facts:
        settings = load_settings(params, presets)
        dataset, device = load_dataset(data), resolve_device(settings.zoo.device)
        architecture = network_for(settings.zoo, dataset)
        dataset = dataset.for_networks(architecture, "train-zoo")
        with progress_bar(settings.zoo.epochs, f"train {settings.zoo.networks} networks", "epoch") as bar:

            def advance(epoch: int, epochs: int, loss: float) -> None:
                bar.set_postfix(loss=f"{loss:.4f}")
                bar.update()

            zoo = train_zoo(architecture, dataset, settings.zoo, device, advance)
        save_zoo(out, zoo)
        losses = network_losses(zoo.last_snapshots.networks, dataset.validation)
        facts |= {
            "networks": len(zoo),
            "trajectories": settings.zoo.networks,
            "weights": architecture.dimension,
            "last_validation_nll": losses.mean().item(),
        }


if __name__ == "__main__":
    app()
