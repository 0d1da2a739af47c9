"""Cells: what one measurement with one choice of settings has found, kept in a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from wflib.config import Section
from wflib.measurements.measurement import Inputs, Measurement
from wflib.storage import ArtifactError, atomic_path, load_json, save_json

__all__ = ["Cells", "columns_of", "load_cells", "run_cell"]

SUMMARY, MOST_KEPT = "cells", 50_000
"""The kept table of all cells; rows of the largest table that is kept."""
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
        "settings": settings_of(measurement, inputs),
        "seconds": time.perf_counter() - started,
        "tables": list(tables),
    }
    save_json(inputs.out / CELL, facts)
    return facts


def settings_of(measurement: Measurement, inputs: Inputs) -> dict[str, Any]:
    """The settings that a measurement reads; those of its flow are in the flow's own file."""
    if not measurement.settings:
        return {}
    everything = inputs.settings.model_dump()
    if isinstance(measurement.settings, tuple):
        return {name: everything[name] for name in measurement.settings}
    return everything


@dataclass(frozen=True)
class Cells:
    """The cells of a folder, in any depth, and rows of cells that were measured before and are no longer there.

    Attributes:
        folder: Where they lie.
        facts: Folder of a cell → what its ``cell.json`` says.
        kept: Name of a file that :meth:`to_keep` made, without its ending → rows, the column ``cell`` first.
    """

    folder: Path
    facts: Mapping[Path, Mapping[str, Any]]
    kept: Mapping[str, pd.DataFrame] = field(default_factory=dict)

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
        return measurement in set(self.summary.measurement)

    @property
    def summary(self) -> pd.DataFrame:
        """``cell``, ``measurement`` and ``seconds`` of every cell, in the order of their folders."""
        rows = [(self.name(path), facts["measurement"], facts.get("seconds")) for path, facts in self.facts.items()]
        there = pd.DataFrame(rows, columns=["cell", "measurement", "seconds"]).astype({"seconds": float})
        return self._with_kept(SUMMARY, there)

    def name(self, path: Path) -> str:
        """A cell's folder, seen from the folder of all."""
        return path.relative_to(self.folder).as_posix()

    def table(self, measurement: str, name: str = "rows") -> pd.DataFrame:
        """The rows of one table of all cells of a measurement, cells in the order of their folders.

        Raises:
            ValueError: There are no such cells.
            ArtifactError: One has no such table.
        """
        if not self.has(measurement):
            self.of(measurement)
        return self._rows(measurement, name).drop(columns="cell")

    def _rows(self, measurement: str, name: str) -> pd.DataFrame:
        """The same with the column ``cell``."""
        chosen = [path for path, facts in self.facts.items() if facts["measurement"] == measurement]
        tables = [read_rows(path / f"{name}.csv") for path in chosen]
        there = [rows.assign(cell=self.name(path)) for path, rows in zip(chosen, tables, strict=True)]
        rows = pd.concat(there, ignore_index=True) if there else pd.DataFrame({"cell": []}, dtype=str)
        return self._with_kept(file_of(measurement, name), rows)

    def _with_kept(self, file: str, there: pd.DataFrame) -> pd.DataFrame:
        """Rows of cells that are there, and kept ones of those that are not, in the order of their names."""
        before = self.kept.get(file, there.iloc[:0])
        before = before[~before.cell.isin([self.name(path) for path in self.facts])]
        both = [rows for rows in (before, there) if len(rows)]
        rows = pd.concat(both, ignore_index=True).sort_values("cell", kind="stable", ignore_index=True) if both else there
        return rows[["cell", *rows.columns.drop("cell")]]

    def to_keep(self) -> dict[str, pd.DataFrame]:
        """All rows, those of cells that are no longer there too, for :func:`load_cells` to take up.

        Returns:
            Name of a file, without its ending → rows; no tables of more than ``MOST_KEPT``, as those of all pairs are.
        """
        tables = {(file.partition(".")[0], file.partition(".")[2] or "rows") for file in self.kept if file != SUMMARY}
        tables |= {(facts["measurement"], name) for facts in self.facts.values() for name in facts.get("tables", ["rows"])}
        files = {file_of(*table): self._rows(*table) for table in sorted(tables)}
        return {SUMMARY: self.summary} | {file: rows for file, rows in files.items() if len(rows) <= MOST_KEPT}

    def as_kept(self) -> tuple[Cells, dict[str, bytes]]:
        """These cells as the next reader of kept tables finds them, rounded as files are, and those files.

        Cells with a table that is too large to keep are read as they are.
        """
        files = {name: rows.to_csv(index=False, float_format="%.7g").encode() for name, rows in self.to_keep().items()}
        kept = {name: read_rows(BytesIO(content)) for name, content in files.items()}
        large = {
            path: facts
            for path, facts in self.facts.items()
            if any(file_of(facts["measurement"], name) not in kept for name in facts.get("tables", ["rows"]))
        }
        return replace(self, facts=large, kept=kept), files


def file_of(measurement: str, table: str) -> str:
    """Where a table of all cells of a measurement is kept: ``quality``, ``alignment.barriers``."""
    return measurement if table == "rows" else f"{measurement}.{table}"


def read_rows(path: Path | BytesIO) -> pd.DataFrame:
    """A table of a cell; only what is empty is undefined, and a label may be ``none``."""
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: expected a table of a cell, found {error}; run the cell again.") from error


def load_cells(folder: str | Path, kept: Path | None = None) -> Cells:
    """Read what the cells of a folder say of themselves.

    Args:
        folder: Cells, in any depth.
        kept: Folder of tables from :meth:`Cells.to_keep`: rows of cells that are not in ``folder`` are taken from there.

    Raises:
        ValueError: There are none, and none are kept.
        ArtifactError: One is damaged.
    """
    folder = Path(folder)
    found = {path.parent: load_json(path, "cell") for path in sorted(folder.rglob(CELL))}
    before = {path.stem: read_rows(path) for path in sorted(kept.glob("[!.]*.csv"))} if kept else {}
    if not found and SUMMARY not in before:
        raise ValueError(f"{folder}: expected folders with a {CELL}, found none; run the cells first.")
    for path, facts in found.items():
        if "measurement" not in facts:
            raise ArtifactError(f"{path / CELL}: expected what was measured, found {sorted(facts)}; run the cell again.")
    for file, rows in before.items():
        if "cell" not in rows.columns:
            raise ArtifactError(f"{kept}/{file}.csv: expected a column cell, found {list(rows.columns)}; remove the folder.")
    return Cells(folder, found, before)
