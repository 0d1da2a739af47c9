"""Tasks without classes go through all stages: the toy of two Gaussians, and a regression."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.stages.test_pipeline_end_to_end import ROOT, STAGES, TINY, run_stages
from wflib.config import load_settings
from wflib.zoo import load_zoo

SMALL = {section: values for section, values in TINY.items() if section != "flow"}


@pytest.fixture(params=["gaussian", "diabetes"])
def project(request, tmp_path, monkeypatch) -> Path:
    """A folder with the task's preset made tiny, after all stages."""
    preset = YAML(typ="safe").load((ROOT / f"stages/presets/{request.param}.yaml").read_text())
    for section, values in SMALL.items():
        preset[section] |= values
    preset["evaluate"]["models"] = ["average", "gaussian-diagonal"]
    (tmp_path / "stages/presets").mkdir(parents=True)
    with (tmp_path / f"stages/presets/{request.param}.yaml").open("w") as file:
        YAML().dump(preset, file)
    (tmp_path / "params.yaml").write_text(f"task: {request.param}\n")
    monkeypatch.chdir(tmp_path)
    run_stages(tmp_path, STAGES)
    return tmp_path


def test_all_stages_compare_weights_alone(project):
    metrics = json.loads(Path("reports/metrics.json").read_text())
    assert metrics["samples"]["variance_ratio"] > 0
    assert not [name for name in metrics["samples"] if "accuracy" in name]
    task = load_settings().task
    lacking = {"gaussian": "has no examples", "diabetes": "has no classes"}[task]
    assert f"the task {task} {lacking}" in Path("reports/report.md").read_text()
    assert "Needs examples" in Path("reports/figures/quality.svg").read_text()
    zoo = load_zoo("data/zoo/trained.safetensors", "trained")
    if task == "gaussian":
        assert zoo.architecture.inputs == (30,)
        assert abs(zoo.networks.flat.mean().item() - 1) < 0.05
        assert abs(zoo.initial.flat.mean().item()) < 0.05
        assert abs(zoo.networks.flat.std().item() - 1) < 0.05
    else:
        assert zoo.architecture.task_type == "regression"


def test_drawn_networks_are_of_one_task_only(tmp_path):
    (tmp_path / "params.yaml").write_text("task: wdbc\n")
    with pytest.raises(ValueError, match=r"task: wdbc and zoo\.sampler: gaussian"):
        load_settings(tmp_path / "params.yaml", ROOT / "stages/presets", ["zoo.sampler=gaussian"])
