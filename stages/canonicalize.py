"""canonicalize: remove scaling symmetries from the aligned zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.common import ALIGNED, CANONICAL, DATASET, PARAMS, PRESETS, Params, Presets, application, running
from wflib.config import load_settings
from wflib.manifold import weight_manifold
from wflib.symmetry import NEARLY_DEAD
from wflib.tasks import load_dataset
from wflib.testing import assert_same_function
from wflib.zoo import canonical_zoo, load_zoo, save_zoo

app = application("canonicalize")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; its validation inputs check the function.")] = DATASET,
    zoo: Annotated[Path, typer.Option(help="Zoo from align.")] = ALIGNED,
    out: Annotated[Path, typer.Option(help="Canonical zoo to write.")] = CANONICAL,
) -> None:
    """Give every hidden neuron incoming weights of norm one and classifiers a last layer of norm one.

    canonicalize.norm says whether biases count. With weights-and-bias all that enters a neuron is a point of a sphere. With
    weights, as in the thesis, biases are divided by the norm of the weights, which weight decay can have made tiny.
    Divided-out norms go into a record and the last layer's log norm becomes a coordinate, so the map can be inverted and
    every network still computes the same function, which is checked.
    """
    with running("canonicalize") as facts:
        config = load_settings(params, presets).canonicalize
        aligned = load_zoo(zoo, "aligned")
        dataset = load_dataset(data).for_networks(aligned.architecture, f"{zoo}")
        canonical = canonical_zoo(aligned, config.norm)
        assert_same_function(aligned.networks, canonical.networks, dataset.probes(aligned.architecture), 1e-3)
        save_zoo(out, canonical)
        facts |= {
            "norm": config.norm,
            "coordinates": canonical.architecture.dimension,
            "manifold_dimension": weight_manifold(canonical.architecture).intrinsic_dimension,
            "zero_norm_neurons": canonical.metadata["zero_norm_neurons"],
            "nearly_dead_neurons": canonical.metadata["nearly_dead_neurons"],
        }
        if dead := canonical.metadata["nearly_dead_neurons"]:
            neurons = sum(factors.numel() for factors in canonical.record.values())
            remedy = (
                "; canonicalize.norm: weights-and-bias would keep their biases bounded" if config.norm == "weights" else ""
            )
            typer.secho(
                f"canonicalize: {dead} of {neurons} hidden neurons have an incoming norm below {NEARLY_DEAD:g} of their "
                f"layer's; where they point is mostly noise{remedy}.",
                fg="yellow",
                err=True,
            )


if __name__ == "__main__":
    app()
