"""Two processes end where one does; without averaged gradients they would not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.stages.test_pipeline_end_to_end import STAGES, run_stages, write_project
from wflib.flow import load_flow

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_AVERAGING = """
import wflib.flow.training as training
training.average_gradients = lambda parameters: None
from stages.train_flow import app
app()
"""


LOSS, OPTIMIZER = "standardized", "adamw"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A tiny project up to the canonical zoo, in float32."""
    folder = tmp_path_factory.mktemp("project")
    exact = {"precision": "float32", "warmup": 0, "learning_rate": 1e-3, "loss": LOSS, "optimizer": OPTIMIZER}
    write_project(folder, training=exact)
    run_stages(folder, STAGES[: STAGES.index("train_flow")])
    (folder / "without_averaging.py").write_text(WITHOUT_AVERAGING)
    return folder


@contextmanager
def changed(project: Path, old: str, new: str) -> Iterator[None]:
    """The project with another line in its preset, for a while."""
    preset = project / "stages/presets/wdbc.yaml"
    text = preset.read_text()
    assert old in text
    preset.write_text(text.replace(old, new))
    try:
        yield
    finally:
        preset.write_text(text)


def train(
    project: Path, processes: int, *program: str, torchrun: bool = True
) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    """Run train-flow and return its parameters and history."""
    name = f"{processes}-{len(program)}-{program[-1]}-{torchrun}"
    command = [*program, "--out", f"{name}.safetensors", "--history", f"{name}.csv", "--checkpoints", f"{name}.checkpoints"]
    if processes > 1 and not torchrun:
        command += ["--processes", str(processes)]
    elif processes > 1:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    flow = load_flow(project / f"{name}.safetensors")
    return flow.network.state_dict(), pd.read_csv(project / f"{name}.csv")


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    ("loss", "optimizer", "torchrun"), [("standardized", "adamw", True), ("gauss-newton", "muon", False)]
)
def test_two_processes_end_in_the_parameters_of_one(project, loss, optimizer, torchrun):
    with (
        changed(project, f"loss: {LOSS}", f"loss: {loss}"),
        changed(project, f"optimizer: {OPTIMIZER}", f"optimizer: {optimizer}"),
    ):
        alone, history = train(project, 1, "-m", "stages.train_flow")
        together, shared = train(project, 2, "-m", "stages.train_flow", torchrun=torchrun)
        apart, _ = train(project, 2, "without_averaging.py")
    assert largest_difference(alone, together) < 1e-5
    assert (history.loss - shared.loss).abs().max() < 1e-5
    assert (history.validation_loss - shared.validation_loss).abs().max() < 1e-5
    assert largest_difference(alone, apart) > 1e-3
    assert json.loads((project / "reports/stages/train-flow.json").read_text())["iterations"] == 6


def test_a_command_takes_no_more_processes_than_divide_its_batch(project):
    with changed(project, "batch_size: 8", "batch_size: 7"):
        train(project, 2, "-m", "stages.train_flow", torchrun=False)


def test_a_batch_that_cannot_be_shared_is_an_error(project):
    with (
        changed(project, "batch_size: 8", "batch_size: 7"),
        pytest.raises(AssertionError, match=r"training\.batch_size: 7 cannot be split over 2 processes"),
    ):
        train(project, 2, "-m", "stages.train_flow")
