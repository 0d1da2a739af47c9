"""fetch-data: get a task's data, split and standardize it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.common import DATASET, PARAMS, PRESETS, Params, Presets, application, running
from wflib.config import Settings, load_settings
from wflib.manifold import require_connected
from wflib.models import check_methods
from wflib.tasks import Dataset, fetch_dataset, save_dataset
from wflib.zoo import network_for

app = application("fetch-data")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    out: Annotated[Path, typer.Option(help="Dataset to write.")] = DATASET,
) -> None:
    """Get the task's data in three parts: train, validation and test.

    Inputs are standardized with the training part's mean and deviation. The test part is read by nothing but evaluate.
    """
    with running("fetch-data") as facts:
        settings = load_settings(params, presets)
        check_methods(settings)  # here, before work starts, though later stages read them
        dataset = fetch_dataset(settings.task, settings.data.split)
        check_networks(settings, dataset)
        save_dataset(out, dataset)
        facts |= {part: len(getattr(dataset, part).inputs) for part in ("train", "validation", "test")}


def check_networks(settings: Settings, dataset: Dataset) -> None:
    """Refuse networks that the flow which is asked for could not run between, before they are trained.

    Raises:
        ValueError: Names the tensors, and what to choose.
    """
    if settings.zoo.source == "train" and settings.flow.geometry != "euclidean":
        require_connected(network_for(settings.zoo, dataset).canonical_form(settings.canonicalize.norm))


if __name__ == "__main__":
    app()
