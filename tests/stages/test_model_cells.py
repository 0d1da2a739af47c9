"""Cells of models: a small zoo, a model, the ceiling, and the page of both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from stages import cell, page
from tests.stages.test_pipeline_end_to_end import run_stages, write_project
from wflib.storage import load_json

SMALL = {"zoo": {"widths": [3], "networks": 60, "held_out": 0.4, "epochs": 2, "skip_epochs": 1, "snapshot_every": 7}}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    write_project(folder, **SMALL, flow={"geometry": "euclidean"})
    run_stages(folder, ("fetch_data", "train_zoo", "align"))
    return folder


def audit(name: str, *arguments: str):
    return CliRunner().invoke(cell.app, ["model", f"cells/{name}", *arguments], catch_exceptions=False)


def page_of(cells: str | Path, out: str | Path):
    return CliRunner().invoke(page.app, ["models", str(cells), str(out)], catch_exceptions=False)


def row_of(name: str) -> dict:
    (row,) = pd.read_csv(f"cells/{name}/rows.csv").to_dict("records")
    return row


def test_models_and_controls_are_measured_alike_and_meet_on_a_page(zoo, tmp_path, monkeypatch):
    shutil.copytree(zoo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for model in ("held-out", "training", "gaussian-full", "memorizer"):
        found = audit(model, "--model", model, "--networks", "24")
        assert found.exit_code == 0, found.output
    cells = {path.name: row_of(path.name) for path in Path("cells").iterdir()}
    assert {cell["networks"] for cell in cells.values()} == {24}
    assert "classifier_auc" not in cells["held-out"]
    assert cells["memorizer"]["nearest_distance_mean"] < 1e-3 < cells["gaussian-full"]["nearest_distance_mean"]
    assert cells["training"]["nearest_distance_mean"] > 1e-3  # its own run does not count
    assert cells["memorizer"]["rejected"].count("closer than held-out") == 1
    done = page_of("cells", "page")
    assert done.exit_code == 0, done.output
    assert "| memorizer |" in Path("page.md").read_text()
    assert len(pd.read_csv("page.csv")) == 4
    before = cells["gaussian-full"]
    assert audit("gaussian-full", "--model", "gaussian-full", "--networks", "24").exit_code == 0
    again = row_of("gaussian-full")
    same = {key: value for key, value in before.items() if not key.endswith("_seconds")}
    assert pd.Series(same).equals(pd.Series({key: again[key] for key in same}))


def test_a_zoo_of_cells_is_measured_as_the_pipelines_own(tmp_path, monkeypatch):
    """As pipelines with settings of their own do: cells make the zoo, say how long it took, and align it."""
    write_project(tmp_path, **SMALL, flow={"geometry": "euclidean"})
    monkeypatch.chdir(tmp_path)
    made, forms = Path("cells/zoo"), Path("cells/aligned")
    data = ["--data", f"{made}/dataset.safetensors"]
    zoo = [*data, "--aligned", f"{forms}/aligned.safetensors", "--zoo-facts", f"{made}/trained.json"]
    for arguments in (
        ["zoo", f"{made}"],
        ["align", f"{forms}", *data, "--trained", f"{made}/trained.safetensors"],
        *(
            ["model", f"cells/{model}", *zoo, "--model", model, "--networks", "24", "--label", "pipeline=peers/dvc.yaml"]
            for model in ("held-out", "memorizer")
        ),
    ):
        found = CliRunner().invoke(cell.app, arguments, catch_exceptions=False)
        assert found.exit_code == 0, found.output
    facts = load_json(made / "trained.json", "cell zoo")
    assert (facts["trajectories"], facts["weights"]) == (60, 101)
    assert row_of("memorizer")["training_seconds"] == pytest.approx(facts["seconds"] / 60)
    assert page_of("cells", "page").exit_code == 0
    text = Path("page.md").read_text()
    assert "Made by `dvc repro peers/dvc.yaml`. Zoo: wdbc, mlp with hidden widths 3, adam for 2 epochs; 36 training" in text
    assert "24 held out. 24 draws of each model and seed." in text
    assert "these copy training networks or are drawn towards them: memorizer." in text


def test_a_flow_is_one_of_the_models(zoo, tmp_path, monkeypatch):
    shutil.copytree(zoo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    found = audit("flow", "--model", "flow", "--networks", "20", "--set", "sample.steps=1")
    assert found.exit_code == 0, found.output
    flow = row_of("flow")
    assert flow["fit_seconds"] > 0
    assert 0 <= flow["classifier_auc"] <= 1
    other = audit("other", "--model", "flow", "--networks", "20", "--seed", "1")
    assert other.exit_code == 0, other.output
    assert row_of("other")["train_nll"] != flow["train_nll"]


def test_a_trained_flow_is_drawn_from_and_its_cost_is_what_training_took(zoo, tmp_path, monkeypatch):
    shutil.copytree(zoo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    run_stages(tmp_path, ("train_flow",))
    facts = load_json("reports/stages/train-flow.json", "train-flow")
    found = audit("drawn", "--model", "flow", "--networks", "20", "--drawn-flow", "data/flow.safetensors")
    assert found.exit_code == 0, found.output
    assert row_of("drawn")["fit_seconds"] == pytest.approx(facts["seconds"])


def test_unknown_models_options_out_of_range_and_empty_folders_are_named(zoo, tmp_path, monkeypatch):
    shutil.copytree(zoo, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    found = audit("a", "--model", "gan")
    assert found.exit_code == 1
    assert "--model: gan: expected one of flow, held-out, training, average" in found.output
    found = audit("a", "--model", "flow", "--networks", "3")
    assert (found.exit_code, "cell model: --networks: " in found.output) == (1, True)
    assert "20, got 3" in found.output
    found = page_of("cells", "page")
    assert found.exit_code == 1
    assert "run the cells first" in found.output
    assert not list(Path().glob("page*"))
