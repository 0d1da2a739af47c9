"""Two processes make what one makes; without putting their shares together they would not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from stages import train_zoo
from tests.stages.test_pipeline_end_to_end import STAGES, run, run_stages, write_project
from wflib.zoo import alignment, training

ROOT = Path(__file__).resolve().parents[2]
SHARED = ("train_zoo", "align", "sample", "evaluate")
PROGRAM = """
import contextlib
import importlib
import sys
import wflib.distributed as distributed
import wflib.flow.sampling as sampling
import wflib.zoo.alignment as alignment
alignment.CHUNK = 5  # trajectories, so that each process has some
with distributed.process_group():  # one for all stages, as starting processes takes longer than they do
    for stage in sys.argv[1:]:
        module = importlib.import_module(f"stages.{stage}")
        module.process_group = contextlib.nullcontext
        module.app([], standalone_mode=False)
        distributed.wait_for_all()  # for the files that the first one writes
    sampling.put_together = lambda values: values
    module = importlib.import_module("stages.sample")
    module.app(["--out", "apart", "--networks", "apart.pt"], standalone_mode=False)
"""
SMALL = {
    "align": {"restarts": 2},
    "zoo": {"widths": [4, 4], "networks": 12, "held_out": 0.25, "epochs": 3, "skip_epochs": 1, "snapshot_every": 5},
    "evaluate": {"zoo_networks": 6, "barrier_networks": 4, "steps": [1], "guidance": [0.0], "curve_networks": 4,
                 "models": ["gaussian-diagonal", "average"]},
}  # fmt: skip


def together(project: Path, *stages: str) -> subprocess.CompletedProcess[str]:
    """Stages on two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(project.parent / "program.py"), *stages]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> dict[str, Path]:
    """The same project by one process, and with the shared stages by two, each from what one process has made before."""
    root = tmp_path_factory.mktemp("processes")
    (root / "program.py").write_text(PROGRAM)
    write_project(root / "one", **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "CHUNK", 5)
        run_stages(root / "one", STAGES[:-1])
    shutil.copytree(root / "one", root / "two")
    done = together(root / "two", *SHARED)
    assert done.returncode == 0, done.stderr
    return {name: root / name for name in ("one", "two")}


@pytest.mark.parametrize("file", ["zoo/trained", "zoo/aligned", "samples", "networks"])
def test_two_processes_make_the_files_of_one(projects, file):
    one, two = (load_file(projects[name] / f"data/{file}.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        if file == "zoo/aligned" or not tensor.is_floating_point():
            assert torch.equal(tensor, two[name])
        else:
            assert torch.allclose(tensor, two[name], rtol=0, atol=1e-6)


def test_two_processes_measure_what_one_measures(projects):
    for path in sorted((projects["one"] / "data/evaluation").glob("*.parquet")):
        theirs = pd.read_parquet(projects["two"] / "data/evaluation" / path.name)
        pd.testing.assert_frame_equal(pd.read_parquet(path), theirs, rtol=1e-4, atol=1e-5)
    one, two = (json.loads((projects[name] / "reports/metrics.json").read_text()) for name in ("one", "two"))
    assert {name: set(values) for name, values in one.items()} == {name: set(values) for name, values in two.items()}


def test_shares_that_are_not_put_together_are_not_enough(projects):
    """The negative control: each process has drawn but its own networks."""
    one, apart = (load_file(path) for path in (projects["one"] / "data/samples.safetensors", projects["two"] / "apart"))
    assert not all(torch.allclose(one[name], apart[name], atol=1e-3) for name in one)


def test_other_peoples_networks_are_read_by_one_process(projects, monkeypatch):
    monkeypatch.setattr(train_zoo, "world_size", lambda: 2)
    monkeypatch.chdir(projects["one"])
    done = run("train_zoo", "--source", "data/zoo/aligned.safetensors", "--out", "read")
    assert done.exit_code == 1
    assert "is read by one process; start train-zoo without torchrun" in done.output
    assert not Path("read").exists()


def test_chains_run_in_one_process(projects, monkeypatch):
    monkeypatch.setattr(training, "world_size", lambda: 2)
    monkeypatch.chdir(projects["one"])
    preset = Path("stages/presets/wdbc.yaml")
    text = preset.read_text()
    preset.write_text(text.replace("sampler: optimizer", "sampler: sgld"))
    done = run("train_zoo", "--out", "chains")
    preset.write_text(text)
    assert done.exit_code == 1
    assert "zoo.sampler: sgld runs its chains in one process" in done.output
