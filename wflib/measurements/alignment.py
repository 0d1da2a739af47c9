"""Ways of alignment: distances and barriers that each leaves."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field

from wflib.config import AlignConfig, Section
from wflib.evaluation import barrier_table, symmetry_distances
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.rng import generator
from wflib.symmetry import squared_distance
from wflib.zoo import Zoo, align_zoo

__all__ = ["ALIGNMENT", "METHODS", "some_last_snapshots"]

METHODS: dict[str, dict[str, object]] = {
    "none": {"method": "none"},
    "activation-matching": {"method": "activation-matching"},
    "weight-matching, 1 start": {"method": "weight-matching", "restarts": 1},
    "weight-matching, 20 starts": {"method": "weight-matching", "restarts": 20},
    "weight-matching, 20 starts, to best": {"method": "weight-matching", "restarts": 20, "reference": "best"},
    "weight-matching, 20 starts, to medoid": {"method": "weight-matching", "restarts": 20, "reference": "medoid"},
    "weight-matching, 20 starts, to mean": {"method": "weight-matching", "restarts": 20, "reference": "mean"},
    "sinkhorn, l2": {"method": "sinkhorn", "restarts": 20, "objective": "l2"},
    "sinkhorn, midpoint": {"method": "sinkhorn", "restarts": 20, "objective": "midpoint"},
    "sinkhorn, random-point": {"method": "sinkhorn", "restarts": 20, "objective": "random-point"},
    "sinkhorn, midpoint, to mean": {"method": "sinkhorn", "restarts": 20, "objective": "midpoint", "reference": "mean"},
}


class Options(Section):
    """How many networks, and where between them."""

    networks: Annotated[int, Field(ge=2, description="Last snapshots to align and to compare in pairs.")] = 250
    points: Annotated[int, Field(ge=1, description="Points between the ends of each segment, an odd number.")] = 9
    method: Annotated[tuple[str, ...], Field(description="Of alignment; all where none is named; repeat for more.")] = ()


def some_last_snapshots(zoo: Zoo, networks: int) -> Zoo:
    """The last networks of trajectories spread over the zoo, as a zoo of their own without held-out ones."""
    last = zoo.last_snapshots.training_part
    chosen = last[torch.linspace(0, len(last) - 1, min(networks, len(last))).long()]
    return replace(chosen, trajectory=torch.arange(len(chosen)), initial=None)


def compare_alignments(inputs: Inputs, options: Options) -> Tables:
    """Align last snapshots by every method and measure distances and barriers of all pairs on test data.

    L2: mean squared distance to the reference, and between pairs. Barriers: mean excess loss at the midpoint, mean midpoint
    loss, mean largest excess on the segment. Function change: the largest of an output, which alignment must keep. The table
    barriers holds every pair (thesis figure 7.2), the table distances those between networks modulo symmetries.

    Raises:
        ValueError: No such method.
    """
    if unknown := [name for name in options.method if name not in METHODS]:
        raise ValueError(f"--method: {unknown[0]}: expected some of {'; '.join(METHODS)}.")
    trained = some_last_snapshots(inputs.zoo("trained"), options.networks)
    dataset = inputs.dataset(trained.architecture, inputs.path("trained"))
    rows, matrices, names = [], [], options.method or list(METHODS)
    outputs = trained.networks.forward(dataset.test.inputs)
    with inputs.progress(len(names), "align") as bar:
        for name in names:
            bar.set_postfix_str(name)
            config = AlignConfig(**{**inputs.settings.align.model_dump(), **METHODS[name]})
            started = time.perf_counter()
            aligned = align_zoo(trained, config, dataset)
            seconds = time.perf_counter() - started
            change = (aligned.networks.forward(dataset.test.inputs) - outputs).abs().max().item()
            barriers = barrier_table(name, aligned.networks, dataset.test, options.points)
            rows.append({"method": name, **measured(aligned, barriers), "function_change": change, "seconds": seconds})
            matrices.append(barriers)
            bar.update()
    distances = symmetry_distances(trained.networks, generator(inputs.settings.align.seed, "symmetry"))
    return {"rows": pd.DataFrame(rows), "barriers": pd.concat(matrices), "distances": distances}


def measured(aligned: Zoo, barriers: pd.DataFrame) -> dict[str, float]:
    """Means over networks and over pairs of them."""
    pairs, flat = barriers[barriers.i < barriers.j], aligned.networks.flat
    # Mean over pairs of ‖a − b‖² = 2 n / (n − 1) times the mean squared distance to the mean.
    between = 2 * (flat - flat.mean(0)).square().sum(1).sum() / (len(flat) - 1)
    return {
        "l2_to_reference": squared_distance(aligned.reference, aligned.networks).mean().item(),
        "l2_between_pairs": between.item(),
        "midpoint_barrier": pairs.excess.mean(),
        "midpoint_loss": pairs.midpoint.mean(),
        "maximal_barrier": pairs.maximal.mean(),
    }


ALIGNMENT = Measurement("alignment", compare_alignments, Options, ("data", "trained"), settings=True)
