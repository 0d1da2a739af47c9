"""The geometric pipeline from data to report in a temporary folder; what fails, fails early and writes nothing."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from typer.testing import CliRunner

from wflib.flow import distill, load_flow, sample
from wflib.models import LEARNING_RATES
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.tasks import load_dataset
from wflib.zoo import load_zoo

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("fetch_data", "train_zoo", "align", "canonicalize", "train_flow", "sample", "evaluate", "report")
TINY = {
    "zoo": {"widths": [4, 4], "networks": 12, "held_out": 0.25, "epochs": 3, "skip_epochs": 1, "snapshot_every": 5},
    "align": {"restarts": 1},
    "flow": {"geometry": "geometric"},
    "velocity": {"dimension": 8, "edge_dimension": 4, "layers": 1, "heads": 2},
    "training": {"iterations": 6, "batch_size": 8, "validate_every": 3, "checkpoint_every": 2},
    "sample": {"networks": 4, "steps": 2},
    "evaluate": {"zoo_networks": 6, "barrier_networks": 4, "steps": [1, 2], "guidance": [0.0], "curve_networks": 4},
}
OUTPUTS = (
    "data/dataset.safetensors",
    "data/zoo/trained.safetensors",
    "data/zoo/aligned.safetensors",
    "data/zoo/canonical.safetensors",
    "data/flow.safetensors",
    "data/samples.safetensors",
    "data/networks.safetensors",
    "data/evaluation/networks.parquet",
    "data/evaluation/groups.parquet",
    "data/evaluation/moments.parquet",
    "data/evaluation/barriers.parquet",
    "data/evaluation/curve.parquet",
    "data/evaluation/parts.parquet",
    "reports/history.csv",
    "reports/metrics.json",
    "reports/details.json",
    "reports/cost.json",
    "reports/report.md",
    "reports/report.html",
    "reports/figures/quality.svg",
    "reports/stages/report.json",
)
FIRST_INPUT = {
    "train_zoo": ("data/dataset.safetensors", "fetch-data"),
    "align": ("data/zoo/trained.safetensors", "train-zoo"),
    "canonicalize": ("data/zoo/aligned.safetensors", "align"),
    "train_flow": ("data/zoo/canonical.safetensors", "canonicalize"),
    "sample": ("data/flow.safetensors", "train-flow"),
    "evaluate": ("data/samples.safetensors", "sample"),
    "report": ("data/evaluation/groups.parquet", "evaluate"),
}


def write_project(folder: Path, **changes: dict[str, object]) -> None:
    """The wdbc preset made tiny, with changes of its sections."""
    write_preset(folder, *TINY.items(), *changes.items())
    (folder / "params.yaml").write_text("task: wdbc\n")


def write_preset(folder: Path, *changes: tuple[str, dict[str, object]]) -> None:
    """The wdbc preset with changes of its sections, and no geometry or coupling that trains longer."""
    (folder / "stages/presets").mkdir(parents=True)
    preset = YAML(typ="safe").load((ROOT / "stages/presets/wdbc.yaml").read_text())
    preset["geometries"] = {}
    for section in preset.values():
        section.pop("by_coupling", None)
    for section, values in changes:
        preset[section] |= values
    with (folder / "stages/presets/wdbc.yaml").open("w") as file:
        YAML().dump(preset, file)


def run(stage: str, *arguments: str):
    return CliRunner().invoke(importlib.import_module(f"stages.{stage}").app, arguments)


def run_stages(folder: Path, stages: Sequence[str]) -> None:
    """Run stages one after another in a folder; each must end well."""
    with contextlib.chdir(folder):
        for stage in stages:
            result = run(stage)
            assert result.exit_code == 0, f"{stage}: {result.output} {result.exception}"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict[str, bytes]:
    """Every file after all eight stages have run once."""
    folder = tmp_path_factory.mktemp("finished")
    write_project(folder)
    run_stages(folder, STAGES)
    return contents(folder)


@pytest.fixture
def copy(finished, tmp_path, monkeypatch) -> Path:
    """A fresh copy of the finished folder to damage, which is the working directory."""
    for name, content in finished.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("stage", ["align", "train_flow", "evaluate"])
def test_data_of_another_split_than_the_zoos_are_refused(stage, copy):
    """Their training part has what was the test part of the zoo's, or the other way round."""
    preset = copy / "stages/presets/wdbc.yaml"
    preset.write_text(re.sub(r"split: 42\b", "split: 1", preset.read_text()))
    assert run("fetch_data").exit_code == 0
    before = contents(copy)
    found = run(stage)
    assert found.exit_code == 1
    assert "trained on other examples than the training part of the data" in found.output
    assert contents(copy) == before


def test_outputs_exist_and_belong_together(finished, copy):
    assert set(OUTPUTS) <= set(finished)
    assert not [name for name in finished if name.startswith("checkpoints")]
    details = json.loads(finished["reports/details.json"])
    assert 0 <= details["samples"]["accuracy_mean"] <= 1
    assert {"zoo", "held-out"} <= set(details)
    metrics = json.loads(finished["reports/metrics.json"])
    assert metrics["samples"]["test_accuracy"] == pytest.approx(details["samples"]["accuracy_mean"])
    assert set(metrics) == {"samples", "held-out"}  # too few trajectories for an audit
    flow = load_flow("data/flow.safetensors")
    samples = load_zoo("data/samples.safetensors", "sampled")
    assert flow.config.geometry == "geometric"
    networks = Networks.load("data/networks.safetensors")
    assert len(samples) == len(networks) == 4
    assert networks.metadata["task"] == samples.metadata["task"]
    torch.testing.assert_close(networks.weights, flow.coordinates.decode(flow.coordinates.encode(samples.networks)).weights)
    x = flow.coordinates.encode(samples.networks)
    assert (flow.geometry.manifold.projx(x) - x).abs().max() < 1e-5


def test_the_report_opens_offline(finished):
    page = finished["reports/report.html"].decode()
    resource = re.compile(
        r"""(?:\bsrc|<link[^>]*\bhref|<image[^>]*\bhref)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?https?:|@import"""
    )
    assert not resource.search(page)
    assert resource.search('<script src="https://example.org/x.js">')
    assert "geometric" in page
    assert "samples: not audited" in page  # three trajectories held out are too few


def test_the_same_settings_give_the_same_samples(finished, copy):
    for stage in ("train_flow", "sample"):
        assert run(stage).exit_code == 0
    assert Path("data/samples.safetensors").read_bytes() == finished["data/samples.safetensors"]
    Path("params.yaml").write_text("task: wdbc\nsample:\n  seed: 1\n")
    assert run("sample").exit_code == 0
    assert Path("data/samples.safetensors").read_bytes() != finished["data/samples.safetensors"]


def test_another_model_is_drawn_from_evaluated_and_reported_alike(finished, copy):
    Path("params.yaml").write_text(
        "task: wdbc\nsample: {from: gaussian-full, polish_steps: 0}\nmodels: {few-steps: {steps: 2}}\n"
    )
    for stage in ("sample", "evaluate", "report"):
        result = run(stage)
        assert result.exit_code == 0, f"{stage}: {result.output}"
    samples = load_zoo("data/samples.safetensors", "sampled")
    assert samples.metadata["model"] == "gaussian-full"
    assert Path("data/samples.safetensors").read_bytes() != finished["data/samples.safetensors"]
    rows = samples.networks.weights["linear1.weight"], samples.networks.weights["linear1.bias"][..., None]
    torch.testing.assert_close(torch.cat(rows, -1).norm(dim=-1), torch.ones(4, 4))
    report = Path("reports/report.md").read_text()
    assert "# Networks from full Gaussian: wdbc, geometric" in report
    assert "samples: no simpler model" in report or "samples: beaten in loss" in report
    assert "cost: drawing a network takes" in report
    assert "Networks from a flow" in finished["reports/report.md"].decode()


def test_a_student_is_distilled_kept_in_the_flows_file_and_drawn_from(finished, copy, monkeypatch):
    Path("params.yaml").write_text(
        "task: wdbc\ntraining: {distillation_iterations: 2}\nsample: {solver: euler, jumps: 2, polish_steps: 0}\n"
    )
    result = run("sample")
    assert (result.exit_code, "set training.distillation_iterations above 0 and rerun" in result.output) == (1, True)
    monkeypatch.setattr("stages.train_flow.distill", partial(distill, trajectories=8))
    for stage in ("train_flow", "sample", "evaluate"):
        result = run(stage)
        assert result.exit_code == 0, f"{stage}: {result.output} {result.exception}"
    student, flow = load_flow("data/flow.safetensors", jumps=True), load_flow("data/flow.safetensors")
    (copy / "plain.safetensors").write_bytes(finished["data/flow.safetensors"])
    plain = load_flow("plain.safetensors").state_dict()
    assert all(torch.equal(flow.state_dict()[name], tensor) for name, tensor in plain.items())  # training is as before
    samples = load_zoo("data/samples.safetensors", "sampled")
    assert samples.metadata["steps"] == 2
    student.precision = "bfloat16"  # as the preset draws
    x = sample(student, 4, 2, generator(0, "sample", "prior"))
    torch.testing.assert_close(samples.weights, student.coordinates.decode_state(x).weights)


@pytest.mark.parametrize("source", ["flow", "gaussian-full"])
def test_networks_of_every_model_are_polished_alike(finished, copy, source):
    train, found = load_dataset("data/dataset.safetensors").train, {}
    for steps in (0, 5):
        given = f"{{from: {source}, polish_steps: {steps}, polish_learning_rate: auto}}"
        Path("params.yaml").write_text(f"task: wdbc\nsample: {given}\n")
        result = run("sample")
        assert result.exit_code == 0, f"{result.output} {result.exception}"
        found[steps] = load_zoo("data/samples.safetensors", "sampled"), Networks.load("data/networks.safetensors")
        facts = json.loads(Path("reports/stages/sample.json").read_text())
        assert ("polish_seconds" in facts, "polish_steps" in found[steps][0].metadata) == (steps > 0, steps > 0)
    assert facts["polish_learning_rate"] in LEARNING_RATES
    assert facts["polish_learning_rate"] == found[5][1].metadata["polish_learning_rate"]
    assert bool((network_losses(found[5][1], train) < network_losses(found[0][1], train)).all())
    torch.testing.assert_close(network_losses(found[5][0].networks, train), network_losses(found[5][1], train))
    for stage in ("evaluate", "report"):
        assert run(stage).exit_code == 0
    name = "a flow" if source == "flow" else "full Gaussian"
    assert f"# Networks from {name} and 5 steps of training: wdbc" in Path("reports/report.md").read_text()


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "canonicalize"])
def test_a_wrong_geometry_fails_in_every_stage_with_settings(copy, stage):
    Path("params.yaml").write_text("task: wdbc\nflow:\n  geometry: spherical\n")
    before = contents(copy)
    result = run(stage)
    assert result.exit_code != 0
    for word in ("flow.geometry", "spherical", "euclidean", "normalized", "geometric"):
        assert word in result.output
    assert contents(copy) == before


@pytest.mark.parametrize("damage", ["missing", "truncated"])
@pytest.mark.parametrize("stage", FIRST_INPUT)
def test_a_damaged_input_fails_with_its_name_and_stage(copy, stage, damage):
    name, maker = FIRST_INPUT[stage]
    path = Path(name)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = contents(copy)
    result = run(stage)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), repr(result.exception)  # a sentence, not a traceback
    assert name in result.output
    assert maker in result.output
    assert contents(copy) == before
