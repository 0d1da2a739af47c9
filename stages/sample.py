"""sample: draw networks from the flow, or from another model in its place."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
    FLOW,
    NETWORKS,
    PARAMS,
    PRESETS,
    SAMPLES,
    AlignedZoo,
    CanonicalZoo,
    FlowFile,
    Params,
    Presets,
    Processes,
    application,
    progress_bar,
    require_settings_of,
    running,
)
from wflib.config import SampleConfig, load_settings
from wflib.device import resolve_device
from wflib.distributed import process_group, rank
from wflib.flow import DIVERGED, load_flow
from wflib.models import METHODS, FlowModel, Polished, check_methods, method_settings, polish
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import decanonicalize
from wflib.tasks import Dataset, load_dataset
from wflib.zoo import Zoo, learned_zoo, open_zoo, require_training_examples, save_zoo, zoo_of_flow

app = application("sample")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    flow: FlowFile = FLOW,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; guidance and polishing read it.")] = DATASET,
    aligned: AlignedZoo = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
    out: Annotated[Path, typer.Option(help="Networks to write, in the flow's own form.")] = SAMPLES,
    networks: Annotated[Path, typer.Option(help="The same networks to write as ordinary ones.")] = NETWORKS,
    processes: Processes = 1,
) -> None:
    """Draw networks by steps along the flow: K evaluations of the velocity network, 2 K with sample.solver: heun.

    Networks come twice: as the flow draws them (canonical for normalized and geometric), and as ordinary networks whose
    tensors are named as in torch.nn.Sequential, for wflib.networks.Networks.load or your own code. sample.guidance > 0
    descends the loss of training examples on the way; sample.noise and sample.diffusion make the way stochastic;
    sample.condition asks a flow trained with flow.condition for networks of a loss, an accuracy or a number of steps; with
    zoo for figures as the zoo's networks have them.

    sample.from names another model to draw from, such as gaussian-full or few-steps: it is fitted here to the zoo that the
    flow has learned, with its settings in the section models, and everything behind this stage treats its draws alike.

    sample.jumps draws by one, two or four jumps of the flow's student, which train-flow distils from it where
    training.distillation_iterations is above 0.

    sample.polish_steps > 0 trains all drawn networks further, from whatever model, by so many steps of Adam on
    training examples; their learning rate is sample.polish_learning_rate, or chosen on validation examples.

    Several processes share a flow's draws: --processes 2, or torchrun. Guided and noisy draws, other
    models and polishing are not shared, with the same results. Other models are fitted to a random part of a zoo that is
    larger than memory.
    """
    with process_group(processes), running("sample") as facts:
        settings = load_settings(params, presets)
        check_methods(settings)
        config, device = settings.sample, resolve_device(settings.sample.device)
        jumps = config.jumps > 0
        trained, dataset = load_flow(flow, device, jumps), load_dataset(data)
        require_settings_of(trained.config, flow, settings)
        dataset, random = dataset.for_networks(trained.architecture, f"{flow}"), generator(config.seed, "sample", "prior")
        geometry, fitted = trained.config.geometry, time.perf_counter()
        if config.source == "flow":
            with progress_bar(config.networks, f"draw {config.networks} networks", "network") as bar:
                flow_model = FlowModel(trained, config, dataset.train, dataset.validation)
                drawn = flow_model.draw_unpolished(config.networks, random, lambda count: bar.update(count - bar.n), True)
            if rank() > 0:
                return
        elif rank() > 0:
            return
        else:
            zoo = zoo_of_flow(flow, geometry, trained.architecture, aligned, canonical, open_zoo)
            require_training_examples(zoo.metadata, dataset, f"{learned_zoo(geometry, aligned, canonical)[0]}")
            zoo = zoo.to_fit(generator(config.seed, "sample", "zoo"))
            chosen = method_settings(settings.models, config.source)
            model = METHODS[config.source].fit(zoo, dataset, chosen, generator(config.seed, "sample", "fit"))
            facts["fit_seconds"], fitted = time.perf_counter() - fitted, time.perf_counter()
            drawn = model.draw(config.networks, random)
        polishing = polished(drawn, dataset, config)
        facts["draw_seconds"] = time.perf_counter() - fitted
        drawn = polishing.networks.to("cpu")
        ordinary = decanonicalize(drawn)
        ordinary.require_finite("draws as ordinary networks", DIVERGED)  # the output scale is an exponential
        metadata = {"task": settings.task, "seed": config.seed, "model": config.source, "geometry": geometry}
        if config.source == "flow":
            metadata["steps"] = config.jumps or config.steps
        if config.polish_steps:
            metadata |= {"polish_steps": config.polish_steps, "polish_learning_rate": polishing.learning_rate}
        count = torch.arange(len(drawn))
        nothing = torch.zeros_like(count)
        save_zoo(out, Zoo(drawn, count, nothing, nothing.bool(), "sampled", metadata=metadata))
        replace(ordinary, metadata=metadata).save(networks)
        facts |= {"networks": len(drawn), "model": METHODS[config.source].label if config.source != "flow" else "flow"}
        if config.source == "flow":
            facts |= {"solver": config.solver, "steps": config.jumps or config.steps}
        if config.polish_steps:
            facts |= {
                "polish_steps": config.polish_steps,
                "polish_learning_rate": polishing.learning_rate,
                "polish_seconds": polishing.seconds,
            }


def polished(drawn: Networks, dataset: Dataset, config: SampleConfig) -> Polished:
    """Drawn networks after their steps of training, with a bar where there are any."""
    if config.polish_steps == 0:
        return polish(drawn, dataset.train, dataset.validation, config)
    with progress_bar(len(drawn), f"{config.polish_steps} steps of training", "network") as bar:
        return polish(drawn, dataset.train, dataset.validation, config, lambda count: bar.update(count - bar.n))


if __name__ == "__main__":
    app()
