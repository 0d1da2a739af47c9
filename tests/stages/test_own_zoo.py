"""From one's own state dicts to evaluated samples: a zoo that no stage of ours has trained goes through all that follow."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.stages.test_pipeline_end_to_end import run, write_preset
from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.storage import save_json
from wflib.zoo import load_zoo, save_zoo, zoo_from_networks

ARCHITECTURE = mlp([30, 4, 4, 2])
TINY = {
    "align": {"restarts": 1},
    "flow": {"coupling": "independent"},
    "velocity": {"dimension": 8, "edge_dimension": 4, "layers": 1, "heads": 2},
    "training": {"iterations": 4, "batch_size": 8, "validate_every": 2, "checkpoint_every": 2},
    "sample": {"networks": 4, "steps": 2},
    "evaluate": {"zoo_networks": 6, "barrier_networks": 4, "steps": [1], "guidance": [0.0], "curve_networks": 4},
}


def own_networks(count: int) -> Networks:
    """State dicts of PyTorch's default initialization, named as in one's own nn.Sequential."""
    torch.manual_seed(0)
    states = []
    for _ in range(count):
        layers = [torch.nn.Linear(30, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)]
        states.append(torch.nn.Sequential(*layers).state_dict())
    return Networks.from_state_dicts(ARCHITECTURE, states)


@pytest.fixture
def project(tmp_path, monkeypatch):
    write_preset(tmp_path, *TINY.items())
    (tmp_path / "params.yaml").write_text("task: wdbc\n")
    monkeypatch.chdir(tmp_path)
    assert run("fetch_data").exit_code == 0
    return tmp_path


def run_all(*stages: str) -> None:
    for stage in stages:
        result = run(stage)
        assert result.exit_code == 0, f"{stage}: {result.output} {result.exception!r}"


@pytest.mark.parametrize("count", [12, 3])
def test_own_networks_go_through_all_stages(project, count):
    save_zoo("data/zoo/trained.safetensors", zoo_from_networks(own_networks(count)))
    # What a zoo that was trained here said of itself, as in a fresh clone, is not about these networks.
    facts = {"networks": 64000, "trajectories": 16000, "weights": 802, "seconds": 27.0}
    save_json(Path("reports/stages/train-zoo.json"), facts)
    run_all("align", "canonicalize", "train_flow", "sample", "evaluate", "report")
    page = Path("reports/report.md").read_text()
    assert "cost: " not in page  # nobody knows what these networks cost
    assert json.loads(Path("reports/cost.json").read_text()) == {}
    assert "train-zoo" not in page
    assert "64000" not in page
    assert re.search(rf"zoo networks\W+{count}\b", page), page
    details = json.loads(Path("reports/details.json").read_text())
    assert 0 <= details["samples"]["accuracy_mean"] <= 1
    assert details["samples"]["variance_ratio"] > 0
    assert details["held-out"]["accuracy_mean"] >= 0
    assert int(load_zoo("data/zoo/aligned.safetensors", "aligned").held_out.sum()) == 1
    assert load_zoo("data/samples.safetensors", "sampled").weights["linear1.weight"].shape == (4, 4, 30)


def test_the_coupling_that_needs_initial_weights_says_so(project):
    save_zoo("data/zoo/trained.safetensors", zoo_from_networks(own_networks(6)))
    Path("params.yaml").write_text("task: wdbc\nflow:\n  coupling: initialization\n")
    run_all("align")
    result = run("train_flow")
    assert result.exit_code == 1
    assert "flow.coupling: independent" in result.output


def test_two_networks_are_too_few_for_a_spread(project):
    save_zoo("data/zoo/trained.safetensors", zoo_from_networks(own_networks(2)))
    run_all("align", "canonicalize", "train_flow", "sample")
    result = run("evaluate")
    assert result.exit_code == 1
    assert "at least two networks" in result.output


def test_a_zoo_with_nothing_held_out_stops_before_training(project):
    zoo = zoo_from_networks(own_networks(6))
    save_zoo("data/zoo/trained.safetensors", replace(zoo, held_out=torch.zeros(6, dtype=torch.bool)))
    run_all("align")
    result = run("train_flow")
    assert result.exit_code == 1
    assert "found none of 6 networks held out" in result.output
    assert "zoo.held_out" in result.output
