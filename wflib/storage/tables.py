"""Parquet tables with a fixed schema and small JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wflib.distributed import exchanged, world_size
from wflib.storage.artifact import ArtifactError, rerun
from wflib.storage.atomic import atomic_path

__all__ = ["exchanged_tables", "load_json", "load_table", "save_json", "save_table"]


def save_table(path: str | Path, table: pd.DataFrame, schema: Mapping[str, str]) -> None:
    """Write a table whose columns and dtypes are exactly the schema's.

    Args:
        path: File to write.
        table: The rows.
        schema: Column → pandas dtype.

    Raises:
        ValueError: The columns are not the schema's.
    """
    check_columns(path, table, schema)
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pandas(table[list(schema)].astype(dict(schema)), preserve_index=False), temporary)


def exchanged_tables(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, pd.DataFrame]]:
    """Tables of the same names of every process, in the order of processes; alone, of this one."""
    found: list[dict[str, pd.DataFrame]] = [{} for _ in range(world_size())]
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), sink)
        for one, content in zip(found, exchanged(sink.getvalue().to_pybytes()), strict=True):
            one[name] = pq.read_table(pa.BufferReader(content)).to_pandas().astype(table.dtypes.to_dict())
    return found


def load_table(path: str | Path, schema: Mapping[str, str], stage: str) -> pd.DataFrame:
    """Read a table and check it against its schema.

    Args:
        path: File to read.
        schema: Column → pandas dtype.
        stage: The stage that makes the file, named in errors.

    Returns:
        The rows.

    Raises:
        ArtifactError: The file is missing, damaged or has other columns or dtypes.
    """
    remedy = rerun(stage)
    if not Path(path).is_file():
        raise ArtifactError(f"{path}: expected a parquet table, found no file; {remedy}.")
    try:
        table = pq.read_table(path).to_pandas()
        check_columns(path, table, schema)
        check_dtypes(table, schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: expected a table with columns {list(schema)}; {error}; {remedy}.") from error
    return table[list(schema)]


def check_columns(path: str | Path, table: pd.DataFrame, schema: Mapping[str, str]) -> None:
    if set(table.columns) != set(schema):
        raise ValueError(f"{path}: expected columns {sorted(schema)}, found {sorted(map(str, table.columns))}")


def check_dtypes(table: pd.DataFrame, schema: Mapping[str, str]) -> None:
    for column, dtype in schema.items():
        if table[column].dtype != pd.api.types.pandas_dtype(dtype):
            raise ValueError(f"column {column}: expected {dtype}, found {table[column].dtype}")


def save_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, numbers rounded to six significant digits so that diffs stay readable."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(rounded(content), indent=2, allow_nan=False) + "\n")


def load_json(path: str | Path, stage: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: File to read.
        stage: The stage that makes the file, named in errors.

    Returns:
        The object.

    Raises:
        ArtifactError: The file is missing or no JSON object.
    """
    remedy = rerun(stage)
    try:
        content = json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: expected a JSON file, found no file; {remedy}.") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: expected a JSON file, found {error}; {remedy}.") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: expected a JSON object, found {type(content).__name__}; {remedy}.")
    return content


def rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
