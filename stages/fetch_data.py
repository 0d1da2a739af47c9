"""fetch-data: get a task's data, split and standardize it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.common import DATASET, PARAMS, PRESETS, Params, Presets, application, running
from wflib.config import load_settings
from wflib.models import check_methods
from wflib.tasks import fetch_dataset, save_dataset

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
        save_dataset(out, dataset)
        facts |= {part: len(getattr(dataset, part).inputs) for part in ("train", "validation", "test")}


if __name__ == "__main__":
    app()
