"""Tables and JSON: what is written is read back, and anything else is refused with the stage to rerun."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

from wflib.storage import ArtifactError, load_json, load_table, save_json, save_table

SCHEMA = {"name": "str", "count": "int64", "value": "float64", "good": "bool"}
TABLE = pd.DataFrame({"name": ["a", "b"], "count": [1, 2], "value": [0.25, np.nan], "good": [True, False]})


def refusal(load, path, *arguments) -> str:
    with pytest.raises(ArtifactError) as caught:
        load(path, *arguments, stage="make-thing")
    assert str(path) in str(caught.value)
    assert "dvc repro --single-item --force make-thing" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("rows", [2, 0])
def test_table_round_trip(tmp_path, rows):
    save_table(tmp_path / "t.parquet", TABLE[:rows][list(reversed(SCHEMA))], SCHEMA)
    loaded = load_table(tmp_path / "t.parquet", SCHEMA, stage="make-thing")
    pd.testing.assert_frame_equal(loaded, TABLE[:rows].astype(SCHEMA))
    assert list(loaded) == list(SCHEMA)


def test_columns_that_are_not_the_schema_are_not_written(tmp_path):
    for table in (TABLE.drop(columns="count"), TABLE.assign(extra=1)):
        with pytest.raises(ValueError, match="expected columns"):
            save_table(tmp_path / "t.parquet", table, SCHEMA)
    with pytest.raises(ValueError, match="integer"):
        save_table(tmp_path / "t.parquet", TABLE.assign(count=[1.0, np.nan]), SCHEMA)
    assert os.listdir(tmp_path) == []


def test_tables_that_are_not_the_schema_are_refused(tmp_path):
    path = tmp_path / "t.parquet"
    assert "found no file" in refusal(load_table, path, SCHEMA)
    TABLE.drop(columns="count").to_parquet(path)
    assert "count" in refusal(load_table, path, SCHEMA)
    TABLE.assign(extra=1).to_parquet(path)
    assert "extra" in refusal(load_table, path, SCHEMA)
    TABLE.assign(count=[1.5, 2.0]).to_parquet(path)
    assert "column count: expected int64, found float64" in refusal(load_table, path, SCHEMA)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_table_is_refused(tmp_path, share):
    path = tmp_path / "t.parquet"
    save_table(path, TABLE, SCHEMA)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "expected a table" in refusal(load_table, path, SCHEMA)


def test_json_round_trip_to_six_digits(tmp_path):
    path = tmp_path / "deep" / "m.json"
    save_json(path, {"x": 0.123456789, "big": 123456789, "list": [1e-12, (2.5, None)], "inner": {"name": "θ", "good": True}})
    loaded = load_json(path, stage="make-thing")
    assert loaded == {"x": 0.123457, "big": 123456789, "list": [1e-12, [2.5, None]], "inner": {"name": "θ", "good": True}}
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_without_a_meaning_is_not_written(tmp_path, value):
    save_json(tmp_path / "m.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        save_json(tmp_path / "m.json", {"x": [value]})
    assert json.loads((tmp_path / "m.json").read_text()) == {"x": 1}
    assert os.listdir(tmp_path) == ["m.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"x": 1', b"[1]", b"3", b"\xff\xfe"])
def test_json_that_is_no_object_is_refused(tmp_path, content):
    (tmp_path / "m.json").write_bytes(content)
    assert "expected a JSON" in refusal(load_json, tmp_path / "m.json")


def test_missing_json_is_refused(tmp_path):
    assert "found no file" in refusal(load_json, tmp_path / "m.json")
    assert "expected a JSON" in refusal(load_json, tmp_path)
