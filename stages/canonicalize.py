"""canonicalize: remove scaling symmetries from the aligned zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.common import ALIGNED, CANONICAL, DATASET, application, running
from wflib.manifold import weight_manifold
from wflib.testing import assert_same_function
from wflib.zoo import canonical_zoo, load_dataset, load_zoo, save_zoo

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
        canonical = canonical_zoo(aligned)
        assert_same_function(
            aligned.architecture, aligned.weights, canonical.architecture, canonical.weights, dataset.validation.inputs, 1e-3
        )
        save_zoo(out, canonical)
        facts |= {
            "coordinates": canonical.architecture.dimension,
            "manifold_dimension": weight_manifold(canonical.architecture).intrinsic_dimension,
            "zero_norm_neurons": canonical.metadata["zero_norm_neurons"],
        }


if __name__ == "__main__":
    app()
