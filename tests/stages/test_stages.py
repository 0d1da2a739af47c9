"""All stages one after another on a tiny preset, and what they say when something is wrong."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.stages.test_pipeline_end_to_end import write_preset
from wflib.zoo import training

STAGES = ("fetch_data", "train_zoo", "align", "canonicalize", "train_flow", "sample", "evaluate", "report")
ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "zoo": {"widths": [4, 4], "networks": 12, "held_out": 0.25, "epochs": 3, "skip_epochs": 1, "snapshot_every": 5},
    "align": {"restarts": 1},
    "velocity": {"dimension": 8, "edge_dimension": 4, "layers": 1, "heads": 2},
    "training": {"iterations": 6, "batch_size": 8, "validate_every": 3, "checkpoint_every": 2},
    "sample": {"networks": 4, "steps": 2, "guidance": 0.1},
    "evaluate": {"zoo_networks": 6, "barrier_networks": 4, "steps": [1, 2], "guidance": [0.0, 0.1], "curve_networks": 4},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to run stages in: the wdbc preset made tiny, no overrides but the geometry."""
    write_preset(tmp_path, *TINY.items())
    monkeypatch.chdir(tmp_path)
    choose("euclidean")
    return tmp_path


def choose(geometry: str) -> None:
    Path("params.yaml").write_text(f"task: wdbc\nflow:\n  geometry: {geometry}\n")


def run(stage: str, *arguments: str):
    return CliRunner().invoke(importlib.import_module(f"stages.{stage}").app, arguments)


@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
def test_the_whole_pipeline(project, geometry):
    choose(geometry)
    for stage in STAGES:
        result = run(stage)
        assert result.exit_code == 0, f"{stage}: {result.output} {result.exception}"
    details = json.loads(Path("reports/details.json").read_text())
    assert 0 <= details["samples"]["accuracy_mean"] <= 1
    assert details["samples"]["variance_ratio"] > 0
    assert set(details["barrier"]) == {"aligned", "unaligned"}
    page = Path("reports/report.html").read_text()
    assert not re.search(r"""(src|href)=["']https?://""", page)
    assert geometry in page
    assert not Path("checkpoints").exists() or not list(Path("checkpoints").iterdir())


def test_a_zoo_of_posterior_draws_goes_down_the_pipeline_and_a_missing_package_is_one_sentence(project, monkeypatch):
    sampler = "zoo:\n  sampler: sgld\n  learning_rate: 0.001\n"
    Path("params.yaml").write_text(f"task: wdbc\n{sampler}")
    for stage in STAGES:
        result = run(stage)
        assert result.exit_code == 0, f"{stage}: {result.output} {result.exception}"
    made = json.loads(Path("reports/stages/train-zoo.json").read_text())
    assert made["networks"] > made["trajectories"]  # every draw of a chain is a network, which training would have to make
    cost = json.loads(Path("reports/cost.json").read_text())
    assert cost["seconds_per_training"] == pytest.approx(made["seconds"] / made["networks"], rel=1e-5)  # six digits are kept
    for name in [name for name in (*sys.modules, "posteriors") if name.partition(".")[0] == "posteriors"]:
        monkeypatch.setitem(sys.modules, name, None)
    result = run("train_zoo")
    assert result.exit_code == 1
    assert "train-zoo: sgld needs posteriors, which is not installed: pip install 'wflib[bayes]'." in result.output
    assert "stopped by" not in result.output


def test_a_killed_stage_goes_on_and_its_seconds_are_those_of_both_runs(project, monkeypatch):
    assert run("fetch_data").exit_code == 0
    monkeypatch.setattr(training, "CACHED_ELEMENTS", 1)  # one network after another

    class Slow(training.BatchedTrainer):
        def run(self, *given):
            time.sleep(0.05)
            return super().run(*given)

    class Full:
        def __init__(self, *given):
            raise OSError(28, "No space left on device")

    def refuse(*given):
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(training.CompiledTrainer, "can_train", lambda *given: False)
        patched.setattr(training, "BatchedTrainer", Slow)
        patched.setattr(importlib.import_module("stages.train_zoo"), "ZooWriter", Full)
        result = run("train_zoo")
        assert result.exit_code == 1
        assert "No space left" in result.output
    assert len(list(Path("checkpoints").rglob("*.safetensors"))) == 12
    with monkeypatch.context() as patched:
        patched.setattr(training.BatchedTrainer, "run", refuse)
        patched.setattr(training.CompiledTrainer, "run", refuse)
        assert run("train_zoo").exit_code == 0
    assert not list(Path("checkpoints").iterdir())
    assert json.loads(Path("reports/stages/train-zoo.json").read_text())["seconds"] > 12 * 3 * 0.05


def test_wrong_settings_fail_before_work_starts(project):
    choose("round")
    result = run("train_flow")
    assert result.exit_code == 1
    for word in ("flow.geometry", "round", "euclidean", "normalized", "geometric"):
        assert word in result.output
    assert not Path("data").exists()


@pytest.mark.parametrize("stage", ["sample", "evaluate"])
def test_settings_of_another_flow_than_the_one_that_was_trained_are_refused(project, stage):
    for earlier in STAGES[: STAGES.index(stage)]:
        assert run(earlier).exit_code == 0
    choose("geometric")
    result = run(stage)
    assert result.exit_code == 1
    for word in ("data/flow.safetensors", "flow.geometry: geometric (the flow has euclidean)", "train-flow"):
        assert word in result.output
    choose("euclidean")
    assert run(stage).exit_code == 0


def test_missing_and_damaged_artifacts_are_named(project):
    result = run("train_zoo")
    assert result.exit_code == 1
    assert "data/dataset.safetensors" in result.output
    assert "fetch-data" in result.output
    assert run("fetch_data").exit_code == 0
    assert run("train_zoo").exit_code == 0
    zoo = Path("data/zoo/trained.safetensors")
    zoo.write_bytes(zoo.read_bytes()[:-10])
    result = run("align")
    assert result.exit_code == 1
    assert str(zoo) in result.output
    assert "train-zoo" in result.output
    assert not Path("data/zoo/aligned.safetensors").exists()


def test_an_artifact_of_another_form_is_refused(project):
    assert run("fetch_data").exit_code == 0
    assert run("train_zoo").exit_code == 0
    result = run("canonicalize", "--zoo", "data/zoo/trained.safetensors")
    assert result.exit_code == 1
    assert "aligned" in result.output
    assert "trained" in result.output


@pytest.mark.parametrize("stage", STAGES)
def test_help_teaches(stage):
    result = run(stage, "--help")
    assert result.exit_code == 0
    assert len(result.output) > 400
