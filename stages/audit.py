"""audit: every generative model of networks on one zoo, measured alike; reports/audit/dvc.yaml says which."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
    FACTS,
    PARAMS,
    PRESETS,
    AlignedZoo,
    CanonicalZoo,
    DatasetFile,
    Params,
    Presets,
    application,
    clear_errors,
    learned_zoo,
)
from wflib.config import Settings, load_settings
from wflib.device import resolve_device
from wflib.evaluation import (
    audit_examples,
    audit_networks,
    average_curve,
    evaluate_networks,
    one_per_cluster,
    part_quality,
)
from wflib.flow import load_flow
from wflib.models import METHODS, FlowModel, method_settings
from wflib.networks import Networks
from wflib.report import audit_figure, audit_markdown, audit_table, save_study
from wflib.rng import generator
from wflib.storage import load_json, save_json
from wflib.tasks import Dataset, load_dataset
from wflib.zoo import Zoo, load_zoo, require_same_architecture

CONTROLS = ("held-out", "training")
"""What is no model: the ceiling, and training networks with their own runs left out, which no test may flag."""

app = application("audit")


@app.callback()
def audit() -> None:
    """Compare generative models of networks on one zoo."""


def draw(
    name: str, zoo: Zoo, dataset: Dataset, settings: Settings, networks: int, seed: int, flow: Path | None
) -> tuple[Networks, torch.Tensor | None, dict[str, float]]:
    """Networks of a model or a control, the trajectories of the latter, and seconds of fit and draw."""
    random = generator(seed, "audit", name)
    if name in CONTROLS:
        part = zoo.held_out_part if name == "held-out" else zoo.training_part
        part = part[one_per_cluster(part.trajectory, random)]  # any snapshot, as models draw
        part = part[torch.randperm(len(part), generator=random)[:networks]]
        return part.networks, part.trajectory, {}
    started = time.perf_counter()
    if name == "flow" and flow is not None:
        model = FlowModel(load_flow(flow, resolve_device(settings.sample.device)), settings.sample, dataset.train)
        require_same_architecture(model.flow.architecture, zoo.architecture, f"{flow}", "the zoo")
    elif name == "flow":
        values = {key: getattr(settings, key) for key in ("task", "flow", "velocity", "sample")}
        training = settings.training.model_copy(update={"seed": seed})
        model = FlowModel.fit(zoo, dataset, FlowModel.Settings(**values, training=training))
    else:
        model = METHODS[name].fit(zoo, dataset, method_settings(settings.models, name), random)
    fitted = time.perf_counter()
    drawn = model.draw(networks, random)
    seconds = {"fit_seconds": fitted - started, "draw_seconds": (time.perf_counter() - fitted) / len(drawn)}
    return drawn.to("cpu"), None, seconds


@app.command()
def cell(
    out: Annotated[Path, typer.Argument(help="JSON file to write: what one model's networks measure.")],
    model: Annotated[str, typer.Option(help=f"flow, {', '.join(CONTROLS)}, or a name of wflib.models.")],
    seed: Annotated[int, typer.Option(help="Of the fit and of the draws.", min=0)] = 0,
    networks: Annotated[int, typer.Option(help="Networks drawn.", min=20)] = 500,
    flow: Annotated[Path | None, typer.Option(help="With --model flow: a trained one, to draw from.")] = None,
    facts: Annotated[Path, typer.Option(help="Of train-flow: how long that took.")] = FACTS / "train-flow.json",
    changes: Annotated[list[str] | None, typer.Option("--set", help="A setting, section.key=value; repeat.")] = None,
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: DatasetFile = DATASET,
    aligned: AlignedZoo = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
) -> None:
    """Fit one model to the zoo's training part, draw networks, and measure them as all others are.

    flow.geometry says on which form of the zoo. Seconds are of this machine; draws are timed all at once.

    Raises:
        ValueError: No such model.
    """
    with clear_errors("audit"):
        if model not in ("flow", *CONTROLS, *METHODS):
            raise ValueError(f"--model: {model}: expected one of flow, {', '.join((*CONTROLS, *METHODS))}.")
        settings = load_settings(params, presets, changes or [])
        path, form = learned_zoo(settings.flow.geometry, aligned, canonical)
        zoo = load_zoo(path, form)
        zoo.require_both_parts("audit")
        dataset = load_dataset(data).for_networks(zoo.architecture, f"{path}")
        drawn, trajectory, found = draw(model, zoo, dataset, settings, networks, seed, flow)
        if model == "flow" and flow is not None:
            found["fit_seconds"] = load_json(facts, "train-flow")["seconds"]
        training, held_out = zoo.training_part, zoo.held_out_part
        random, bins = generator(seed, "audit", model, "evaluate"), settings.evaluate.calibration_bins
        _, group, _ = evaluate_networks(
            model, drawn, dataset.test, training, bins, random, zoo.reference, trajectory=trajectory, novelty_networks=200
        )
        parts = part_quality(model, drawn, dataset, generator(0, "audit", "parts"), trajectory)
        for row in parts.to_dict("records"):
            found |= {f"{row['part']}_{name}": row[name] for name in ("accuracy", "nll", "nll_error_examples")}
        keys = ("bma_accuracy", "bma_nll", "bma_ece", "variance_ratio", "nearest_distance_mean", "nearest_distance_min")
        found |= {key: group[key] for key in keys}
        found |= average_curve(drawn, dataset.validation, random)
        if model != "held-out" and len(drawn) > 1:
            examples = audit_examples(dataset, generator(0, "audit", "examples"))
            most = max(networks, 100)
            result = audit_networks(model, drawn, training, held_out, examples, random, trajectory=trajectory, most=most)
            found |= result.figures | {"rejected": ", ".join(result.rejected())}
        defined = {key: value for key, value in found.items() if not isinstance(value, float) or math.isfinite(value)}
        facts = {"model": model, "geometry": settings.flow.geometry, "seed": seed, "networks": len(drawn)}
        save_json(out, facts | defined)


@app.command()
def page(
    cells: Annotated[Path, typer.Argument(help="Folder of JSON files from cell, in any depth.")],
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv, .md and .svg.")],
    trained: Annotated[Path, typer.Option(help="Facts of train-zoo: what training costs.")] = FACTS / "train-zoo.json",
) -> None:
    """One table and one figure of all cells: quality over novelty, cost over quality, and what the tests say."""
    with clear_errors("audit"):
        files = sorted(cells.rglob("*.json"))
        if not files:
            raise ValueError(f"{cells} has no JSON files; run the audit's cells first.")
        rows = pd.DataFrame([load_json(path, "audit") for path in files])
        facts = load_json(trained, "train-zoo")
        table = audit_table(rows)
        zoo_seconds = facts["seconds"]
        text = audit_markdown(table, zoo_seconds, zoo_seconds / facts["trajectories"])
        save_study(out, rows, text, audit_figure(table))


if __name__ == "__main__":
    app()
