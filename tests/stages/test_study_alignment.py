"""The comparison of ways of alignment, on a tiny zoo."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from stages import study_alignment
from tests.stages.test_stages import project, run  # noqa: F401
from tests.zoo.test_alignment import random_zoo


def test_the_study_compares_all_methods(project):  # noqa: F811
    assert run("fetch_data").exit_code == 0
    assert run("train_zoo").exit_code == 0
    arguments = ["reports/studies/methods", "--networks", "6", "--points", "3"]
    result = CliRunner().invoke(study_alignment.app, arguments)
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    table = pd.read_csv(project / "reports/studies/methods.csv", index_col="method")
    assert list(table.index) == list(study_alignment.METHODS)
    assert table.l2_to_reference["weight-matching, 20 starts"] < table.l2_to_reference["none"]
    assert table.l2_to_reference["sinkhorn, l2"] <= table.l2_to_reference["weight-matching, 20 starts"] + 1e-6
    assert bool((table.maximal_barrier >= table.midpoint_barrier).all())
    text = (project / "reports/studies/methods.md").read_text()
    for words in (*table.index, "permutation and scaling", "distance to nearest"):
        assert words in text
    assert (project / "reports/studies/methods.svg").read_bytes().startswith(b"<?xml")


def test_missing_inputs_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("task: nothing\n")
    result = CliRunner().invoke(study_alignment.app, ["reports/studies/methods"])
    assert result.exit_code == 1
    assert "nothing" in result.output
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("networks", [2, 5, 100])
def test_networks_are_spread_over_trajectories_of_the_training_part(networks):
    zoo = random_zoo(runs=12)
    chosen = study_alignment.some_last_snapshots(zoo, networks)
    assert len(chosen) == min(networks, 9)
    assert not bool(chosen.held_out.any())
