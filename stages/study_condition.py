"""study-condition: whether a conditioned flow gives what it is asked for; reports/studies/dvc.yaml runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
    AlignedZoo,
    CanonicalZoo,
    DatasetFile,
    application,
    progress_bar,
    running,
    zoo_of_flow,
)
from wflib.device import resolve_device
from wflib.evaluation import response_summary, response_tenths
from wflib.flow import load_flow, network_figures, sample
from wflib.report import measures_markdown, response_figure, save_study
from wflib.rng import generator
from wflib.tasks import load_dataset

app = application("study-condition")

STRENGTHS = (0.0, 1.0, 2.0)
EXPLAINED = (
    "Asked: the {name} on training examples that a sample was asked for, evenly spaced between the zoo's 1st and 99th "
    "percentile (of logarithms for a loss). Found: the sample's own, on the same examples; test loss in nats. First the "
    "Spearman correlations over all samples, then means over tenths of them. Strength: w of classifier-free guidance."
)


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv, .md and .svg.")],
    flow: Annotated[Path, typer.Option(help="Flow trained with flow.condition: loss or accuracy.")],
    data: DatasetFile = DATASET,
    aligned: AlignedZoo = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
    networks: Annotated[int, typer.Option(help="Samples of each strength, each asked for its own figure.", min=10)] = 400,
    steps: Annotated[int, typer.Option(help="Euler steps.", min=1)] = 32,
    seed: Annotated[int, typer.Option(help="Of every random number.", min=0)] = 0,
) -> None:
    """Ask a conditioned flow for figures over the zoo's range, at several strengths of guidance, and measure what comes."""
    with running("study-condition", out.parent / "stages") as facts:
        model = load_flow(flow, resolve_device("auto"))
        dataset = load_dataset(data).for_networks(model.architecture, f"{flow}")
        if model.condition is None:
            raise ValueError(f"{flow}: this flow has no condition; train one with flow.condition=loss or accuracy.")
        zoo = zoo_of_flow(flow, model.config.geometry, model.architecture, aligned, canonical)
        name, training, rows = model.condition.name, zoo.training_part, []
        figures = network_figures(training.networks, dataset.train, name)
        low, high = (figures.quantile(level).clamp_min(1e-12).item() for level in (0.01, 0.99))
        asked = torch.linspace(0, 1, networks)
        asked = low * (high / low) ** asked if name == "loss" else low + (high - low) * asked
        with progress_bar(len(STRENGTHS) * networks, "samples", "network") as bar:
            for strength in STRENGTHS:
                done = bar.n
                x = sample(
                    model,
                    networks,
                    steps,
                    generator(seed, "study", "prior"),
                    condition=asked.to(model.device),
                    condition_strength=strength,
                    progress=lambda count, done=done: bar.update(done + count - bar.n),
                )
                drawn = model.coordinates.decode_state(x)
                found = network_figures(drawn, dataset.train, name).tolist()
                test = network_figures(drawn, dataset.test, "loss").tolist()
                columns = {"strength": strength, "asked": asked.tolist(), "found": found, "test_loss": test}
                rows.append(pd.DataFrame(columns))
        table = pd.concat(rows)
        summary = response_summary(table)
        text = f"{measures_markdown(summary)}\n{measures_markdown(response_tenths(table), EXPLAINED.format(name=name))}"
        save_study(out, table, text, response_figure(table, name))
        facts |= {"condition": name, "networks": networks, "rank_correlation": summary.rank_correlation.max()}


if __name__ == "__main__":
    app()
