"""study-alignment: compare ways of alignment, and say how symmetric a zoo is; reports/alignment/dvc.yaml runs it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from stages.common import DATASET, PARAMS, PRESETS, ZOO, Params, Presets, application, progress_bar
from wflib.config import load_settings
from wflib.evaluation import alignment_quality, barrier_table, distance_table
from wflib.report import alignment_markdown, barrier_figure, distance_figure
from wflib.storage import atomic_path
from wflib.testing import assert_same_function
from wflib.zoo import align_zoo, load_dataset, load_zoo

app = application("study-alignment")

OBJECTIVES = ("l2", "midpoint", "random-point")
FIGURE = ("none", "weight-matching", "activation-matching", "sinkhorn, midpoint")
WAYS: dict[str, dict[str, object]] = {
    "none": {"method": "none"},
    "weight-matching, 1 start": {"method": "weight-matching", "restarts": 1},
    "weight-matching": {"method": "weight-matching"},
    "activation-matching": {"method": "activation-matching"},
    **{f"sinkhorn, {objective}": {"method": "sinkhorn", "objective": objective} for objective in OBJECTIVES},
    **{
        f"{name}, to the {reference}": {**way, "reference": reference}
        for reference in ("best", "medoid", "mean")
        for name, way in {
            "weight-matching": {"method": "weight-matching"},
            "sinkhorn, midpoint": {"method": "sinkhorn", "objective": "midpoint"},
        }.items()
    },
}
"""Name → changes of the section ``align``; the others bring networks to the first one."""


@app.command()
def main(
    params: Params = PARAMS,
    presets: Presets = PRESETS,
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data; its test part measures barriers.")] = DATASET,
    zoo: Annotated[Path, typer.Option(help="Zoo from train-zoo.")] = ZOO,
    networks: Annotated[int, typer.Option(min=2, help="Last snapshots to align, from the first trajectory on.")] = 250,
    restarts: Annotated[int, typer.Option(min=1, help="Starts of weight matching.")] = 30,
    out: Annotated[Path, typer.Option(help="Folder for methods.csv, methods.md and two figures.")] = Path(
        "reports/alignment"
    ),
) -> None:
    """Align the same networks in every way and compare distances, loss barriers of all pairs and seconds.

    Alignment reads training data, and validation data where the best network is the reference; barriers are measured on
    test data. Every way is checked to keep each network's function.

    Raises:
        Exit: Settings or files are wrong; the sentence has been shown.
    """
    try:
        settings = load_settings(params, presets)
        dataset, trained = load_dataset(data), load_zoo(zoo, "trained").last_snapshots[:networks]
    except ValueError as error:
        typer.secho(f"study-alignment: {error}", fg="red", err=True)
        raise typer.Exit(1) from error
    architecture, rows, barriers = trained.architecture, [], []
    with progress_bar(len(WAYS), f"align {len(trained)} networks", "way") as bar:
        for name, changes in WAYS.items():
            bar.set_postfix_str(name)
            config = settings.align.model_copy(update={"reference": "first", "restarts": restarts, **changes})
            started = time.perf_counter()
            aligned = align_zoo(trained, config, dataset)
            seconds = time.perf_counter() - started
            assert_same_function(architecture, trained.weights, architecture, aligned.weights, dataset.test.inputs, 1e-4)
            table = barrier_table(name, architecture, aligned.weights, dataset.test)
            quality = alignment_quality(aligned, table, dataset.test)
            rows.append({"alignment": name, **quality, "seconds": seconds})
            if name in FIGURE:
                barriers.append(table)
            bar.update()
    methods, distances = pd.DataFrame(rows), distance_table(architecture, trained.weights, settings.align.seed, restarts=3)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "methods.csv") as temporary:
        methods.to_csv(temporary, index=False)
    with atomic_path(out / "methods.md") as temporary:
        temporary.write_text(alignment_markdown(methods, distances, len(trained)))
    for figure, content in (("barriers", barrier_figure(pd.concat(barriers))), ("distances", distance_figure(distances))):
        with atomic_path(out / f"{figure}.svg") as temporary:
            temporary.write_bytes(content)


if __name__ == "__main__":
    app()
