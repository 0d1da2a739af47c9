"""Studies: a cell trains and measures one flow, a table compares cells, widths are drawn from a trained flow."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from stages import study, study_widths
from tests.stages.test_pipeline_end_to_end import STAGES, run_stages, write_project
from wflib.report import study_markdown, study_summary

LABELS = ["--label", "geometry=geometric", "--label", "coupling=ot"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A tiny project with a zoo and a flow."""
    folder = tmp_path_factory.mktemp("study")
    write_project(folder)
    run_stages(folder, STAGES[: STAGES.index("sample")])
    return folder


@pytest.fixture
def invoke(project, monkeypatch):
    monkeypatch.chdir(project)
    return lambda app, *arguments: CliRunner().invoke(app, arguments)


def test_cells_and_their_table(project, invoke):
    for coupling in ("independent", "ot"):
        labels = ["--label", "geometry=geometric", "--label", f"coupling={coupling}"]
        result = invoke(study.app, "cell", f"cells/{coupling}.csv", "--set", f"flow.coupling={coupling}", *labels)
        assert result.exit_code == 0, result.output
    rows = pd.read_csv(project / "cells/ot.csv")
    assert rows[["geometry", "coupling", "steps"]].to_numpy().tolist() == [["geometric", "ot", 1], ["geometric", "ot", 2]]
    assert rows.accuracy_mean.between(0, 1).all()
    assert (rows.variance_ratio > 0).all()
    other = pd.read_csv(project / "cells/independent.csv")
    assert other.validation_loss[0] != rows.validation_loss[0]
    assert other.path_length[0] > rows.path_length[0] > 0
    assert invoke(study.app, "table", "cells", "out/couplings").exit_code == 0
    assert len(pd.read_csv(project / "out/couplings.csv")) == 4
    assert (project / "out/couplings.md").read_text().count("| geometric |") == 2
    assert (project / "out/couplings.svg").read_bytes().startswith(b"<?xml")


def test_another_alignment_feeds_another_flow(project, invoke):
    assert invoke(study.app, "align", "zoos/none", "--set", "align.method=none").exit_code == 0
    places = ["--aligned", "zoos/none/aligned.safetensors", "--canonical", "zoos/none/canonical.safetensors"]
    flat = ["--set", "flow.geometry=euclidean", "--set", "flow.coupling=independent", "--set", "velocity.identities=true"]
    assert invoke(study.app, "cell", "one.csv", *flat, *LABELS).exit_code == 0
    assert invoke(study.app, "cell", "other.csv", *flat, *LABELS, *places).exit_code == 0
    losses = [pd.read_csv(project / name).validation_loss[0] for name in ("one.csv", "other.csv")]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("flow.coupling=magic", "allowed: 'independent'"),
        ("flow.colour=red", "unknown setting"),
        ("coupling=ot", r"expected section\.key=value"),
        ("zoo.seed=1 --data nowhere.safetensors", "nowhere.safetensors"),
        ("zoo.seed=1 --label nothing", "--label: expected name=value, got 'nothing'"),
    ],
)
def test_a_wrong_change_is_one_sentence(project, invoke, change, message):
    result = invoke(study.app, "cell", "wrong.csv", "--set", *change.split(), *LABELS)
    assert result.exit_code == 1
    assert result.output.startswith("study: ")
    assert not (project / "wrong.csv").exists()
    assert re.search(message, result.output)


def test_a_table_without_cells_says_so(project, invoke):
    (project / "empty").mkdir()
    result = invoke(study.app, "table", "empty", "out/empty")
    assert (result.exit_code, "no CSV files" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("nll", "variance", "needed"),
    [
        ([0.5, 0.209, 0.2, 0.2], [1.0, 1.0, 1.0, 1.0], 4),
        ([0.5, 0.22, 0.2, 0.2], [1.0, 1.0, 1.0, 1.0], 16),
        ([0.1, 0.2, 0.2, 0.2], [0.2, 0.7, 0.98, 1.02], 16),  # a low NLL of samples without spread is not enough
        ([0.2, 0.2, 0.3, 0.2], [1.0, 1.0, 1.0, 1.0], 64),  # nor is being near by chance
        ([0.2, 0.2, 0.2, 0.2], [1.5, 1.2, 1.1, 1.0], 64),
    ],
)
def test_steps_needed_have_the_nll_and_the_variance_of_many(nll, variance, needed):
    rows = pd.DataFrame({"steps": [1, 4, 16, 64], "nll_mean": nll, "variance_ratio": variance}).iloc[::-1]
    measures = {"accuracy_mean": 0.9, "accuracy_std": 0, "nll_std": 0, "validation_loss": 1.0, "training_seconds": 1.0}
    summary = study_summary(rows.assign(flow="a", path_length=7.25, **measures))
    assert summary.steps_needed.tolist() == [needed]
    assert "| a |" in study_markdown(summary)
    assert "7.2" in study_markdown(summary)


def test_widths_are_drawn_from_one_flow(project, invoke):
    result = invoke(study_widths.app, "widths.csv", "--width", "4", "--width", "9", "--networks", "3", "--steps", "2")
    assert result.exit_code == 0, result.output
    assert pd.read_csv(project / "widths.csv").width.tolist() == [4, 9]
    missing = invoke(study_widths.app, "none.csv", "--width", "4", "--flow", "nowhere.safetensors")
    assert (missing.exit_code, "nowhere.safetensors" in missing.output) == (1, True)
