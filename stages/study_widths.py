"""study-widths: draw networks of other hidden widths from a trained flow, without retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from stages.common import DATASET, FLOW, DatasetFile, FlowFile, application, clear_errors, progress_bar
from wflib.device import resolve_device
from wflib.evaluation import bayesian_model_average, sampling_quality
from wflib.flow import load_flow, sample
from wflib.networks import accuracy, predict
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.tasks import load_dataset

app = application("study-widths")


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="CSV to write: one row per width.")],
    widths: Annotated[list[int], typer.Option("--width", help="Neurons of every hidden layer; repeat for more.", min=1)],
    data: DatasetFile = DATASET,
    flow: FlowFile = FLOW,
    networks: Annotated[int, typer.Option(help="Networks of each width.", min=2)] = 32,
    steps: Annotated[int, typer.Option(help="Euler steps.", min=1)] = 32,
    seed: Annotated[int, typer.Option(help="Of the prior's draws.", min=0)] = 0,
) -> None:
    """Measure samples of each width on the test part: single networks, and their Bayesian model average."""
    with clear_errors("study-widths"):
        model = load_flow(flow, resolve_device("auto"))
        dataset = load_dataset(data).for_networks(model.architecture, f"{flow}")
        rows, split = [], dataset.test
        with progress_bar(len(widths), "widths", "width") as bar:
            for width in widths:
                wide = model.with_widths({group.name: width for group in model.architecture.hidden_groups})
                x = sample(wide, networks, steps, generator(seed, "widths"))
                drawn = wide.coordinates.decode_state(x)
                average = bayesian_model_average(predict(drawn, split.inputs))[None]
                quality = {**sampling_quality(drawn, split), "bma_accuracy": accuracy(average, split.targets).item()}
                rows.append({"width": width, "networks": networks, "steps": steps, **quality})
                bar.update()
        with atomic_path(out) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    app()
