"""sample: draw networks from the flow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from stages.common import (
    DATASET,
    FLOW,
    NETWORKS,
    PARAMS,
    PRESETS,
    SAMPLES,
    FlowFile,
    Params,
    Presets,
    application,
    progress_bar,
    running,
)
from wflib.config import load_settings
from wflib.device import resolve_device
from wflib.flow import DIVERGED, AddedNoise, Guidance, TaskLoss, diffusion_of, load_flow, sample
from wflib.networks import require_finite
from wflib.rng import generator
from wflib.tasks import load_dataset
from wflib.zoo import Zoo, save_zoo

app = application("sample")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    flow: FlowFile = FLOW,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; guidance reads its training part.")] = DATASET,
    out: Annotated[Path, typer.Option(help="Networks to write, in the flow's own form.")] = SAMPLES,
    networks: Annotated[Path, typer.Option(help="The same networks to write as ordinary ones.")] = NETWORKS,
) -> None:
    """Draw networks by steps along the flow: K evaluations of the velocity network with sample.solver: euler, 2 K with heun.

    Networks come twice: as the flow draws them (canonical for normalized and geometric), and as ordinary networks whose
    tensors are named as in torch.nn.Sequential, for wflib.networks.Networks.load or your own code. sample.guidance > 0
    descends the loss of training examples on the way; sample.noise and sample.diffusion make the way stochastic;
    sample.condition asks a flow trained with flow.condition for networks of a loss or an accuracy.
    """
    with running("sample") as facts:
        settings = load_settings(params, presets)
        config, device = settings.sample, resolve_device(settings.sample.device)
        model, dataset = load_flow(flow, device), load_dataset(data)
        dataset = dataset.for_networks(model.architecture, f"{flow}")
        guidance = None
        if config.guidance > 0:
            loss = TaskLoss(dataset.train, config.guidance_batch, generator(config.seed, "sample", "guidance"))
            guidance = Guidance(model, loss, config.guidance, config.guidance_schedule, config.guidance_point)
        stochastic, random = None, generator(config.seed, "sample", "noise")
        if config.noise > 0:
            stochastic = AddedNoise(config.noise, random, tuple(config.noise_interval))
        elif config.diffusion > 0:
            stochastic = diffusion_of(model, config.diffusion, random, config.diffusion_schedule)
        with progress_bar(config.networks, f"draw {config.networks} networks", "network") as bar:
            drawn = sample(
                model,
                config.networks,
                config.steps,
                generator(config.seed, "sample", "prior"),
                guidance,
                config.solver,
                stochastic,
                config.condition,
                config.condition_strength,
                progress=lambda count: bar.update(count - bar.n),
            ).cpu()
        require_finite({"coordinates": drawn}, "draws", DIVERGED)
        coordinates = model.coordinates.to("cpu")
        count = torch.arange(config.networks)
        metadata = {"task": settings.task, "seed": config.seed, "geometry": model.config.geometry, "steps": config.steps}
        nothing, ordinary = torch.zeros_like(count), coordinates.decode(drawn)
        ordinary.require_finite("draws as ordinary networks", DIVERGED)  # the output scale is an exponential
        states = coordinates.decode_state(drawn)
        save_zoo(out, Zoo(states, count, nothing, nothing.bool(), "sampled", metadata=metadata))
        replace(ordinary, metadata=metadata).save(networks)
        facts |= {"networks": config.networks, "solver": config.solver, "steps": config.steps}


if __name__ == "__main__":
    app()
