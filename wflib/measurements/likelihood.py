"""Whether a flow's density knows its zoo."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
import torch
from pydantic import Field

from wflib.config import Count, Section, Seed
from wflib.evaluation import density_table
from wflib.flow import log_likelihood_of_coordinates, require_density, sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.models import noised, tensor_deviations
from wflib.rng import generator
from wflib.zoo import Zoo

__all__ = ["LIKELIHOOD"]

HELD_OUT, NOISES = "held-out trajectories", (0.05, 0.1, 0.2, 0.5)


class Options(Section):
    """How many networks, and how exactly."""

    steps: Annotated[Count, Field(description="Steps of the second-order solver.")] = 16
    probes: Annotated[Count, Field(description="Hutchinson probes, the same for every network.")] = 1
    networks: Annotated[int, Field(ge=2, description="Networks of each group.")] = 200
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def some(zoo: Zoo, networks: int, seed: int, name: str) -> Zoo:
    """Random networks of a part of the zoo."""
    if not len(zoo):
        raise ValueError(f"the zoo has no {name} networks; set zoo.held_out between 0 and 1 and rerun train-zoo.")
    return zoo[torch.randperm(len(zoo), generator=generator(seed, "study", name))[:networks]]


def compare_likelihoods(inputs: Inputs, options: Options) -> Tables:
    """Log-likelihoods of training networks, held-out trajectories, samples, and noised copies of the held-out networks.

    Noise is relative to one standard deviation of the held-out networks, a tensor at a time. The AUC of a group is the share
    of pairs in which the held-out network has the larger log-likelihood: 0.5 where groups look alike, 1 where every network
    of the group is less likely.
    """
    model, seed, networks = inputs.flow(), options.seed, options.networks
    require_density(model)
    zoo = inputs.zoo_of(model)
    held_out, encode = some(zoo.held_out_part, networks, seed, "held-out"), model.coordinates.encode
    groups = {HELD_OUT: encode(held_out.networks)}
    groups["training trajectories"] = encode(some(zoo.training_part, networks, seed, "training").networks)
    groups["samples"] = sample(model, networks, 32, generator(seed, "study", "prior"))
    copies = {f"held-out + {noise:.0%} noise": noise for noise in NOISES}
    deviations = tensor_deviations(model.architecture, groups[HELD_OUT])
    for name, noise in copies.items():
        groups[name] = noised(groups[HELD_OUT], deviations, noise, generator(seed, "study", "noise"))
    found = {}
    with inputs.progress(sum(map(len, groups.values())), "likelihood") as bar:
        for name, x in groups.items():
            done = bar.n

            def show(count: int, done: float = done) -> None:
                bar.update(done + count - bar.n)

            found[name] = log_likelihood_of_coordinates(
                model,
                x,
                seed,
                options.probes,
                options.steps,
                progress=show,
            )
    rows = pd.DataFrame([{"networks": name, "log_likelihood": x.item()} for name, part in found.items() for x in part])
    return {"rows": rows, "groups": density_table(found, HELD_OUT, copies)}


LIKELIHOOD = Measurement("likelihood", compare_likelihoods, Options, ("aligned", "canonical", "flow"))
