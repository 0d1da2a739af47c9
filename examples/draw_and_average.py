"""Draw networks from a flow and average what they predict: ``python examples/draw_and_average.py``, after ``make demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

import wflib
from wflib.evaluation import bayesian_model_average
from wflib.networks import accuracy, negative_log_likelihood, predict
from wflib.tasks import load_dataset


@torch.no_grad()
def main(
    flow: Annotated[Path, typer.Option(help="A flow of classifiers.")] = Path("data/demo/flow.safetensors"),
    data: Annotated[Path, typer.Option(help="The dataset of its task.")] = Path("data/demo/dataset.safetensors"),
    networks: Annotated[int, typer.Option(help="How many to draw.")] = 32,
) -> None:
    """Draw networks and compare single ones with their average."""
    drawn = wflib.draw(wflib.load_flow(flow), networks, seed=1)
    test = load_dataset(data).for_networks(drawn.architecture, str(flow)).test
    log_probabilities = predict(drawn, test.inputs)  # (networks, examples, classes)
    average = bayesian_model_average(log_probabilities)[None]
    for name, scored in (("one network", log_probabilities), (f"average of {networks}", average)):
        right, loss = (measure(scored, test.targets).mean() for measure in (accuracy, negative_log_likelihood))
        typer.echo(f"{name:<14} accuracy {right:.3f}, NLL {loss:.3f} nats")


if __name__ == "__main__":
    typer.run(main)
