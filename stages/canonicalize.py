"""canonicalize: remove scaling symmetries from the aligned zoo."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from stages.common import ALIGNED, CANONICAL, DATASET, PARAMS, PRESETS, Params, Presets, application, running
from wflib.architecture import Architecture
from wflib.config import load_settings
from wflib.manifold import weight_manifold
from wflib.symmetry import NEARLY_DEAD, canonicalize
from wflib.tasks import load_dataset
from wflib.testing import assert_same_function
from wflib.zoo import COUNTS, AnyZoo, ZooWriter, canonical_zoo, open_zoo

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
    every network still computes the same function, which is checked. A zoo larger than memory is read and
    written part by part.
    """
    with running("canonicalize") as facts:
        settings = load_settings(params, presets)
        config = settings.canonicalize
        aligned = open_zoo(zoo, "aligned")
        dataset = load_dataset(data).for_networks(aligned.architecture, f"{zoo}")
        probes = dataset.probes(aligned.architecture)
        canonical, counts = write_canonical(out, aligned, config.norm, probes, settings.zoo.shard_networks)
        facts |= {
            "norm": config.norm,
            "coordinates": canonical.dimension,
            "manifold_dimension": weight_manifold(canonical).intrinsic_dimension,
            **{name: counts[name] for name in COUNTS},
        }
        if dead := counts["nearly_dead_neurons"]:
            neurons = counts["neurons"]
            remedy = (
                "; canonicalize.norm: weights-and-bias would keep their biases bounded" if config.norm == "weights" else ""
            )
            typer.secho(
                f"canonicalize: {dead} of {neurons} hidden neurons have an incoming norm below {NEARLY_DEAD:g} of their "
                f"layer's; where they point is mostly noise{remedy}.",
                fg="yellow",
                err=True,
            )


def write_canonical(
    out: Path, aligned: AnyZoo, norm: str, probes: Tensor, shard_networks: int
) -> tuple[Architecture, Counter[str]]:
    """Write the canonical zoo part by part, each checked to compute the same.

    Returns:
        What canonical networks are, and the counts of all parts.
    """
    counts: Counter[str] = Counter()
    with ZooWriter(out, shard_networks) as writer:
        for part in aligned.chunks():
            canonical = canonical_zoo(part, norm)
            assert_same_function(part.networks, canonical.networks, probes, 1e-3)
            writer.append(canonical.networks, canonical.permutations, canonical.record)
            counts.update({name: canonical.metadata[name] for name in COUNTS})
            counts["neurons"] += sum(factors.numel() for factors in canonical.record.values())
        writer.append_initial_of(aligned)
        labels = (aligned.trajectory, aligned.step, aligned.held_out)
        aim = canonicalize(aligned.reference, norm).networks
        writer.finish("canonical", *labels, aim, {**canonical.metadata, **{name: counts[name] for name in COUNTS}})
    return canonical.architecture, counts


if __name__ == "__main__":
    app()
