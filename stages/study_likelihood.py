"""study-likelihood: whether a flow's density knows its zoo; reports/studies/dvc.yaml runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from stages.common import ALIGNED, CANONICAL, FLOW, AlignedZoo, CanonicalZoo, application, progress_bar, running, zoo_of_flow
from wflib.device import resolve_device
from wflib.evaluation import density_table
from wflib.flow import load_flow, log_likelihood_of_coordinates, sample
from wflib.models import noised, tensor_deviations
from wflib.report import likelihood_figure, measures_markdown, save_study
from wflib.rng import generator
from wflib.zoo import Zoo

app = application("study-likelihood")

HELD_OUT, NOISES = "held-out trajectories", (0.05, 0.1, 0.2, 0.5)


def some(zoo: Zoo, networks: int, seed: int, name: str) -> Zoo:
    """Random networks of a part of the zoo."""
    if not len(zoo):
        raise ValueError(f"the zoo has no {name} networks; set zoo.held_out between 0 and 1 and rerun train-zoo.")
    return zoo[torch.randperm(len(zoo), generator=generator(seed, "study", name))[:networks]]


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv, .md and .svg.")],
    flow: Annotated[Path, typer.Option(help="Euclidean or geometric flow from train-flow.")] = FLOW,
    aligned: AlignedZoo = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
    steps: Annotated[int, typer.Option(help="Steps of the second-order solver.", min=1)] = 16,
    probes: Annotated[int, typer.Option(help="Hutchinson probes, the same for every network.", min=1)] = 1,
    networks: Annotated[int, typer.Option(help="Networks of each group.", min=2)] = 200,
    seed: Annotated[int, typer.Option(help="Of every random number.", min=0)] = 0,
) -> None:
    """Log-likelihoods of training networks, held-out trajectories, samples, and noised copies of the held-out networks.

    Noise is relative to one standard deviation of the held-out networks, a tensor at a time. The AUC of a group is the share
    of pairs in which the held-out network has the larger log-likelihood: 0.5 where groups look alike, 1 where every network
    of the group is less likely.
    """
    with running("study-likelihood", out.parent / "stages") as facts:
        model = load_flow(flow, resolve_device("auto"))
        zoo = zoo_of_flow(flow, model.config.geometry, model.architecture, aligned, canonical)
        held_out, encode = some(zoo.held_out_part, networks, seed, "held-out"), model.coordinates.encode
        groups = {HELD_OUT: encode(held_out.networks)}
        groups["training trajectories"] = encode(some(zoo.training_part, networks, seed, "training").networks)
        groups["samples"] = sample(model, networks, 32, generator(seed, "study", "prior"))
        copies = {f"held-out + {noise:.0%} noise": noise for noise in NOISES}
        deviations = tensor_deviations(model.architecture, groups[HELD_OUT])
        for name, noise in copies.items():
            groups[name] = noised(groups[HELD_OUT], deviations, noise, generator(seed, "study", "noise"))
        found = {}
        with progress_bar(sum(map(len, groups.values())), "likelihood", "network") as bar:
            for name, x in groups.items():
                done = bar.n
                found[name] = log_likelihood_of_coordinates(
                    model, x, seed, probes, steps, progress=lambda count, done=done: bar.update(done + count - bar.n)
                )
        table = density_table(found, HELD_OUT, copies)
        rows = pd.DataFrame([{"networks": name, "log_likelihood": x.item()} for name, part in found.items() for x in part])
        explained = (
            f"log p of the flow's {model.architecture.dimension} coordinates in nats, at t = 0.99, where training ends: "
            f"{steps} steps of order two, {probes} Hutchinson probe(s) shared by all networks. AUC: share of pairs in which "
            "the held-out network is the more likely one. Paired: share of held-out networks that are more likely than "
            "their own noised copy. Noise is relative to the deviation between networks."
        )
        save_study(out, rows, measures_markdown(table, explained), likelihood_figure(rows))
        facts |= {"networks": networks, "steps": steps, "probes": probes}


if __name__ == "__main__":
    app()
