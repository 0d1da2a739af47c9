"""study: train flows that differ in a few settings and compare what they draw; reports/studies/dvc.yaml says which."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
    PARAMS,
    PRESETS,
    ZOO,
    AlignedZoo,
    CanonicalZoo,
    DatasetFile,
    Params,
    Presets,
    TrainedZoo,
    application,
    clear_errors,
    learned_zoo,
    progress_bar,
)
from wflib.config import load_settings
from wflib.device import resolve_device
from wflib.evaluation import DrawQuality
from wflib.flow import FlowTrainer, flow_for_zoo, sample, save_flow, squared_path_length
from wflib.report import save_study, study_figure, study_markdown, study_summary
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.tasks import load_dataset
from wflib.zoo import align_zoo, canonical_zoo, load_zoo, save_zoo

app = application("study")


def columns_of(labels: list[str]) -> dict[str, str]:
    """Column → value of each label."""
    if wrong := [label for label in labels if "=" not in label]:
        raise ValueError(f"--label: expected name=value, got {wrong[0]!r}.")
    return dict(label.split("=", 1) for label in labels)


@app.callback()
def study() -> None:
    """Train flows that differ in a few settings and compare what they draw."""


@app.command()
def align(
    out: Annotated[Path, typer.Argument(help="Folder for aligned.safetensors and canonical.safetensors.")],
    changes: Annotated[list[str], typer.Option("--set", help="A setting, section.key=value; repeat for more.")],
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: DatasetFile = DATASET,
    zoo: TrainedZoo = ZOO,
) -> None:
    """Align and canonicalize the zoo in another way, for cells that compare ways of alignment."""
    with clear_errors("study"):
        settings = load_settings(params, presets, changes)
        trained = load_zoo(zoo, "trained")
        aligned = align_zoo(trained, settings.align, load_dataset(data).for_networks(trained.architecture, f"{zoo}"))
        save_zoo(out / "aligned.safetensors", aligned)
        save_zoo(out / "canonical.safetensors", canonical_zoo(aligned, settings.canonicalize.norm))


@app.command()
def cell(
    out: Annotated[Path, typer.Argument(help="CSV to write: one row per number of Euler steps.")],
    changes: Annotated[list[str], typer.Option("--set", help="A setting, section.key=value; repeat for more.")],
    labels: Annotated[list[str], typer.Option("--label", help="A column, name=value; repeat for more.")],
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: DatasetFile = DATASET,
    aligned: AlignedZoo = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
    flow: Annotated[Path | None, typer.Option(help="Where to keep the trained flow, for other studies of it.")] = None,
) -> None:
    """Train one flow and measure its samples on the test part for every number of steps in evaluate.steps.

    Quality, spread relative to training networks, and the mean squared length of the paths that the coupling trains on.
    """
    with clear_errors("study"):
        settings, columns = load_settings(params, presets, changes), columns_of(labels)
        config, (path, form) = settings.evaluate, learned_zoo(settings.flow.geometry, aligned, canonical)
        zoo = load_zoo(path, form)
        dataset = load_dataset(data).for_networks(zoo.architecture, f"{path}")
        model = flow_for_zoo(settings, zoo, dataset.train).to(resolve_device(settings.training.device))
        trainer = FlowTrainer(model, zoo, settings.training, dataset.train)
        path_length = squared_path_length(trainer.pairs, settings.training.batch_size, config.seed)
        with progress_bar(settings.training.iterations, out.stem) as bar:
            model = trainer.run(lambda iteration, iterations, row: bar.update(iteration - bar.n))
        if flow is not None:
            save_flow(flow, model)
        quality, rows = DrawQuality(zoo, dataset.test, config.seed), []
        facts = {"validation_loss": trainer.history[-1]["validation_loss"], "training_seconds": trainer.seconds}
        for steps in config.steps:
            x = sample(model, config.curve_networks, steps, generator(config.seed, "study", "prior"))
            rows.append(
                {
                    **columns,
                    "steps": steps,
                    **quality(model.coordinates.decode_state(x)),
                    "path_length": path_length,
                    **facts,
                }
            )
        with atomic_path(out) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)


@app.command()
def table(
    cells: Annotated[Path, typer.Argument(help="Folder of CSV files from cell.")],
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv, .md and .svg.")],
) -> None:
    """Put a study's cells into one CSV, a table with the steps each flow needs, and a figure."""
    with clear_errors("study"):
        files = sorted(cells.glob("*.csv"))
        if not files:
            raise ValueError(f"{cells} has no CSV files; run the study's cells first.")
        rows = pd.concat([pd.read_csv(path, keep_default_na=False) for path in files], ignore_index=True)
        save_study(out, rows, study_markdown(study_summary(rows)), study_figure(rows))


if __name__ == "__main__":
    app()
