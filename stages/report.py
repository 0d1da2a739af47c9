"""report: tables and figures, to read and to show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from stages.common import EVALUATION, FACTS, HISTORY, PARAMS, PRESETS, REPORTS, STAGES, Params, Presets, application, running
from wflib.config import load_settings
from wflib.evaluation import TABLES
from wflib.report import ReportData, cost_of_run, needs_zoo, write_report
from wflib.storage import load_json, load_table, rerun, save_json
from wflib.zoo import TRAINED_HERE

app = application("report")
ZOO = {"zoo_networks": "networks", "zoo_trajectories": "trajectories", "network_weights": "weights"}
"""Facts of the report → what the stages evaluate and train-zoo call them."""


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    evaluation: Annotated[Path, typer.Option(help="Tables from evaluate.")] = EVALUATION,
    history: Annotated[Path, typer.Option(help="Training history from train-flow.")] = HISTORY,
    facts: Annotated[Path, typer.Option(help="Seconds and facts of the stages.")] = FACTS,
    out: Annotated[Path, typer.Option(help="Folder of report.md, report.html, cost.json and figures.")] = REPORTS,
) -> None:
    """Write report.md, a self-contained report.html that opens offline, and the figures.

    Everything in them comes from the tables of earlier stages; nothing is computed anew.
    """
    with running("report"):
        settings = load_settings(params, presets)
        files = {stage: facts / f"{stage}.json" for stage in STAGES}
        # A zoo that was put there by other means than the stage has none, or one of another zoo.
        found = {stage: load_json(file, stage) for stage, file in files.items() if stage != "train-zoo" or file.is_file()}

        def fact(stage: str, name: str) -> Any:
            if name not in found[stage]:
                raise ValueError(f"{files[stage]}: expected {name!r}, found {sorted(found[stage])}; {rerun(stage)}.")
            return found[stage][name]

        tables = {name: load_table(evaluation / f"{name}.parquet", schema, "evaluate") for name, schema in TABLES.items()}
        zoo, trained = {name: fact("evaluate", name) for name in ZOO.values()}, settings.zoo.source == "train"
        made_here = not trained or fact("evaluate", "provenance") == TRAINED_HERE
        if not made_here or zoo.items() - found.get("train-zoo", {}).items():
            found.pop("train-zoo", None)
        seconds, cost = {stage: fact(stage, "seconds") for stage in found}, None
        if trained and "train-zoo" in found:  # of networks that others trained nobody knows what they cost
            made = "trajectories" if settings.zoo.sampler == "optimizer" else "networks"  # a chain gives many draws
            for name in ("networks", "draw_seconds"):
                fact("sample", name)
            cost = cost_of_run(seconds, found["sample"], fact("train-zoo", made), needs_zoo(settings.sample.source))
        save_json(out / "cost.json", {} if cost is None else cost.metrics)
        taken = ("polish_steps", "polish_learning_rate") if settings.sample.polish_steps else ()
        unused = {"zoo": {"read": True}} if trained else {}
        write_report(
            out,
            ReportData(
                **tables,
                history=pd.read_csv(history),
                stages=pd.DataFrame(seconds.items(), columns=["stage", "seconds"]),
                settings=settings.model_dump(exclude={"task": True, **unused}),
                verdict=fact("evaluate", "verdict"),
                cost=cost,
                facts={
                    "task": settings.task,
                    "model": fact("sample", "model"),
                    "geometry": fact("evaluate", "geometry"),
                    "coupling": fact("evaluate", "coupling"),
                    "velocity_parameters": fact("train-flow", "parameters"),
                    "iterations": fact("train-flow", "iterations"),
                    **{name: zoo[key] for name, key in ZOO.items()},
                    **{name: fact("sample", name) for name in taken},
                },
            ),
        )


if __name__ == "__main__":
    app()
