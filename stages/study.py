"""study: train flows that differ in a few settings and compare what they draw; reports/studies/dvc.yaml says which."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from stages.common import ALIGNED, CANONICAL, DATASET, PARAMS, PRESETS, ZOO, Params, Presets, application, progress_bar
from wflib.config import Settings, load_settings
from wflib.device import resolve_device
from wflib.evaluation import sampling_quality
from wflib.flow import FlowTrainer, flow_for_zoo, sample
from wflib.report import study_figure, study_markdown, study_summary
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.zoo import align_zoo, canonical_zoo, load_dataset, load_zoo, save_zoo

app = application("study")


def settings_or_exit(params: Path, presets: Path, changes: list[str]) -> Settings:
    """Settings with the changes, or one sentence and exit code 1."""
    try:
        return load_settings(params, presets, changes)
    except ValueError as error:
        typer.secho(f"study: {error}", fg="red", err=True)
        raise typer.Exit(1) from error


@app.callback()
def study() -> None:
    """Train flows that differ in a few settings and compare what they draw."""


@app.command()
def align(
    out: Annotated[Path, typer.Argument(help="Folder for aligned.safetensors and canonical.safetensors.")],
    changes: Annotated[list[str], typer.Option("--set", help="A setting, section.key=value; repeat for more.")],
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data.")] = DATASET,
    zoo: Annotated[Path, typer.Option(help="Zoo from train-zoo.")] = ZOO,
) -> None:
    """Align and canonicalize the zoo in another way, for cells that compare ways of alignment."""
    settings = settings_or_exit(params, presets, changes)
    aligned = align_zoo(load_zoo(zoo, "trained"), settings.align, load_dataset(data))
    save_zoo(out / "aligned.safetensors", aligned)
    save_zoo(out / "canonical.safetensors", canonical_zoo(aligned))


@app.command()
def cell(
    out: Annotated[Path, typer.Argument(help="CSV to write: one row per number of Euler steps.")],
    changes: Annotated[list[str], typer.Option("--set", help="A setting, section.key=value; repeat for more.")],
    labels: Annotated[list[str], typer.Option("--label", help="A column, name=value; repeat for more.")],
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data.")] = DATASET,
    aligned: Annotated[Path, typer.Option(help="Zoo from align, which the Euclidean flow learns.")] = ALIGNED,
    canonical: Annotated[Path, typer.Option(help="Zoo from canonicalize, which the other two flows learn.")] = CANONICAL,
) -> None:
    """Train one flow and measure its samples on the test part for every number of steps in evaluate.steps."""
    settings = settings_or_exit(params, presets, changes)
    columns = dict(label.split("=", 1) for label in labels)
    form, path = ("aligned", aligned) if settings.flow.geometry == "euclidean" else ("canonical", canonical)
    dataset, zoo, config = load_dataset(data), load_zoo(path, form), settings.evaluate
    flow = flow_for_zoo(settings, zoo, dataset.train.inputs).to(resolve_device(settings.training.device))
    trainer = FlowTrainer(flow, zoo, settings.training, dataset.train)
    with progress_bar(settings.training.iterations, out.stem) as bar:
        flow = trainer.run(lambda iteration, iterations, row: bar.update(iteration - bar.n))
    rows = []
    for steps in config.steps:
        x = sample(flow, config.curve_networks, steps, generator(config.seed, "study", "prior"))
        quality = sampling_quality(flow.architecture, flow.coordinates.decode_state(x), dataset.test)
        facts = {"validation_loss": trainer.history[-1]["validation_loss"], "training_seconds": trainer.seconds}
        rows.append({**columns, "steps": steps, **quality, **facts})
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


@app.command()
def table(
    cells: Annotated[Path, typer.Argument(help="Folder of CSV files from cell.")],
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv, .md and .svg.")],
) -> None:
    """Put a study's cells into one CSV, a table with the steps each flow needs, and a figure."""
    files = sorted(cells.glob("*.csv"))
    if not files:
        typer.secho(f"study: {cells} has no CSV files; run the study's cells first.", fg="red", err=True)
        raise typer.Exit(1)
    rows = pd.concat([pd.read_csv(path, keep_default_na=False) for path in files], ignore_index=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out.with_suffix(".csv")) as temporary:
        rows.to_csv(temporary, index=False)
    with atomic_path(out.with_suffix(".md")) as temporary:
        temporary.write_text(study_markdown(study_summary(rows)))
    with atomic_path(out.with_suffix(".svg")) as temporary:
        temporary.write_bytes(study_figure(rows))


if __name__ == "__main__":
    app()
