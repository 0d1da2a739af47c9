"""Cells of the audit: a small zoo, a model, the ceiling, and the page of both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from stages.audit import app
from tests.stages.test_pipeline_end_to_end import run_stages, write_project

SMALL = {"zoo": {"widths": [3], "networks": 60, "held_out": 0.4, "epochs": 2, "skip_epochs": 1, "snapshot_every": 7}}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    write_project(folder, **SMALL, flow={"geometry": "euclidean"})
    run_stages(folder, ("fetch_data", "train_zoo", "align"))
    return folder


def audit(folder: Path, *arguments: str):
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_models_and_controls_are_measured_alike_and_meet_on_a_page(zoo, tmp_path, monkeypatch):
    shutil.copytree(zoo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for model in ("held-out", "training", "gaussian-full", "memorizer"):
        found = audit(tmp_path, "cell", f"cells/{model}.json", "--model", model, "--networks", "24")
        assert found.exit_code == 0, found.output
    cells = {path.stem: json.loads(path.read_text()) for path in Path("cells").glob("*.json")}
    assert {cell["networks"] for cell in cells.values()} == {24}
    assert "classifier_auc" not in cells["held-out"]
    assert cells["memorizer"]["nearest_distance_mean"] < 1e-3 < cells["gaussian-full"]["nearest_distance_mean"]
    assert cells["training"]["nearest_distance_mean"] > 1e-3  # its own run does not count
    assert cells["memorizer"]["rejected"].count("closer than held-out") == 1
    done = audit(tmp_path, "page", "cells", "page")
    assert done.exit_code == 0, done.output
    assert "| memorizer |" in Path("page.md").read_text()
    assert len(pd.read_csv("page.csv")) == 4
    before = Path("cells/gaussian-full.json").read_text()
    assert audit(tmp_path, "cell", "cells/gaussian-full.json", "--model", "gaussian-full", "--networks", "24").exit_code == 0
    again = json.loads(Path("cells/gaussian-full.json").read_text())
    same = {key: value for key, value in json.loads(before).items() if not key.endswith("_seconds")}
    assert {key: again[key] for key in same} == same


def test_a_flow_is_one_of_the_models(zoo, tmp_path, monkeypatch):
    shutil.copytree(zoo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    found = audit(tmp_path, "cell", "cells/flow.json", "--model", "flow", "--networks", "20", "--set", "sample.steps=1")
    assert found.exit_code == 0, found.output
    flow = json.loads(Path("cells/flow.json").read_text())
    assert flow["fit_seconds"] > 0
    assert 0 <= flow["classifier_auc"] <= 1
    other = audit(tmp_path, "cell", "cells/other.json", "--model", "flow", "--networks", "20", "--seed", "1")
    assert other.exit_code == 0, other.output
    assert json.loads(Path("cells/other.json").read_text())["train_nll"] != flow["train_nll"]


def test_unknown_models_and_empty_folders_are_named(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(zoo)
    found = audit(zoo, "cell", str(tmp_path / "a.json"), "--model", "gan")
    assert found.exit_code == 1
    assert "--model: gan: expected one of flow, held-out, training, average" in found.output
    found = audit(zoo, "page", str(tmp_path), str(tmp_path / "page"))
    assert found.exit_code == 1
    assert "no JSON files" in found.output
    assert not list(tmp_path.iterdir())
