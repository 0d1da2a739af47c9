"""study-alignment: compare the methods of alignment; reports/studies/dvc.yaml runs it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from stages.common import (
    DATASET,
    PARAMS,
    PRESETS,
    ZOO,
    DatasetFile,
    Params,
    Presets,
    TrainedZoo,
    application,
    progress_bar,
    running,
)
from wflib.config import AlignConfig, load_settings
from wflib.evaluation import barrier_table, symmetry_distances
from wflib.report import alignment_figure, measures_markdown, save_study, symmetry_summary
from wflib.rng import generator
from wflib.symmetry import squared_distance
from wflib.tasks import load_dataset
from wflib.testing import assert_same_function
from wflib.zoo import Zoo, align_zoo, load_zoo

app = application("study-alignment")

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


def some_last_snapshots(zoo: Zoo, networks: int) -> Zoo:
    """The last networks of trajectories spread over the zoo, as a zoo of their own without held-out ones."""
    last = zoo.last_snapshots.training_part
    chosen = last[torch.linspace(0, len(last) - 1, min(networks, len(last))).long()]
    return replace(chosen, trajectory=torch.arange(len(chosen)), initial=None)


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv, .md and .svg.")],
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: DatasetFile = DATASET,
    zoo: TrainedZoo = ZOO,
    networks: Annotated[int, typer.Option(help="Last snapshots to align and to compare in pairs.", min=2)] = 250,
    points: Annotated[int, typer.Option(help="Points between the ends of each segment, an odd number.", min=1)] = 9,
) -> None:
    """Align last snapshots by every method and measure distances and barriers of all pairs on test data.

    L2: mean squared distance to the reference, and between pairs. Barriers: mean excess loss at the midpoint, mean midpoint
    loss, mean largest excess on the segment. Each method is checked to keep every network's logits to 1e-4.
    """
    with running("study-alignment", out.parent / "stages") as facts:
        settings = load_settings(params, presets)
        trained = some_last_snapshots(load_zoo(zoo, "trained"), networks)
        dataset = load_dataset(data).for_networks(trained.architecture, f"{zoo}")
        rows, matrices = [], []
        with progress_bar(len(METHODS), "align", "method") as bar:
            for name, changes in METHODS.items():
                bar.set_postfix_str(name)
                config = AlignConfig(**{**settings.align.model_dump(), **changes})
                started = time.perf_counter()
                aligned = align_zoo(trained, config, dataset)
                seconds = time.perf_counter() - started
                assert_same_function(trained.networks, aligned.networks, dataset.test.inputs, tolerance=1e-4)
                barriers = barrier_table(name, aligned.networks, dataset.test, points)
                pairs = barriers[barriers.i < barriers.j]
                to_reference = squared_distance(aligned.reference, aligned.networks)
                # Mean over pairs of ‖a − b‖² = 2 n / (n − 1) times the mean squared distance to the mean.
                flat = aligned.networks.flat
                between = 2 * (flat - flat.mean(0)).square().sum(1).sum() / (len(flat) - 1)
                rows.append(
                    {
                        "method": name,
                        "l2_to_reference": to_reference.mean().item(),
                        "l2_between_pairs": between.item(),
                        "midpoint_barrier": pairs.excess.mean(),
                        "midpoint_loss": pairs.midpoint.mean(),
                        "maximal_barrier": pairs.maximal.mean(),
                        "seconds": seconds,
                    }
                )
                matrices.append(barriers)
                bar.update()
        distances = symmetry_distances(trained.networks, generator(settings.align.seed, "symmetry"))
        table = pd.DataFrame(rows)
        text = f"{measures_markdown(table)}\n{measures_markdown(symmetry_summary(distances))}"
        save_study(out, table, text, alignment_figure(pd.concat(matrices), distances))
        facts |= {"networks": len(trained), "methods": len(METHODS)}


if __name__ == "__main__":
    app()
