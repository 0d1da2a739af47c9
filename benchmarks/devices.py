"""What a device takes for the work of the pipeline: epochs of zoos, steps of flows, draws.

python -m benchmarks.devices reports/benchmarks/devices.csv --device cuda

Rows of other devices stay in the table, and devices.md is made of all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import pandas as pd
import torch
import typer

from stages.common import PRESETS, application
from wflib.config import Settings, load_settings
from wflib.device import resolve_device
from wflib.flow import FlowTrainer, flow_for_zoo, sample
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.tasks import Dataset, fetch_dataset
from wflib.zoo import Zoo, initialize, network_for, train_zoo, zoo_from_networks

NETWORKS, EPOCHS = 1000, 2
KINDS = {
    "WDBC, perceptrons": ("wdbc", []),
    "digits, convolutional": ("digits", ["zoo.network=cnn"]),
    "digits, residual": ("digits", ["zoo.network=resnet"]),
    "digits, transformers": ("digits", ["zoo.network=vit", "flow.path=straight"]),
}
SIZES = {"": [], ", ten times the parameters": ["velocity.dimension=416"], ", batch of 1,024": ["training.batch_size=1024"]}

app = application("devices")


def seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median of some rounds after a first one."""
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def settings_of(task: str, changes: list[str]) -> tuple[Settings, Dataset]:
    """Settings of a small zoo, and its task in the shape its networks take."""
    small = [f"zoo.networks={NETWORKS}", f"zoo.epochs={EPOCHS}", "zoo.skip_epochs=0", "zoo.snapshot_every=4"]
    with TemporaryDirectory() as folder:
        (params := Path(folder) / "params.yaml").write_text(f"task: {task}")
        settings = load_settings(params, PRESETS, [*small, "zoo.early_snapshots=0", *changes])
    dataset = fetch_dataset(settings.task, settings.data.split)
    return settings, dataset.for_networks(network_for(settings.zoo, dataset), "devices")


def zoo_of(settings: Settings, dataset: Dataset) -> Zoo:
    """Random networks with random beginnings: steps take as long on them."""
    architecture, random = network_for(settings.zoo, dataset), generator(0, "devices")
    start, end = (initialize(architecture, NETWORKS, settings.zoo.init_std, random, settings.zoo.init) for _ in range(2))
    zoo = zoo_from_networks(end, initial=start)
    return Zoo(**{**vars(zoo), "form": "aligned"})


def measured(device: torch.device, rounds: int) -> Iterator[dict[str, object]]:
    """One row for each work: what, of which networks, and milliseconds."""
    for name, (task, changes) in KINDS.items():
        settings, dataset = settings_of(task, changes)
        architecture = network_for(settings.zoo, dataset)

        def epochs(settings=settings, dataset=dataset, architecture=architecture) -> None:
            train_zoo(architecture, dataset, settings.zoo, device)

        yield {"work": "an epoch of 1,000 networks", "of": name, "ms": 1000 * seconds(epochs, device, 1) / EPOCHS}
        for size, more in SIZES.items():
            settings, _ = settings_of(task, [*changes, *more])
            flow = flow_for_zoo(settings, zoo_of(settings, dataset), dataset.train).to(device)
            trainer = FlowTrainer(flow, zoo_of(settings, dataset), settings.training, dataset.train)
            yield {"work": f"a step of the flow{size}", "of": name, "ms": 1000 * seconds(trainer.step, device, rounds)}

            def draw(flow=flow) -> None:
                sample(flow, 100, 16, generator(0, "draws"))

            if not size:
                yield {"work": "100 draws of 16 steps", "of": name, "ms": 1000 * seconds(draw, device, 2)}


def page(rows: pd.DataFrame) -> str:
    """Markdown with a column for each device."""
    table = rows.pivot_table("ms", ["work", "of"], "device", sort=False).map(
        lambda ms: f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}"
    )
    lines = [" | ".join(["work", "networks", *table.columns]), " | ".join(["---"] * (2 + len(table.columns)))]
    lines += [" | ".join([*index, *row]) for index, row in zip(table.index, table.to_numpy(), strict=True)]
    return (
        "# Devices\n\nMilliseconds, medians, from `python -m benchmarks.devices`.\n\n"
        + "\n".join(f"| {x} |" for x in lines)
        + "\n"
    )


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="CSV to write, or to add a device to; the page goes beside it.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Flow steps that are timed.")] = 10,
) -> None:
    """Time training of zoos, steps of flows and draws on a device; ten minutes on one core, one on a large GPU."""
    where = resolve_device(device)
    cores = torch.get_num_threads()
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else f"{cores} CPU thread{'s' * (cores > 1)}"
    rows = pd.DataFrame({"device": name, **row} for row in measured(where, rounds))
    if out.is_file():
        old = pd.read_csv(out)
        rows = pd.concat([old[old["device"] != name], rows])
    with atomic_path(out) as temporary:
        rows.to_csv(temporary, index=False)
    with atomic_path(out.with_suffix(".md")) as temporary:
        temporary.write_text(page(rows))


if __name__ == "__main__":
    app()
