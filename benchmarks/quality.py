"""Quality per minute: validation loss and sample NLL against training seconds, for each kind of network, loss and optimizer.

python -m benchmarks.quality reports/benchmarks/quality.csv
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from stages.common import ALIGNED, DATASET, PARAMS, PRESETS, application
from wflib.config import load_settings
from wflib.evaluation import sampling_quality
from wflib.flow import FlowTrainer, flow_for_zoo, sample
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.tasks import load_dataset
from wflib.zoo import load_zoo

KINDS = {
    "neuron-tokens": ["velocity.dimension=128"],
    "relational-transformer": ["velocity.dimension=32", "velocity.layers=3", "training.batch_size=32"],
    "pna": ["velocity.dimension=16", "velocity.layers=3", "training.batch_size=32"],
}
"""Sizes at which a step takes a fraction of a second on two cores."""
WAYS = (("standardized", "muon"), ("function", "muon"), ("gauss-newton", "muon"), ("gauss-newton", "adamw"))
"""Loss and optimizer."""
TARGET_NLL = 0.13
FIRST_CHECK, RATIO = 4.0, 1.2
"""Seconds to the first measurement, and how many times as many to each later one."""

app = application("quality")


class EnoughError(Exception):
    """The target is reached, or the budget of training seconds is spent."""


def measure(kind: str, loss: str, optimizer: str, least: float, most: float) -> list[dict[str, object]]:
    """Train one Euclidean flow, the least seconds or until its samples reach the target NLL, at most the most seconds.

    Samples are drawn on a clock that training does not see.
    """
    changes = ["flow.geometry=euclidean", f"velocity.kind={kind}", f"training.loss={loss}", "training.iterations=100000"]
    changes += [f"training.optimizer={optimizer}", *KINDS[kind]]
    settings = load_settings(PARAMS, PRESETS, changes)
    dataset, zoo = load_dataset(DATASET), load_zoo(ALIGNED, "aligned")
    flow = flow_for_zoo(settings, zoo, dataset.train)
    trainer, rows = FlowTrainer(flow, zoo, settings.training, dataset.train), []
    clock = {"spent": 0.0, "since": time.perf_counter()}

    def check(iteration: int, iterations: int, row: dict[str, float]) -> None:
        spent = clock["spent"] + time.perf_counter() - clock["since"]
        if spent < min(FIRST_CHECK * RATIO ** len(rows), most):
            return
        clock["spent"] = spent
        network, flow.network = flow.network, trainer.averaged
        x = sample(flow, settings.evaluate.curve_networks, 16, generator(0, "quality"))
        quality = sampling_quality(flow.coordinates.decode_state(x), dataset.test)
        flow.network = network
        facts = {"kind": kind, "loss": loss, "optimizer": optimizer, "iteration": iteration, "seconds": spent}
        rows.append({**facts, "validation_loss": trainer.validation_loss(), **quality})
        clock["since"] = time.perf_counter()
        reached = any(row["nll_mean"] <= TARGET_NLL for row in rows)
        if spent >= most or (spent >= least and reached):
            raise EnoughError

    with contextlib.suppress(EnoughError):
        trainer.run(check)
    return rows


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="CSV to write.")],
    least: Annotated[float, typer.Option(help="Training seconds of each flow at least.")] = 45,
    most: Annotated[float, typer.Option(help=f"Training seconds of a flow above an NLL of {TARGET_NLL}.")] = 600,
) -> None:
    """Train a flow for every kind of velocity network, loss and optimizer: half an hour on one core."""
    if least > most:
        raise typer.BadParameter(f"--least {least:g} must not be larger than --most {most:g}.")
    rows = [row for kind in KINDS for way in WAYS for row in measure(kind, *way, least, most)]
    with atomic_path(out) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    app()
