"""evaluate: say how good the drawn networks are, beside the zoo and simpler models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
    DETAILS,
    EVALUATION,
    FLOW,
    METRICS,
    PARAMS,
    PRESETS,
    SAMPLES,
    ZOO,
    CanonicalZoo,
    Params,
    Presets,
    Processes,
    application,
    progress_bar,
    require_settings_of,
    running,
)
from wflib.architecture import Architecture
from wflib.config import Settings, load_settings
from wflib.device import resolve_device
from wflib.distributed import exchanged, ours, process_group, rank, world_size
from wflib.evaluation import (
    NO_AUDIT,
    TABLES,
    Audit,
    audit_examples,
    audit_networks,
    barrier_table,
    beaten,
    enough_for_an_audit,
    evaluate_networks,
    evaluate_weights,
    key_metrics,
    part_quality,
    reliability_table,
    rivals,
    sampling_quality,
    training_mistakes,
    verdict,
    weight_pictures,
    weights_alone,
)
from wflib.flow import Flow, Guidance, TaskLoss, load_flow, sample
from wflib.models import METHODS, check_methods, method_settings
from wflib.networks import Networks
from wflib.rng import generator
from wflib.storage import exchanged_tables, save_json, save_table
from wflib.tasks import Dataset, Split, load_dataset
from wflib.zoo import AnyZoo, load_zoo, open_zoo, require_same_architecture, require_training_examples, zoo_of_flow

MODEL_NETWORKS = 250
"""Most networks of a simpler model: enough to tell Gaussian fits from the zoo, and copies with noise by their distances."""
Sets = dict[str, tuple[Networks, torch.Tensor | None]]
"""Source → networks, and their trajectories where they are of the zoo."""

app = application("evaluate")


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; only here its test part is read.")] = DATASET,
    trained: Annotated[Path, typer.Option(help="Zoo from train-zoo, for barriers before alignment.")] = ZOO,
    aligned: Annotated[Path, typer.Option(help="Zoo from align, for barriers and for Euclidean flows.")] = ALIGNED,
    canonical: CanonicalZoo = CANONICAL,
    flow: Annotated[Path, typer.Option(help="Flow from train-flow, for quality against steps.")] = FLOW,
    samples: Annotated[Path, typer.Option(help="Networks from sample.")] = SAMPLES,
    out: Annotated[Path, typer.Option(help="Folder of parquet tables to write.")] = EVALUATION,
    metrics: Annotated[Path, typer.Option(help="JSON file with the few numbers that dvc metrics diff shows.")] = METRICS,
    details: Annotated[Path, typer.Option(help="JSON file with all numbers of all sets.")] = DETAILS,
    processes: Processes = 1,
) -> None:
    """Measure drawn networks, zoo networks, held-out trajectories and simpler models in the same way.

    Quality and calibration on the test part, Bayesian model average, diversity; variance ratio and novelty after alignment
    and moments tensor by tensor, in the coordinates the flow works in; loss barriers of the zoo before and after alignment;
    quality of samples against steps with and without guidance. Tests on training and validation examples, which are more,
    say whether samples are like held-out networks and whether some are copies: the verdict comes first in the report.
    Where the task has no examples, or is a regression, networks are compared in their weights alone.

    Several processes share the sets of networks: --processes 2, or torchrun. Of a zoo larger than memory
    quality and audit read random parts, novelty, moments and spread go through all training networks part by part, and
    simpler models are fitted to a random part.
    """
    with process_group(processes), running("evaluate") as facts:
        settings = load_settings(params, presets)
        check_methods(settings)
        device = resolve_device(settings.evaluate.device)
        dataset, model, drawn = load_dataset(data), load_flow(flow, device), load_zoo(samples, "sampled")
        require_settings_of(model.config, flow, settings)
        zoo = zoo_of_flow(flow, model.config.geometry, model.architecture, aligned, canonical, open_zoo)
        whole = open_zoo(trained, "trained")
        before, after = whole.last_snapshots, open_zoo(aligned, "aligned").last_snapshots
        for path, networks in ((flow, model), (samples, drawn), (trained, before), (aligned, after)):
            dataset = dataset.for_networks(networks.architecture, f"{path}")
        require_same_architecture(drawn.architecture, model.architecture, f"{samples}", f"{flow}")
        require_training_examples(whole.metadata, dataset, f"{trained}")
        zoo.require_both_parts("evaluate")
        sets = sets_to_compare(settings, zoo, drawn.networks, dataset)
        examples = None
        if dataset.has_classes:
            examples = audit_examples(dataset, generator(settings.evaluate.seed, "evaluate", "examples"))
        audit = audited(settings, zoo, drawn.networks.to(device), examples) if rank() == 0 else None
        tables = measured(settings, sets, zoo, dataset, device)
        tables["pictures"], tables["barriers"], tables["curve"] = [], [], []
        if rank() == 0:
            random = generator(settings.evaluate.seed, "evaluate", "pictures")
            tables["pictures"] = [weight_pictures(drawn.networks, zoo.training_part, zoo.reference, random, dataset.image)]
        if dataset.has_classes and rank() == world_size() - 1:
            chosen = (("unaligned", before), ("aligned", after))
            some = settings.evaluate.barrier_networks
            tables["barriers"] = [barrier_table(name, part.networks[:some], dataset.test) for name, part in chosen]
            tables["curve"] = quality_curve(settings, model, dataset)
        joined = {name: table_of(tables[name], schema) for name, schema in TABLES.items()}
        if world_size() > 1:
            joined = in_order(exchanged_tables(joined), list(sets))
        if rank() > 0:
            return
        for name, schema in TABLES.items():
            save_table(out / f"{name}.parquet", joined[name], schema)
        save_json(metrics, key_metrics(joined["groups"], joined["parts"], audit))
        save_json(details, figures(joined, audit))
        samples_row = joined["groups"].set_index("source").loc["samples"]
        if examples is None:
            said = [f"samples: {weights_alone(dataset)}"]
        else:
            facts |= {"accuracy": float(samples_row["accuracy_mean"]), "nll": float(samples_row["nll_mean"])}
            rows = joined["groups"].to_dict("records")
            copying = {str(row["source"]): (row["copying_ratio"], row["copying_ratio_error"]) for row in rows}
            independent = {name: networks for name, (networks, trajectory) in sets.items() if trajectory is None}
            labels = {name: METHODS[name].label for name in settings.evaluate.models}
            said = [NO_AUDIT] if audit is None else verdict(audit)
            said.append(beaten(rivals(independent, copying, examples), labels))
        facts |= {
            "verdict": said,
            "networks": int((~whole.is_early).sum()),
            "trajectories": len(before),
            "weights": whole.architecture.dimension,
            "provenance": whole.metadata.get("provenance"),
            "geometry": model.config.geometry,
            "coupling": model.config.coupling,
        }


def sets_to_compare(settings: Settings, zoo: AnyZoo, drawn: Networks, dataset: Dataset) -> Sets:
    """Samples, random networks of both parts of the zoo, and draws of the simpler models."""
    config = settings.evaluate
    sets: Sets = {"samples": (drawn, None)}
    for name, part in (("zoo", zoo.training_part), ("held-out", zoo.held_out_part)):
        chosen = torch.randperm(len(part), generator=generator(config.seed, "evaluate", name))[: config.zoo_networks]
        sets[name] = (part.networks[chosen], part.trajectory[chosen])
    known = zoo.to_fit(generator(config.seed, "evaluate", "zoo"))
    for number, name in enumerate(config.models):
        networks: list[Networks] = []
        if ours(number):
            random = generator(config.seed, "evaluate", name)
            model = METHODS[name].fit(known, dataset, method_settings(settings.models, name), random)
            networks.append(model.draw(min(len(drawn), MODEL_NETWORKS), random))
        sets[name] = (networks[0] if world_size() == 1 else drawn_by_one(networks, zoo.architecture), None)
    return sets


def drawn_by_one(networks: Sequence[Networks], architecture: Architecture) -> Networks:
    """Networks that one process has, on all."""
    contents = exchanged(b"".join(some.flat.float().cpu().numpy().tobytes() for some in networks))
    numbers = torch.frombuffer(bytearray(b"".join(contents)), dtype=torch.float32)
    return Networks.from_flat(architecture, numbers.view(-1, architecture.dimension))


def audited(settings: Settings, zoo: AnyZoo, drawn: Networks, examples: Split | None) -> Audit | None:
    """Tests of the samples against held-out networks, where there are enough of both and examples."""
    training, held_out = zoo.training_part, zoo.held_out_part
    if examples is None or not enough_for_an_audit(drawn, training, held_out):
        return None
    random = generator(settings.evaluate.seed, "evaluate", "audit")
    return audit_networks("samples", drawn, training, held_out, examples, random)


def measured(settings: Settings, sets: Sets, zoo: AnyZoo, dataset: Dataset, device: torch.device) -> dict[str, list[Any]]:
    """Rows of the tables that compare sets of networks, of those that are this process's."""
    config, training = settings.evaluate, zoo.training_part
    tables: dict[str, list[Any]] = {"networks": [], "groups": [], "moments": [], "parts": [], "reliability": []}
    mistakes = training_mistakes(training.networks.to(device), dataset.test) if dataset.has_classes else None
    with progress_bar(len(sets), "evaluate", "set") as bar:
        for number, (name, (networks, trajectory)) in enumerate(sets.items()):
            if not ours(number):
                continue
            bar.set_postfix_str(name)
            random, there = generator(config.seed, "evaluate", name, "matching"), networks.to(device)
            common: dict[str, Any] = {
                "trajectory": trajectory,
                "unseen": zoo.held_out_part if trajectory is None else None,
                "novelty_networks": config.novelty_networks,
            }
            if dataset.has_classes:
                bins = config.calibration_bins
                rows, record, moments = evaluate_networks(
                    name, there, dataset.test, training, bins, random, zoo.reference, mistakes=mistakes, **common
                )
                chosen = generator(config.seed, "evaluate", "parts")
                tables["parts"].append(part_quality(name, there, dataset, chosen, trajectory))
                tables["reliability"].append(reliability_table(name, there, dataset.test, bins))
            else:
                rows, record, moments = evaluate_weights(name, there, training, random, zoo.reference, **common)
            tables["networks"].append(rows)
            tables["groups"].append(record)
            tables["moments"].append(moments)
            bar.update()
    return tables


def in_order(found: list[dict[str, pd.DataFrame]], sources: list[str]) -> dict[str, pd.DataFrame]:
    """Tables of all processes as one process would have made them."""
    joined = {name: pd.concat([one[name] for one in found]) for name in TABLES}
    for name, table in joined.items():
        if "source" in table:
            joined[name] = table.sort_values("source", kind="stable", key=lambda column: column.map(sources.index))
    return joined


def quality_curve(settings: Settings, model: Flow, dataset: Dataset) -> list[dict[str, float]]:
    """Quality of the flow's samples for every number of steps and strength of guidance."""
    config, drawing, rows = settings.evaluate, settings.sample, []
    model.precision = drawing.precision
    points = [(steps, strength) for strength in config.guidance for steps in config.steps]
    with progress_bar(len(points), "quality against steps", "point") as bar:
        for steps, strength in points:
            guidance = None
            if strength > 0:
                random = generator(config.seed, "evaluate", "guidance")
                loss = TaskLoss(dataset.train, drawing.guidance_batch, random)
                guidance = Guidance(model, loss, strength, drawing.guidance_schedule, drawing.guidance_point)
            wish: dict[str, Any] = {"condition": drawing.condition, "condition_strength": drawing.condition_strength}
            random = generator(config.seed, "evaluate", "curve")
            x = sample(model, config.curve_networks, steps, random, guidance, **drawing.by_steps, **wish)
            quality = sampling_quality(model.coordinates.decode_state(x), dataset.test)
            rows.append({"steps": steps, "guidance": strength, **quality})
            bar.update()
    return rows


def table_of(rows: list[Any], schema: dict[str, str]) -> pd.DataFrame:
    """One table of a list of tables or records, which may be empty."""
    if rows and isinstance(rows[0], pd.DataFrame):
        return pd.concat(rows)
    return pd.DataFrame(rows, columns=list(schema)).astype(schema)


def figures(tables: dict[str, pd.DataFrame], audit: Audit | None) -> dict[str, dict[str, object]]:
    """What the JSON file of details holds: defined numbers of every set, mean barriers, the audit's numbers."""

    def defined(values: Mapping[str, object]) -> dict[str, object]:
        return {key: value for key, value in values.items() if is_number(value)}

    found: dict[str, dict[str, object]] = {
        str(record["source"]): defined(record) for record in tables["groups"].to_dict("records")
    }
    barriers = tables["barriers"]
    different = barriers[barriers.i != barriers.j].groupby("stage")[["midpoint", "excess", "maximal"]].mean()
    found["barrier"] = {str(stage): row.to_dict() for stage, row in different.iterrows()}
    if audit is not None:
        found["audit"] = defined(audit.figures)
    return found


def is_number(value: object) -> bool:
    """Whether JSON can hold the value: undefined figures are NaN in tables and left out of files."""
    return isinstance(value, (int, float)) and math.isfinite(value)


if __name__ == "__main__":
    app()
