"""Cells of what a trained flow can do, on a tiny zoo: samplers, distillation, polishing, likelihood, condition."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from stages import cell, page
from tests.stages.test_pipeline_end_to_end import STAGES, run, run_stages, write_project
from wflib.flow import load_flow

FLOWS = {
    "flat": ["flow.geometry=euclidean", "flow.coupling=initialization"],
    "independent": ["flow.geometry=euclidean", "flow.coupling=independent"],
    "normalized": ["flow.geometry=normalized"],
    "conditioned": ["flow.geometry=geometric", "flow.condition=loss"],
}
FLAT, INDEPENDENT, NORMALIZED, CONDITIONED = (f"flows/{name}/flow.safetensors" for name in FLOWS)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A tiny project with a zoo, the pipeline's geometric flow, and a few others."""
    folder = tmp_path_factory.mktemp("abilities")
    write_project(folder)
    run_stages(folder, STAGES[: STAGES.index("sample")])
    with contextlib.chdir(folder):
        for name, changes in FLOWS.items():
            settings = [word for change in changes for word in ("--set", change)]
            result = run("cell", "flow", f"flows/{name}", *settings)
            assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def study(project, monkeypatch):
    """(name, arguments) → the result of a cell in ``cells/<name>``."""
    monkeypatch.chdir(project)

    def invoke(name: str, *arguments: str):
        return CliRunner().invoke(cell.app, [name, f"cells/{name}", *arguments])

    return invoke


def written(result, name: str) -> tuple[pd.DataFrame, str]:
    """Rows of a cell that went well, and the text of its page."""
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    made = CliRunner().invoke(page.app, [name, f"cells/{name}", f"out/{name}"])
    assert made.exit_code == 0, f"{made.output} {made.exception}"
    assert Path(f"out/{name}.svg").read_bytes().startswith(b"<?xml")
    rows = pd.read_csv(f"out/{name}.csv")
    pd.testing.assert_frame_equal(rows, pd.read_csv(f"cells/{name}/rows.csv"))
    return rows, Path(f"out/{name}.md").read_text()


def test_samplers_of_a_curved_flow_say_why_there_is_no_diffusion(study):
    rows, text = written(study("samplers", "--networks", "3"), "samplers")
    assert set(rows[rows.kind == "solver"].sampler) == {"euler", "multistep", "heun", "rk4"}
    assert rows[rows.kind == "diffusion"].nll_mean.isna().all()
    assert "diffusion: impossible, see below" in text
    assert "No diffusion for flow: sample.diffusion: on geodesics" in text
    guided = rows[rows.sampler == "guided at x_t, constant"]
    assert guided.strength.is_monotonic_increasing
    assert guided.nll_mean.is_monotonic_decreasing


def test_samplers_count_evaluations_and_take_the_diffusion_from_an_independent_flow(study):
    options = ["--flow", FLAT, "--independent", INDEPENDENT, "--networks", "3"]
    rows, text = written(study("samplers", *options), "samplers")
    fixed = rows[rows.sampler.isin(["euler", "multistep", "heun", "rk4"])]
    assert (fixed.evaluations == fixed.steps * fixed.sampler.map({"euler": 1, "multistep": 1, "heun": 2, "rk4": 4})).all()
    assert (rows[rows.sampler == "dopri5"].evaluations > 6).all()
    assert (rows[rows.sampler.str.startswith("guided at end")].evaluations == 64).all()
    diffusions = rows[(rows.kind == "diffusion") & rows.nll_mean.notna()]
    assert diffusions.flow.tolist() == ["independent", "independent"]
    assert "No diffusion for flow: sample.diffusion: with flow.coupling: initialization" in text
    assert text.count("No diffusion for") == 1


def test_distillation_writes_a_student(study):
    arguments = ["--trajectories", "8", "--iterations", "3", "--networks", "3"]
    rows, text = written(study("distillation", *arguments), "distillation")
    assert rows[rows.flow == "distilled flow"].steps.tolist() == [1, 2, 4]
    assert rows[rows.steps == 64].error.tolist() == [0]
    assert (rows[rows.steps < 64].error > 0).all()
    assert load_flow("cells/distillation/student.safetensors").jumps
    assert "the most steps of the trained flow" in text
    Path("cells/distillation/student.safetensors").rename("kept.safetensors")
    again = study("distillation", "--flow", "kept.safetensors")
    assert (again.exit_code, "was not distilled before" in again.output) == (1, True)


@pytest.mark.parametrize("flow", ["data/flow.safetensors", FLAT])
def test_polishing_counts_the_drawing_and_lowers_the_loss_from_either_start(study, flow):
    arguments = ["--flow", flow, "--networks", "3", "--steps", "2", "--examples", "50"]
    rows, text = written(study("polish", *arguments), "polish")
    assert rows.start.unique().tolist() == ["flow", "prior"]
    for _, part in rows.groupby("start"):
        assert part.steps.tolist() == [0, 1, 2, 5, 10, 20, 50, 100]
        assert part.learning_rate.notna().tolist() == [False] + 7 * [True]
        assert part.train_nll.iloc[-1] < part.train_nll.iloc[3] < part.train_nll.iloc[0]
        assert part.seconds.iloc[-1] > part.seconds.iloc[0] > 0
        assert part.variance_ratio.gt(0).all()
    assert rows.notna().drop(columns="learning_rate").all().all()
    assert "| steps from the flow |" in text
    assert "Draws from the flow (2 Euler steps) and from its prior" in text
    again, _ = written(study("polish", *arguments), "polish")
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), rows.drop(columns="seconds"))


@pytest.mark.parametrize("flow", ["data/flow.safetensors", FLAT])
def test_likelihood_of_every_group(study, flow):
    rows, text = written(study("likelihood", "--flow", flow, "--networks", "4", "--steps", "2"), "likelihood")
    assert rows.groupby("networks", sort=False).size().tolist() == [4] * 7
    assert rows.log_likelihood.notna().all()
    assert "| held-out trajectories | 4 |" in text
    assert "| held-out + 50% noise | 4 |" in text


def test_a_flow_without_density_says_so(study):
    result = study("likelihood", "--flow", NORMALIZED, "--networks", "4")
    assert result.exit_code == 1
    assert "it has no density there" in result.output


def test_condition_asks_over_the_range_of_the_zoo(study):
    arguments = ["--flow", CONDITIONED, "--networks", "20", "--steps", "2"]
    rows, text = written(study("condition", *arguments), "condition")
    assert rows.groupby("strength").size().tolist() == [20, 20, 20]
    asked = rows[rows.strength == 1].asked
    assert asked.is_monotonic_increasing
    assert asked.iloc[0] > 0
    assert "| strength | rank correlation | rank correlation test |" in text
    assert "the loss on training examples" in text


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("condition", ["--flow", FLAT], "step is not measured on examples; choose loss or accuracy"),
        ("samplers", ["--flow", "nowhere.safetensors"], "nowhere.safetensors"),
        ("samplers", ["--independent", "nowhere.safetensors"], "nowhere.safetensors"),
        ("polish", ["--data", "data/flow.safetensors"], "data/flow.safetensors"),
        ("likelihood", ["--flow", "data/dataset.safetensors"], "data/dataset.safetensors"),
        ("distillation", ["--data", "data/flow.safetensors"], "data/flow.safetensors"),
    ],
)
def test_what_cannot_be_studied_is_one_sentence(study, name, arguments, message):
    result = study(name, *arguments)
    assert result.exit_code == 1
    assert re.search(rf"^cell {name}: .*{re.escape(message)}", result.output, re.MULTILINE)


@pytest.mark.parametrize("name", ["samplers", "distillation", "polish", "likelihood", "condition"])
def test_help_teaches(study, name):
    result = study(name, "--help")
    assert result.exit_code == 0
    assert "--flow" in result.output
    assert len(result.output) > 700


def test_a_flow_can_be_asked_for_accuracy(study, project):
    settings = ["--set", "flow.condition=accuracy", "--set", "flow.geometry=euclidean"]
    assert run("cell", "flow", "flows/accuracy", *settings).exit_code == 0
    arguments = ["--flow", "flows/accuracy/flow.safetensors", "--networks", "10", "--steps", "1"]
    rows, text = written(study("condition", *arguments), "condition")
    assert rows.asked.between(0, 1).all()
    assert "the accuracy on training examples" in text
