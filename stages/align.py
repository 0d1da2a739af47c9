"""align: permute every network's hidden neurons to match one reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from stages.common import ALIGNED, DATASET, PARAMS, PRESETS, ZOO, Params, Presets, application, progress_bar, running
from wflib.config import load_settings
from wflib.rng import generator
from wflib.symmetry import identity, permute, squared_distance, weight_matching
from wflib.testing import assert_same_function
from wflib.zoo import load_dataset, load_zoo, save_zoo

app = application("align")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; its validation inputs check the function.")] = DATASET,
    zoo: Annotated[Path, typer.Option(help="Zoo from train-zoo.")] = ZOO,
    out: Annotated[Path, typer.Option(help="Aligned zoo to write.")] = ALIGNED,
) -> None:
    """Align all networks to the last snapshot of the first trajectory.

    weight-matching: coordinate descent over hidden layers, each step an exact assignment, the best of several starts.
    none: keep every network as trained. Every aligned network is checked to compute the same function as before.
    """
    with running("align") as facts:
        settings = load_settings(params, presets)
        dataset, trained = load_dataset(data), load_zoo(zoo, "trained")
        architecture, config = trained.architecture, settings.align
        reference = trained.reference
        if config.method == "none":
            permutations = identity(architecture, len(trained))
        else:
            with progress_bar(config.restarts, f"match {len(trained)} networks", "start") as bar:

                def advance(line: str) -> None:
                    bar.set_postfix_str(line)
                    bar.update()

                permutations = weight_matching(
                    architecture,
                    reference,
                    trained.weights,
                    generator(config.seed, "align"),
                    config.restarts,
                    progress=advance,
                )
        weights = permute(architecture, trained.weights, permutations)
        assert_same_function(architecture, trained.weights, architecture, weights, dataset.validation.inputs, 1e-3)
        aligned = replace(
            trained,
            weights=weights,
            permutations=permutations,
            form="aligned",
            metadata={**trained.metadata, "align": config.method},
        )
        save_zoo(out, aligned)
        distances = [squared_distance(architecture, reference, side) for side in (trained.weights, weights)]
        for name, distance in zip(("distance_before", "distance_after"), distances, strict=True):
            facts[name] = torch.sqrt(distance).mean().item()


if __name__ == "__main__":
    app()
