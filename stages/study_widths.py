"""study-widths: draw networks of other hidden widths from a trained flow, without retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from stages.common import DATASET, FLOW, DatasetFile, FlowFile, application, clear_errors, progress_bar
from wflib.device import resolve_device
from wflib.evaluation import bayesian_model_average, predict, sampling_quality
from wflib.flow import load_flow, sample
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
        rows, split = [], dataset.test.to(model.device)
        with progress_bar(len(widths), "widths", "width") as bar:
            for width in widths:
                wide = model.with_widths({group.name: width for group in model.architecture.hidden_groups})
                x = sample(wide, networks, steps, generator(seed, "widths"))
                weights = wide.coordinates.decode_state(x)
                with torch.no_grad():
                    average = bayesian_model_average(predict(wide.architecture, weights, split.inputs))
                accuracy = (average.argmax(-1) == split.targets).float().mean().item()
                quality = sampling_quality(wide.architecture, weights, split)
                rows.append({"width": width, "networks": networks, "steps": steps, **quality, "bma_accuracy": accuracy})
                bar.update()
        with atomic_path(out) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    app()
