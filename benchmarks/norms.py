"""Which norm canonical networks should have: samples of flows on zoos with and without weight decay, for each norm.

python -m benchmarks.norms reports/benchmarks/norms
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from stages.common import DATASET, PARAMS, PRESETS, application, progress_bar
from wflib.architecture import NORMS
from wflib.config import load_settings
from wflib.evaluation import sampling_quality
from wflib.flow import FlowTrainer, flow_for_zoo, sample
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.tasks import load_dataset
from wflib.zoo import Zoo, align_zoo, canonical_zoo, network_for, train_zoo

DECAYS = (0.0, 0.03)
GEOMETRIES = ("normalized", "geometric")
NETWORKS, SAMPLES, STEPS = 300, 200, 16
RECIPE = ["optimizer=adam", "learning_rate=0.01", "epochs=60", "skip_epochs=50", "snapshot_every=70"]
FLOW = [
    *("flow.coupling=initialization", "flow.prediction=velocity", "velocity.gradient_examples=0", "velocity.dimension=64"),
    *("velocity.layers=2", "training.iterations=800", "training.precision=float32", "training.loss=gauss-newton"),
    *("training.function_floor=0.5", "training.batch_size=64", "align.restarts=1"),
]

app = application("norms")


def settings_of(geometry: str, decay: float):
    """Settings of a small zoo and of a short training."""
    recipe = [f"zoo.{change}" for change in (*RECIPE, f"networks={NETWORKS}", f"weight_decay={decay}")]
    return load_settings(PARAMS, PRESETS, [f"flow.geometry={geometry}", *recipe, *FLOW])


def measure(zoo: Zoo, geometry: str, decay: float, norm: str, dataset) -> dict[str, object]:
    """One flow: the NLL of its samples on validation data beside the zoo's, and how large biases are."""
    canonical = canonical_zoo(zoo, norm)
    flow = flow_for_zoo(settings_of(geometry, decay), canonical, dataset.train)
    flow = FlowTrainer(flow, canonical, settings_of(geometry, decay).training, dataset.train).run()
    x = sample(flow, SAMPLES, STEPS, generator(0, "norms"))
    drawn = sampling_quality(flow.coordinates.decode_state(x), dataset.validation)
    own = sampling_quality(zoo.last_snapshots.networks, dataset.validation)
    biases = torch.cat([tensor.flatten() for name, tensor in canonical.weights.items() if name.endswith("bias")])
    return {
        "weight_decay": decay,
        "geometry": geometry,
        "norm": norm,
        "nearly_dead_neurons": canonical.metadata["nearly_dead_neurons"],
        "largest_bias": biases.abs().max().item(),
        "zoo_nll": own["nll_mean"],
        "sample_nll": drawn["nll_mean"],
        "sample_accuracy": drawn["accuracy_mean"],
    }


@app.command()
def main(out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv and .md.")]) -> None:
    """Train a flow for every weight decay, geometry and norm: thirteen minutes on two cores. Validation data only."""
    dataset, rows = load_dataset(DATASET), []
    with progress_bar(len(DECAYS) * len(GEOMETRIES) * len(NORMS), "norms", "flow") as bar:
        for decay in DECAYS:
            settings = settings_of(GEOMETRIES[0], decay)
            trained = train_zoo(network_for(settings.zoo, dataset), dataset, settings.zoo)
            zoo = align_zoo(trained, settings.align, dataset)
            for geometry, norm in product(GEOMETRIES, NORMS):
                rows.append(measure(zoo, geometry, decay, norm, dataset))
                bar.update()
    table = pd.DataFrame(rows)
    text = "\n".join(
        [
            "| weight decay | geometry | norm | nearly dead | largest bias | zoo NLL | sample NLL |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| {row.weight_decay:g} | {row.geometry} | {row.norm} | {row.nearly_dead_neurons} | {row.largest_bias:.3g} "
                f"| {row.zoo_nll:.3f} | {row.sample_nll:.3f} |"
                for row in table.itertuples()
            ),
        ]
    )
    for ending, content in ((".csv", table.to_csv(index=False)), (".md", f"{text}\n")):
        with atomic_path(out.with_suffix(ending)) as temporary:
            temporary.write_text(content)


if __name__ == "__main__":
    app()
