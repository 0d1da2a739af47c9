"""canonicalize: remove scaling symmetries from the aligned zoo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from stages.common import ALIGNED, CANONICAL, DATASET, application, running
from wflib.manifold import weight_manifold
from wflib.symmetry import canonicalize
from wflib.testing import assert_same_function
from wflib.zoo import load_dataset, load_zoo, save_zoo

app = application("canonicalize")


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; its validation inputs check the function.")] = DATASET,
    zoo: Annotated[Path, typer.Option(help="Zoo from align.")] = ALIGNED,
    out: Annotated[Path, typer.Option(help="Canonical zoo to write.")] = CANONICAL,
) -> None:
    """Give every hidden neuron incoming weights of norm one and classifiers a last layer of norm one.

    Divided-out norms go into a record and the last layer's log norm becomes a coordinate, so the map can be inverted and
    every network still computes the same function, which is checked.
    """
    with running("canonicalize") as facts:
        dataset, aligned = load_dataset(data), load_zoo(zoo, "aligned")
        result = canonicalize(aligned.architecture, aligned.weights)
        assert_same_function(
            aligned.architecture, aligned.weights, result.architecture, result.weights, dataset.validation.inputs, 1e-3
        )
        manifold = weight_manifold(result.architecture)
        canonical = replace(
            aligned,
            architecture=result.architecture,
            weights=result.weights,
            aligned_to=canonicalize(aligned.architecture, aligned.reference).weights,
            record=result.record,
            form="canonical",
            metadata={**aligned.metadata, "manifold": manifold.describe(), "zero_norm_neurons": result.zero_norm_neurons},
        )
        save_zoo(out, canonical)
        facts |= {
            "coordinates": result.architecture.dimension,
            "manifold_dimension": manifold.intrinsic_dimension,
            "zero_norm_neurons": result.zero_norm_neurons,
        }


if __name__ == "__main__":
    app()
