"""Cells of flows: each trains and measures one, a page compares them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from stages import cell, page
from tests.stages.test_pipeline_end_to_end import STAGES, run_stages, write_project
from wflib.flow import load_flow
from wflib.report import study_markdown, study_summary

LABELS = ["--label", "geometry=geometric", "--label", "coupling=ot"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A tiny project with a zoo."""
    folder = tmp_path_factory.mktemp("flows")
    write_project(folder)
    run_stages(folder, STAGES[: STAGES.index("train_flow")])
    return folder


@pytest.fixture
def invoke(project, monkeypatch):
    monkeypatch.chdir(project)
    return lambda app, *arguments: CliRunner().invoke(app, arguments)


def test_cells_and_their_page(project, invoke):
    for coupling in ("independent", "ot"):
        labels = ["--label", "geometry=geometric", "--label", f"coupling={coupling}"]
        result = invoke(cell.app, "flow", f"cells/{coupling}", "--set", f"flow.coupling={coupling}", *labels)
        assert result.exit_code == 0, f"{result.output} {result.exception}"
    rows = pd.read_csv(project / "cells/ot/rows.csv")
    assert rows[["geometry", "coupling", "steps"]].to_numpy().tolist() == [["geometric", "ot", 1], ["geometric", "ot", 2]]
    assert rows.accuracy_mean.between(0, 1).all()
    assert (rows.variance_ratio > 0).all()
    other = pd.read_csv(project / "cells/independent/rows.csv")
    assert other.validation_loss[0] != rows.validation_loss[0]
    assert other.path_length[0] > rows.path_length[0] > 0
    facts = json.loads((project / "cells/ot/cell.json").read_text())
    assert (facts["measurement"], facts["labels"]["coupling"], facts["tables"]) == ("flow", "ot", ["rows"])
    assert facts["settings"]["flow"]["coupling"] == "ot"
    assert load_flow(project / "cells/ot/flow.safetensors").config.coupling == "ot"
    assert invoke(page.app, "flows", "cells", "out/couplings").exit_code == 0
    assert len(pd.read_csv(project / "out/couplings.csv")) == 4
    assert (project / "out/couplings.md").read_text().count("| geometric |") == 2
    assert (project / "out/couplings.svg").read_bytes().startswith(b"<?xml")


def test_another_alignment_feeds_another_flow(project, invoke):
    assert invoke(cell.app, "align", "zoos/none", "--set", "align.method=none").exit_code == 0
    places = ["--aligned", "zoos/none/aligned.safetensors", "--canonical", "zoos/none/canonical.safetensors"]
    flat = ["--set", "flow.geometry=euclidean", "--set", "flow.coupling=independent", "--set", "velocity.identities=true"]
    assert invoke(cell.app, "flow", "one", *flat, *LABELS).exit_code == 0
    assert invoke(cell.app, "flow", "other", *flat, *LABELS, *places).exit_code == 0
    losses = [pd.read_csv(project / name / "rows.csv").validation_loss[0] for name in ("one", "other")]
    assert losses[0] != losses[1]


def test_a_zoo_of_its_own_feeds_a_flow(project, invoke):
    found = invoke(cell.app, "zoo", "zoos/two", "--set", "zoo.seed=2", "--label", "seed=2")
    assert found.exit_code == 0, f"{found.output} {found.exception}"
    row = pd.read_csv(project / "zoos/two/rows.csv").iloc[0]
    assert (row.seed, row.trajectories) == (2, 12)
    places = ["--data", "zoos/two/dataset.safetensors"]
    assert invoke(cell.app, "align", "zoos/two-aligned", *places, "--trained", "zoos/two/trained.safetensors").exit_code == 0
    places += ["--canonical", "zoos/two-aligned/canonical.safetensors"]
    assert invoke(cell.app, "flow", "of-two", *places).exit_code == 0
    assert invoke(cell.app, "flow", "of-one").exit_code == 0
    losses = [pd.read_csv(project / name / "rows.csv").validation_loss[0] for name in ("of-one", "of-two")]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("flow.coupling=magic", "allowed: 'independent'"),
        ("flow.colour=red", "unknown setting"),
        ("coupling=ot", r"expected section\.key=value"),
        ("zoo.seed=1 --data nowhere.safetensors", "nowhere.safetensors"),
        ("zoo.seed=1 --label nothing", "--label: expected name=value, got 'nothing'"),
        ("zoo.seed=1 --label steps=2", "--label: steps: the table rows of flow has this column already"),
    ],
)
def test_a_wrong_change_is_one_sentence(project, invoke, change, message):
    result = invoke(cell.app, "flow", "wrong", "--set", *change.split(), *LABELS)
    assert result.exit_code == 1
    assert [line for line in result.output.splitlines() if line.startswith("cell flow: ")]
    assert not (project / "wrong/cell.json").exists()
    assert re.search(message, result.output)


def test_pages_say_what_cells_they_lack(project, invoke):
    (project / "empty").mkdir()
    result = invoke(page.app, "flows", "empty", "out/empty")
    assert (result.exit_code, "found none; run the cells first" in result.output) == (1, True)
    assert invoke(cell.app, "flow", "unlabelled/one").exit_code == 0
    result = invoke(page.app, "flows", "unlabelled", "out/empty")
    assert (result.exit_code, "run cells with a --label" in result.output) == (1, True)
    result = invoke(page.app, "samplers", "unlabelled", "out/empty")
    assert "expected cells of samplers, found flow" in result.output
    result = invoke(page.app, "gone", "unlabelled", "out/empty")
    assert (result.exit_code, "page gone: expected one of alignment, condition" in result.output) == (1, True)
    (project / "unlabelled/one/rows.csv").unlink()
    assert "unlabelled/one/rows.csv: expected a table" in invoke(page.app, "flows", "unlabelled", "out/empty").output


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
