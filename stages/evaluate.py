"""evaluate: say how good the drawn networks are, beside the zoo and simple baselines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from stages.common import (
    ALIGNED,
    CANONICAL,
    DATASET,
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
    application,
    progress_bar,
    running,
    zoo_of_flow,
)
from wflib.baselines import BASELINES
from wflib.config import load_settings
from wflib.device import resolve_device
from wflib.evaluation import (
    BARRIER_SCHEMA,
    CURVE_SCHEMA,
    GROUP_SCHEMA,
    MOMENT_SCHEMA,
    NETWORK_SCHEMA,
    NO_EXAMPLES,
    audit_examples,
    audit_networks,
    barrier_table,
    enough_for_an_audit,
    evaluate_networks,
    evaluate_weights,
    sampling_quality,
    verdict,
)
from wflib.flow import Guidance, TaskLoss, load_flow, sample
from wflib.rng import generator
from wflib.storage import save_json, save_table
from wflib.tasks import Split, load_dataset
from wflib.zoo import load_zoo, require_same_architecture

BASELINE_NETWORKS = 250
"""Most networks of a baseline: enough to tell Gaussian fits from the zoo, and copies with noise by their distances."""

FUNCTIONS = 2000
"""Most test examples on which all training networks' functions are compared with each network's."""
NO_AUDIT = (
    "samples: not audited; tests against held-out networks need classifiers and 20 independent networks on both sides."
)

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
    metrics: Annotated[Path, typer.Option(help="Small JSON file for dvc metrics diff.")] = METRICS,
) -> None:
    """Measure drawn networks, zoo networks, held-out trajectories and baselines in the same way.

    Quality and calibration on the test part, Bayesian model average, diversity; variance ratio and novelty after alignment
    and moments tensor by tensor, in the coordinates the flow works in; loss barriers of the zoo before and after alignment;
    quality of samples against Euler steps with and without guidance. Tests on training and validation examples, which are
    more, say whether samples are like held-out networks and whether some are copies: the verdict comes first in the report.
    """
    with running("evaluate") as facts:
        settings = load_settings(params, presets)
        config, device = settings.evaluate, resolve_device(settings.evaluate.device)
        dataset, model, drawn = load_dataset(data), load_flow(flow, device), load_zoo(samples, "sampled")
        zoo = zoo_of_flow(flow, model.config.geometry, model.architecture, aligned, canonical)
        before, after = load_zoo(trained, "trained").last_snapshots, load_zoo(aligned, "aligned").last_snapshots
        for path, networks in ((flow, model), (samples, drawn), (trained, before), (aligned, after)):
            dataset = dataset.for_networks(networks.architecture, f"{path}")
        require_same_architecture(drawn.architecture, model.architecture, f"{samples}", f"{flow}")
        zoo.require_both_parts("evaluate")
        training, held_out, reference = zoo.training_part, zoo.held_out_part, zoo.reference

        def some(part, name: str):
            chosen = torch.randperm(len(part), generator=generator(config.seed, "evaluate", name))
            return part[chosen[: config.zoo_networks]]

        groups = {"samples": (drawn.networks, None)}
        for name, part in (("zoo", some(training, "zoo")), ("held-out", some(held_out, "held-out"))):
            groups[name] = (part.networks, part.trajectory)
        for name, draw in BASELINES.items():
            count = min(len(drawn), BASELINE_NETWORKS)
            groups[name] = (draw(training, count, generator(config.seed, "evaluate", name), config.noise), None)
        audit = None
        if dataset.has_examples and enough_for_an_audit(drawn.networks, training, held_out):
            random = generator(config.seed, "evaluate", "audit")
            examples, networks = audit_examples(dataset, random), drawn.networks.to(device)
            few = Split(dataset.test.inputs[:FUNCTIONS], dataset.test.targets[:FUNCTIONS])
            audit = audit_networks("samples", networks, training, held_out, examples, random, novelty_split=few)
        rows, records, moments = [], [], []
        points = (
            [] if not dataset.has_examples else [(steps, strength) for strength in config.guidance for steps in config.steps]
        )
        with progress_bar(len(groups) + len(points), "evaluate", "set") as bar:
            for name, (networks, trajectory) in groups.items():
                bar.set_postfix_str(name)
                random, unseen = (
                    generator(config.seed, "evaluate", name, "matching"),
                    held_out if trajectory is None else None,
                )
                some_of, facts_of = (name, networks.to(device)), {"trajectory": trajectory, "unseen": unseen}
                if dataset.has_examples:
                    bins = config.calibration_bins
                    table, record, moved = evaluate_networks(
                        *some_of, dataset.test, training, bins, random, reference, **facts_of
                    )
                else:
                    table, record, moved = evaluate_weights(*some_of, training, random, reference, **facts_of)
                rows.append(table)
                records.append(record)
                moments.append(moved)
                bar.update()
            curve = []
            for steps, strength in points:
                bar.set_postfix_str(f"{steps} steps, guidance {strength:g}")
                guidance = None
                if strength > 0:
                    random = generator(config.seed, "evaluate", "guidance")
                    loss = TaskLoss(dataset.train, settings.sample.guidance_batch, random)
                    schedule, point = settings.sample.guidance_schedule, settings.sample.guidance_point
                    guidance = Guidance(model, loss, strength, schedule, point)
                x = sample(model, config.curve_networks, steps, generator(config.seed, "evaluate", "curve"), guidance)
                quality = sampling_quality(model.coordinates.decode_state(x), dataset.test)
                curve.append({"steps": steps, "guidance": strength, **quality})
                bar.update()
        barriers = pd.DataFrame(columns=list(BARRIER_SCHEMA)).astype(BARRIER_SCHEMA)
        if dataset.has_examples:
            barriers = pd.concat(
                barrier_table(name, part.networks[: config.barrier_networks], dataset.test)
                for name, part in (("unaligned", before), ("aligned", after))
            )
        summary = pd.DataFrame(records)
        save_table(out / "networks.parquet", pd.concat(rows), NETWORK_SCHEMA)
        save_table(out / "groups.parquet", summary, GROUP_SCHEMA)
        save_table(out / "moments.parquet", pd.concat(moments), MOMENT_SCHEMA)
        save_table(out / "barriers.parquet", barriers, BARRIER_SCHEMA)
        save_table(out / "curve.parquet", pd.DataFrame(curve, columns=list(CURVE_SCHEMA)), CURVE_SCHEMA)
        different = barriers[barriers.i != barriers.j].groupby("stage")[["midpoint", "excess", "maximal"]].mean()
        found: dict[str, object] = {
            str(record["source"]): {key: value for key, value in record.items() if is_number(value)} for record in records
        }
        found["barrier"] = {stage: row.to_dict() for stage, row in different.iterrows()}
        if audit is not None:
            found["audit"] = {key: value for key, value in audit.figures.items() if is_number(value)}
        save_json(metrics, found)
        said = [f"samples: {NO_EXAMPLES}"] if not dataset.has_examples else [NO_AUDIT] if audit is None else verdict(audit)
        if dataset.has_examples:
            facts |= {"accuracy": records[0]["accuracy_mean"], "nll": records[0]["nll_mean"]}
        facts["verdict"] = said


def is_number(value: object) -> bool:
    """Whether JSON can hold the value: undefined figures are NaN in tables and left out of metrics."""
    return isinstance(value, (int, float)) and math.isfinite(value)


if __name__ == "__main__":
    app()
