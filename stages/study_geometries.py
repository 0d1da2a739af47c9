"""study-geometries: one table of what flows of several geometries draw; reports/geometries/run.sh makes what it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from stages.common import application, clear_errors
from wflib.report import geometries_markdown
from wflib.storage import atomic_path, load_json

app = application("study-geometries")


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="Folder with one folder for each geometry; results.md is written there.")],
) -> None:
    """Compare the geometries' samples, the zoo, and samples of other widths, from metrics.json and widths.csv of each."""
    with clear_errors("study-geometries"):
        found = sorted(path.parent for path in folder.glob("*/metrics.json"))
        if not found:
            raise ValueError(f"{folder}: no folder in it has a metrics.json; run reports/geometries/run.sh first.")
        for path in (geometry / name for geometry in found for name in ("train-flow.json", "widths.csv")):
            if not path.exists():
                raise ValueError(f"{path}: expected a file, found none; run reports/geometries/run.sh for this geometry.")
        metrics = {path.name: load_json(path / "metrics.json", "evaluate") for path in found}
        facts = {path.name: load_json(path / "train-flow.json", "train-flow") for path in found}
        widths = {path.name: pd.read_csv(path / "widths.csv") for path in found}
        with atomic_path(folder / "results.md") as temporary:
            temporary.write_text(geometries_markdown(metrics, facts, widths))


if __name__ == "__main__":
    app()
