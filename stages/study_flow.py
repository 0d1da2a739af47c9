"""study-flow: what a trained flow can do besides the default sampler; reports/studies/dvc.yaml runs each command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from torch import Tensor

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
    FLOW,
    PARAMS,
    PRESETS,
    Params,
    Presets,
    application,
    progress_bar,
    running,
)
from wflib.architecture import Weights
from wflib.baselines import sample_training_noise
from wflib.config import Settings, load_settings
from wflib.device import resolve_device
from wflib.evaluation import density_table, evaluate_networks, rank_correlation
from wflib.flow import (
    AddedNoise,
    Flow,
    FlowTrainer,
    Guidance,
    TaskLoss,
    diffusion_of,
    distill,
    draw_probes,
    flow_for_zoo,
    load_flow,
    log_likelihood,
    network_figures,
    sample,
    save_flow,
)
from wflib.report import alignment_markdown
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.zoo import Dataset, Zoo, load_dataset, load_zoo, network_losses

app = application("study-flow")

Out = Annotated[Path, typer.Argument(help="Table to write, without its endings .csv and .md.")]
Data = Annotated[Path, typer.Option(help="Dataset from fetch-data.")]
Aligned = Annotated[Path, typer.Option(help="Zoo from align, for the Euclidean flow.")]
Canonical = Annotated[Path, typer.Option(help="Zoo from canonicalize, for the other two flows.")]
FlowFile = Annotated[Path, typer.Option(help="Flow from train-flow.")]
Networks = Annotated[int, typer.Option(help="Networks of each row.", min=2)]
Seed = Annotated[int, typer.Option(help="Of every random number.", min=0)]


def write_table(out: Path, table: pd.DataFrame) -> None:
    """A table as CSV, and as Markdown for readers."""
    for ending, content in {".csv": table.to_csv(index=False), ".md": alignment_markdown(table)}.items():
        with atomic_path(out.with_suffix(ending)) as temporary:
            temporary.write_text(content)


def zoo_of(geometry: str, aligned: Path, canonical: Path) -> Zoo:
    """The zoo that a geometry works on."""
    return load_zoo(aligned, "aligned") if geometry == "euclidean" else load_zoo(canonical, "canonical")


def some(zoo: Zoo, count: int, seed: int, name: str) -> Zoo:
    """Random networks of a zoo."""
    return zoo[torch.randperm(len(zoo), generator=generator(seed, "study", name))[:count]]


def quality(flow: Flow, x: Tensor, zoo: Zoo, dataset: Dataset, seed: int) -> dict[str, float]:
    """Test accuracy and NLL of drawn coordinates, and their spread after alignment, relative to the zoo's."""
    _, record = evaluate_networks(
        "samples",
        flow.architecture,
        flow.coordinates.decode_state(x),
        dataset.test,
        zoo.training_part,
        15,
        generator(seed, "study", "matching"),
        zoo.reference,
        with_novelty=False,
    )
    return {key: record[key] for key in ("accuracy_mean", "nll_mean", "nll_std", "variance_ratio")}


@app.callback()
def study() -> None:
    """What a trained flow can do besides the default sampler."""


@app.command()
def samplers(
    out: Out,
    flow: FlowFile = FLOW,
    data: Data = DATASET,
    aligned: Aligned = ALIGNED,
    canonical: Canonical = CANONICAL,
    networks: Networks = 100,
    seed: Seed = 0,
) -> None:
    """Compare solvers, noise, the diffusion and guidance, at equal numbers of evaluations where they have one."""
    with running("study-samplers", out.parent / "stages") as facts:
        model, dataset = load_flow(flow, resolve_device("auto")), load_dataset(data)
        zoo = zoo_of(model.config.geometry, aligned, canonical)
        ways: list[tuple[str, int, dict[str, object]]] = [("euler", steps, {}) for steps in (4, 8, 16, 32, 64)]
        ways += [("heun", steps, {"solver": "heun"}) for steps in (2, 4, 8, 16, 32)]
        if not model.geometry.curved:
            ways += [("rk4", steps, {"solver": "rk4"}) for steps in (2, 8)] + [("dopri5", 1, {"solver": "dopri5"})]
        for strength in (0.01, 0.03):
            noise = AddedNoise(strength, generator(seed, "study", "noise"))
            ways.append((f"euler, noise {strength:g}", 64, {"stochastic": noise}))
            early = AddedNoise(strength, generator(seed, "study", "noise"), (0.0, 0.5))
            ways.append((f"euler, noise {strength:g} until t = 0.5", 64, {"stochastic": early}))
        if model.config.geometry == "euclidean" and model.config.coupling == "independent":
            for strength in (0.5, 2.0):
                diffusion = diffusion_of(model, strength, generator(seed, "study", "noise"))
                ways.append((f"diffusion {strength:g}", 64, {"stochastic": diffusion}))
        for point, schedule in (("x_t", "constant"), ("x_t", "rising"), ("end-point", "constant")):
            for strength in (0.03, 0.1, 0.3):
                loss = TaskLoss(dataset.train, 64, generator(seed, "study", "guidance"))
                guidance = Guidance(model, loss, strength, schedule, point)
                ways.append((f"guided at {point}, {schedule} {strength:g}", 32, {"guidance": guidance}))
        rows = []
        with progress_bar(len(ways), "samplers", "way") as bar:
            for name, steps, settings in ways:
                x = sample(model, networks, steps, generator(seed, "study", "prior"), **settings)
                rows.append({"sampler": name, "steps": steps, **quality(model, x, zoo, dataset, seed)})
                bar.update()
        write_table(out, pd.DataFrame(rows))
        facts |= {"networks": networks, "ways": len(ways)}


@app.command("distill")
def distill_command(
    out: Out,
    student: Annotated[Path, typer.Option(help="Distilled flow to write.")] = Path("data/distilled.safetensors"),
    flow: FlowFile = FLOW,
    data: Data = DATASET,
    aligned: Aligned = ALIGNED,
    canonical: Canonical = CANONICAL,
    trajectories: Annotated[int, typer.Option(help="Trajectories of the teacher to learn from.", min=2)] = 4096,
    iterations: Annotated[int, typer.Option(help="Optimizer steps.", min=1)] = 2000,
    networks: Networks = 100,
    seed: Seed = 0,
) -> None:
    """Distill the flow into jumps of one, two and four steps, and compare both with few steps and with 64."""
    with running("study-distill", out.parent / "stages") as facts:
        model, dataset = load_flow(flow, resolve_device("auto")), load_dataset(data)
        zoo = zoo_of(model.config.geometry, aligned, canonical)
        with progress_bar(trajectories, "teacher's trajectories") as drawn, progress_bar(iterations, "distill") as trained:

            def advance(part: str, done: int, total: int, loss: float) -> None:
                bar = drawn if part == "trajectories" else trained
                bar.update(done - bar.n)
                if part == "training":
                    bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

            jumping = distill(model, seed, trajectories, iterations=iterations, progress=advance)
        save_flow(student, jumping)
        far = sample(model, networks, 64, generator(seed, "study", "prior"))
        rows = []
        for name, who, counts in (("trained flow", model, (1, 2, 4, 8, 64)), ("distilled", jumping, (1, 2, 4))):
            for steps in counts:
                x = sample(who, networks, steps, generator(seed, "study", "prior"))
                error = ((x - far).square().sum(1).mean() / (far - far.mean(0)).square().sum(1).mean()).item()
                rows.append({"flow": name, "steps": steps, **quality(who, x, zoo, dataset, seed), "error_to_64": error})
        write_table(out, pd.DataFrame(rows))
        facts |= {"trajectories": trajectories, "iterations": iterations}


@app.command()
def likelihood(
    out: Out,
    flow: FlowFile = FLOW,
    data: Data = DATASET,
    aligned: Aligned = ALIGNED,
    canonical: Canonical = CANONICAL,
    steps: Annotated[int, typer.Option(help="Steps of the second-order solver.", min=1)] = 16,
    probes: Annotated[int, typer.Option(help="Hutchinson probes, the same for every network.", min=1)] = 1,
    networks: Networks = 200,
    seed: Seed = 0,
) -> None:
    """Log-likelihoods of training networks, held-out trajectories, samples, and noised copies of the held-out ones.

    AUC: share of pairs in which a held-out network has the larger log-likelihood.
    """
    with running("study-likelihood", out.parent / "stages") as facts:
        model = load_flow(flow, resolve_device("auto"))
        zoo = zoo_of(model.config.geometry, aligned, canonical)
        held_out = some(zoo.held_out_part, networks, seed, "held-out")
        groups: dict[str, Weights] = {
            "held-out trajectories": held_out.weights,
            "training trajectories": some(zoo.training_part, networks, seed, "training").weights,
            "samples": model.coordinates.decode_state(sample(model, networks, 32, generator(seed, "study", "prior"))),
        }
        for noise in (0.05, 0.1, 0.2, 0.5):
            random = generator(seed, "study", "noise")
            groups[f"held-out + {noise:.0%} noise"] = sample_training_noise(held_out, networks, random, noise)
        found = {}
        with progress_bar(len(groups), "likelihood", "group") as bar:
            for name, weights in groups.items():
                x = model.geometry.project_prediction(model.coordinates.encode(weights).to(model.device))
                directions = draw_probes(x[:1], probes, generator(seed, "study", "probes")).expand(-1, len(x), -1)
                found[name] = log_likelihood(model, model.prior, x, steps, probes=directions, end=0.99).cpu()
                bar.update()
        table = density_table(found, "held-out trajectories")
        write_table(out, table)
        facts |= {"networks": networks, "steps": steps, "probes": probes}


def conditioned_settings(params: Path, presets: Path, changes: list[str]) -> Settings:
    """Settings of a conditioned flow with the changes."""
    settings = load_settings(params, presets, changes)
    if settings.flow.condition == "none":
        raise ValueError("condition: needs --set flow.condition=loss or accuracy.")
    return settings


@app.command()
def condition(
    out: Out,
    changes: Annotated[list[str], typer.Option("--set", help="A setting, section.key=value; repeat for more.")],
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Data = DATASET,
    aligned: Aligned = ALIGNED,
    canonical: Canonical = CANONICAL,
    flow: Annotated[Path, typer.Option(help="Conditioned flow to write.")] = Path("data/conditioned.safetensors"),
    networks: Networks = 400,
    seed: Seed = 0,
) -> None:
    """Train a flow on a figure of its networks, ask it for figures over the zoo's range, and measure what comes.

    Every sample is asked for its own figure, evenly spaced between the zoo's 1st and 99th percentile (of the logarithm for a
    loss). Tenths of the samples by what was asked are the rows; rank correlations are over all samples.
    """
    with running("study-condition", out.parent / "stages") as facts:
        settings, dataset = conditioned_settings(params, presets, changes), load_dataset(data)
        zoo = zoo_of(settings.flow.geometry, aligned, canonical)
        model = flow_for_zoo(settings, zoo, dataset.train.inputs).to(resolve_device(settings.training.device))
        trainer = FlowTrainer(model, zoo, settings.training, dataset.train)
        with progress_bar(settings.training.iterations, "train conditioned flow") as bar:
            model = trainer.run(lambda iteration, iterations, row: bar.update(iteration - bar.n))
        save_flow(flow, model)
        name, rows = settings.flow.condition, []
        figures = network_figures(zoo.training_part, dataset.train, name)
        low, high = (figures.quantile(q).item() for q in (0.01, 0.99))
        asked = torch.linspace(0, 1, networks)
        asked = low * (high / low) ** asked if name == "loss" else low + (high - low) * asked
        for strength in (0.0, 1.0, 2.0):
            random = generator(seed, "study", "prior")
            x = sample(model, networks, 32, random, condition=asked.to(model.device), condition_strength=strength)
            weights = model.coordinates.decode_state(x)
            drawn = Zoo(
                model.architecture, weights, *(torch.zeros(len(x)).long(),) * 2, torch.zeros(len(x)).bool(), "sampled"
            )
            found = network_figures(drawn, dataset.train, name).cpu()
            test = network_losses(model.architecture, weights, dataset.test).cpu()
            for part in torch.arange(networks).chunk(10):
                rows.append(
                    {
                        "strength": strength,
                        "asked": asked[part].mean().item(),
                        "found": found[part].mean().item(),
                        "found_std": found[part].std().item(),
                        "test_loss": test[part].mean().item(),
                    }
                )
            facts[f"rank_correlation_{strength:g}"] = rank_correlation(asked, found)
            facts[f"rank_correlation_test_{strength:g}"] = rank_correlation(asked, test)
        write_table(out, pd.DataFrame(rows))
        facts |= {"condition": name, "networks": networks, "training_seconds": trainer.seconds}


if __name__ == "__main__":
    app()
