"""The comparison of ways of alignment, on a tiny zoo."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from stages import cell, page
from tests.stages.test_stages import project, run  # noqa: F401
from tests.zoo.test_alignment import random_zoo
from wflib.measurements.alignment import METHODS, some_last_snapshots


def test_the_study_compares_all_methods(project):  # noqa: F811
    assert run("fetch_data").exit_code == 0
    assert run("train_zoo").exit_code == 0
    arguments = ["alignment", "data/studies/methods", "--networks", "6", "--points", "3"]
    for app, words in ((cell.app, arguments), (page.app, ["alignment", "data/studies/methods", "reports/studies/methods"])):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{result.output} {result.exception}"
    table = pd.read_csv(project / "reports/studies/methods.csv", index_col="method")
    assert list(table.index) == list(METHODS)
    assert table.l2_to_reference["weight-matching, 20 starts"] < table.l2_to_reference["none"]
    assert table.l2_to_reference["sinkhorn, l2"] <= table.l2_to_reference["weight-matching, 20 starts"] + 1e-6
    assert bool((table.maximal_barrier >= table.midpoint_barrier).all())
    assert bool((table.function_change < 1e-4).all())
    text = (project / "reports/studies/methods.md").read_text()
    for words in (*table.index, "permutation and scaling", "distance to nearest"):
        assert words in text
    assert (project / "reports/studies/methods.svg").read_bytes().startswith(b"<?xml")


def test_missing_inputs_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("task: nothing\n")
    result = CliRunner().invoke(cell.app, ["alignment", "cell"])
    assert result.exit_code == 1
    assert "data/zoo/trained.safetensors" in result.output
    result = CliRunner().invoke(cell.app, ["alignment", "cell", "--method", "magic"])
    assert (result.exit_code, "--method: magic: expected some of none;" in result.output) == (1, True)
    assert not list((tmp_path / "cell").iterdir())


@pytest.mark.parametrize("networks", [2, 5, 100])
def test_networks_are_spread_over_trajectories_of_the_training_part(networks):
    zoo = random_zoo(runs=12)
    chosen = some_last_snapshots(zoo, networks)
    assert len(chosen) == min(networks, 9)
    assert not bool(chosen.held_out.any())
