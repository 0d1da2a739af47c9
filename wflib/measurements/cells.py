"""Cells: what one measurement with one choice of settings has found, kept in a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wflib.config import Section
from wflib.measurements.measurement import Inputs, Measurement
from wflib.storage import ArtifactError, atomic_path, load_json, save_json

__all__ = ["Cells", "columns_of", "load_cells", "run_cell"]

CELL = "cell.json"
"""Written last: a folder without it is a cell that has not ended."""


def columns_of(labels: Sequence[str]) -> dict[str, str]:
    """Column → value of each label ``name=value``.

    Raises:
        ValueError: One of them says no value.
    """
    if wrong := [label for label in labels if "=" not in label]:
        raise ValueError(f"--label: expected name=value, got {wrong[0]!r}.")
    return dict(label.split("=", 1) for label in labels)


def run_cell(measurement: Measurement, inputs: Inputs, options: Section, labels: Mapping[str, str]) -> dict[str, Any]:
    """Measure, and write the tables and what they are of into ``inputs.out``.

    Args:
        measurement: What to do.
        inputs: What it works on.
        options: Of ``measurement.options``.
        labels: Columns that every table begins with.

    Returns:
        What was written as ``cell.json``: measurement, labels, options, settings, seconds, tables.

    Raises:
        ValueError: A label is a column of a table already.
    """
    started = time.perf_counter()
    inputs.out.mkdir(parents=True, exist_ok=True)
    (inputs.out / CELL).unlink(missing_ok=True)
    tables = measurement.measure(inputs, options)
    for name, table in tables.items():
        if both := sorted(set(labels) & set(table.columns)):
            raise ValueError(f"--label: {both[0]}: the table {name} of {measurement.name} has this column already.")
        labelled = pd.concat([pd.DataFrame(dict(labels), index=table.index), table], axis=1)
        with atomic_path(inputs.out / f"{name}.csv") as temporary:
            labelled.to_csv(temporary, index=False)
    facts = {
        "measurement": measurement.name,
        "labels": dict(labels),
        "options": options.model_dump(),
        "settings": inputs.settings.model_dump() if measurement.settings else {},
        "seconds": time.perf_counter() - started,
        "tables": list(tables),
    }
    save_json(inputs.out / CELL, facts)
    return facts


@dataclass(frozen=True)
class Cells:
    """The cells of a folder, in any depth.

    Attributes:
        folder: Where they lie.
        facts: Folder of a cell → what its ``cell.json`` says.
    """

    folder: Path
    facts: Mapping[Path, Mapping[str, Any]]

    def of(self, measurement: str) -> list[Mapping[str, Any]]:
        """Facts of the cells of one measurement.

        Raises:
            ValueError: There are none.
        """
        if found := [facts for facts in self.facts.values() if facts["measurement"] == measurement]:
            return found
        made = sorted({str(facts["measurement"]) for facts in self.facts.values()})
        raise ValueError(f"{self.folder}: expected cells of {measurement}, found {', '.join(made)}; run them first.")

    def has(self, measurement: str) -> bool:
        """Whether there is any cell of a measurement."""
        return any(facts["measurement"] == measurement for facts in self.facts.values())

    def table(self, measurement: str, name: str = "rows") -> pd.DataFrame:
        """The rows of one table of all cells of a measurement, cells in the order of their folders.

        Raises:
            ValueError: There are no such cells.
            ArtifactError: One has no such table.
        """
        self.of(measurement)
        chosen = [folder for folder, facts in self.facts.items() if facts["measurement"] == measurement]
        return pd.concat([read_rows(folder / f"{name}.csv") for folder in chosen], ignore_index=True)


def read_rows(path: Path) -> pd.DataFrame:
    """A table of a cell; only what is empty is undefined, and a label may be ``none``."""
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: expected a table of a cell, found {error}; run the cell again.") from error


def load_cells(folder: str | Path) -> Cells:
    """Read what the cells of a folder say of themselves.

    Raises:
        ValueError: There are none.
        ArtifactError: One is damaged.
    """
    folder = Path(folder)
    found = {path.parent: load_json(path, "cell") for path in sorted(folder.rglob(CELL))}
    if not found:
        raise ValueError(f"{folder}: expected folders with a {CELL}, found none; run the cells first.")
    for path, facts in found.items():
        if "measurement" not in facts:
            raise ArtifactError(f"{path / CELL}: expected what was measured, found {sorted(facts)}; run the cell again.")
    return Cells(folder, found)
