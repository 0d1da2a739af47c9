"""Score checkpoints by their likelihood under a flow: ``python examples/score_checkpoints.py``, after ``make demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

import wflib
from wflib.flow import log_likelihood_of_networks, ordinary_architecture
from wflib.rng import generator


def main(
    flow: Annotated[Path, typer.Option(help="A Euclidean or geometric flow.")] = Path("data/demo/flow.safetensors"),
    checkpoints: Annotated[
        Path | None, typer.Option(help="File or folder of networks; some of the flow's own if none.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of the solver.")] = 16,
) -> None:
    """Print log-likelihoods of networks, and of the same with noise, which a flow should think less of."""
    model = wflib.load_flow(flow)
    if checkpoints is None:
        networks = wflib.draw(model, 8, seed=2)
    else:
        networks = wflib.Networks.load(checkpoints, ordinary_architecture(model))
    random = generator(0, "example", "noise")
    noised = networks.map(lambda tensor: tensor + 0.3 * tensor.std() * torch.randn(tensor.shape, generator=random))
    scores = [log_likelihood_of_networks(model, some, steps=steps) for some in (networks, noised)]
    for index, (score, with_noise) in enumerate(zip(*scores, strict=True)):
        name = networks.names[index] if networks.names else f"network {index}"
        typer.echo(f"{name:<24} {score:10.1f} nats, with noise {with_noise:10.1f}")


if __name__ == "__main__":
    typer.run(main)
