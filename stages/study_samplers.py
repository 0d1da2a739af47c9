"""study-samplers: ways of drawing from one trained flow; reports/studies/dvc.yaml runs it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
    FLOW,
    AlignedZoo,
    CanonicalZoo,
    DatasetFile,
    FlowFile,
    application,
    progress_bar,
    running,
    zoo_of_flow,
)
from wflib.device import resolve_device
from wflib.evaluation import DrawQuality
from wflib.flow import AddedNoise, Flow, Guidance, TaskLoss, diffusion_of, load_flow, sample
from wflib.report import measures_markdown, samplers_figure, save_study
from wflib.rng import generator
from wflib.tasks import Dataset, load_dataset

app = application("study-samplers")

SOLVERS = {"euler": (4, 8, 16, 32, 64), "heun": (2, 4, 8, 16, 32), "rk4": (1, 2, 4, 8), "dopri5": (1,)}
NOISES, DIFFUSIONS, NOISY_STEPS = (0.01, 0.03), (0.5, 2.0), 64
GUIDANCE = (("x_t", "constant"), ("x_t", "rising"), ("end-point", "constant"))
STRENGTHS, GUIDED_STEPS = (0.03, 0.1, 0.3, 1.0), 32
EXPLAINED = (
    "Quality of single samples on test data, NLL in nats; variance ratio: samples' variance over that of training networks, "
    "both matched to one reference. Evaluations: of the velocity network, for each sample; guidance at the end point takes "
    "one more a step and differentiates through it. Noise is the thesis' way, which keeps no marginal; the diffusion keeps "
    "all of them."
)

Way = tuple[str, str, float, int, dict[str, Any]]
"""Kind, sampler, strength, steps, further arguments of ``sample``."""


def solver_ways(flow: Flow) -> list[Way]:
    """Every solver that the flow's geometry allows."""
    allowed = [name for name in SOLVERS if not (flow.geometry.curved and name == "dopri5")]
    return [("solver", name, 0.0, steps, {"solver": name}) for name in allowed for steps in SOLVERS[name]]


def stochastic_ways(flow: Flow, seed: int) -> tuple[list[Way], str]:
    """Noise and diffusions, and why there are no diffusions if there are none."""
    ways: list[Way] = []
    for name, interval in (("noise", (0.0, 1.0)), ("noise until t = 0.5", (0.0, 0.5))):
        for strength in NOISES:
            noise = AddedNoise(strength, generator(seed, "study", "noise"), interval)
            ways.append(("noise", name, strength, NOISY_STEPS, {"stochastic": noise}))
    try:
        for strength in DIFFUSIONS:
            diffusion = diffusion_of(flow, strength, generator(seed, "study", "noise"))
            ways.append(("diffusion", "diffusion", strength, NOISY_STEPS, {"stochastic": diffusion}))
    except ValueError as error:
        return ways, str(error)
    return ways, ""


def guided_ways(flow: Flow, dataset: Dataset, seed: int) -> list[Way]:
    """Guidance by the task's training loss."""
    ways: list[Way] = []
    for point, schedule in GUIDANCE:
        for strength in STRENGTHS:
            loss = TaskLoss(dataset.train, 64, generator(seed, "study", "guidance"))
            guidance = {"guidance": Guidance(flow, loss, strength, schedule, point)}
            ways.append(("guidance", f"guided at {point}, {schedule}", strength, GUIDED_STEPS, guidance))
    return ways


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings .csv, .md and .svg.")],
    flow: FlowFile = FLOW,
    independent: Annotated[
        Path | None, typer.Option(help="Euclidean flow with flow.coupling=independent, for a diffusion if --flow has none.")
    ] = None,
    data: DatasetFile = DATASET,
    aligned: AlignedZoo = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
    networks: Annotated[int, typer.Option(help="Samples of each row.", min=2)] = 100,
    seed: Annotated[int, typer.Option(help="Of every random number.", min=0)] = 0,
) -> None:
    """Compare solvers, noise, the diffusion and guidance on a trained flow, by quality and spread of what they draw.

    A diffusion needs a Euclidean flow whose coupling is independent. Where --flow is none, its row says so, and a second
    flow, --independent, is drawn from with solvers, noise and diffusions.
    """
    with running("study-samplers", out.parent / "stages") as facts:
        dataset, calls, rows, reasons, plans = load_dataset(data), [], [], [], []
        for path in [flow, *([] if independent is None else [independent])]:
            model = load_flow(path, resolve_device("auto"))
            dataset = dataset.for_networks(model.architecture, f"{path}")
            model.network.register_forward_hook(lambda *_: calls.append(None))
            stochastic, reason = stochastic_ways(model, seed)
            guided = guided_ways(model, dataset, seed) if path == flow else []
            plans.append((path, model, reason, [*solver_ways(model), *stochastic, *guided]))
        with progress_bar(sum(len(ways) for *_, ways in plans), "samplers", "way") as bar:
            for path, model, reason, ways in plans:
                name, zoo = path.stem, zoo_of_flow(path, model.config.geometry, model.architecture, aligned, canonical)
                quality = DrawQuality(zoo, dataset.test, seed)
                for kind, sampler, strength, steps, settings in ways:
                    bar.set_postfix_str(f"{sampler}, {steps} steps")
                    calls.clear()
                    x = sample(model, networks, steps, generator(seed, "study", "prior"), chunk=networks, **settings)
                    row = {"kind": kind, "flow": name, "sampler": sampler, "strength": strength, "steps": steps}
                    rows.append({**row, "evaluations": float(len(calls)), **quality(model.coordinates.decode_state(x))})
                    bar.update()
                if reason:
                    row = {"kind": "diffusion", "flow": name, "sampler": "diffusion: impossible, see below"}
                    rows.append({**row, "strength": math.nan, "steps": NOISY_STEPS})
                    reasons.append(f"No diffusion for {name}: {reason}")
        table = pd.DataFrame(rows)
        shown = table.drop(columns=["kind", "accuracy_std", "nll_std"])
        save_study(out, table, measures_markdown(shown, "\n\n".join([EXPLAINED, *reasons])), samplers_figure(table))
        facts |= {"networks": networks, "ways": len(rows)}


if __name__ == "__main__":
    app()
