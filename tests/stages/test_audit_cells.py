"""The audit's own commands on tiny zoos: two splits of the data, a flow and models beside HMC, and the page of all."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from stages import cell, page
from tests.stages.test_pipeline_end_to_end import ROOT, write_project
from tests.test_pipeline import cells_of, filled
from wflib.storage import load_json
from wflib.tasks import load_dataset
from wflib.tasks.loading import fetch_dataset

SMALL = {"zoo": {"widths": [3], "networks": 60, "held_out": 0.4, "epochs": 2, "skip_epochs": 1, "snapshot_every": 7}}
MODELS = ("held-out", "gaussian-full", "hmc", "flow")
SETTINGS = "task: wdbc\nmodels: {hmc: {chains: 2, warmup: 3, draws: 20}}\n"
CELLS = Path("data/audit/wdbc")


def run(words: list[str]) -> None:
    apps = {"stages.cell": cell.app, "stages.page": page.app}
    found = CliRunner().invoke(apps[words[2]], words[3:], catch_exceptions=False)
    assert found.exit_code == 0, found.output


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """All commands of the pipeline for WDBC, seeds 0 and 1, and four models with 24 networks in place of 300."""
    folder = tmp_path_factory.mktemp("audit")
    write_project(folder, **SMALL, flow={"geometry": "euclidean"})
    (folder / "reports/audit").mkdir(parents=True)
    (folder / "reports/audit/wdbc.yaml").write_text(SETTINGS)
    pipeline = YAML(typ="safe").load((ROOT / "reports/audit/dvc.yaml").read_text())
    with contextlib.chdir(folder):
        for stage in pipeline["stages"].values():
            for known in cells_of(stage):
                item = {"seed": 0, "model": "flow", **known["item"]}
                if item["task"] == "wdbc" and item["seed"] < 2 and item["model"] in MODELS:
                    run(shlex.split(filled(stage["cmd"], known).replace("--networks 300", "--networks 24")))
    return folder


@pytest.fixture
def audit(finished, monkeypatch) -> Path:
    monkeypatch.chdir(finished)
    return finished


def test_each_seed_is_a_split_a_zoo_and_a_fit_of_its_own(audit):
    first, second = (load_dataset(CELLS / f"zoo-{seed}/dataset.safetensors") for seed in (0, 1))
    for seed, dataset in enumerate((first, second)):
        assert dataset.test.inputs.equal(fetch_dataset("wdbc", seed).test.inputs)
    assert first.test.inputs.shape == second.test.inputs.shape == (57, 30)
    assert not first.test.targets.equal(second.test.targets)
    for model in MODELS:
        facts = [load_json(CELLS / f"models/{model}-{seed}/cell.json", "cell") for seed in (0, 1)]
        assert [(one["settings"]["data"]["split"], one["options"]["seed"]) for one in facts] == [(0, 0), (1, 1)]
        assert facts[0]["tables"] == ["rows", "averages", "predictions"]
        losses = [pd.read_csv(CELLS / f"models/{model}-{seed}/rows.csv")["test_nll"].item() for seed in (0, 1)]
        assert losses[0] != losses[1]
    assert load_json(CELLS / "flow-0/flow.json", "cell")["seconds"] > 0


def test_cells_measure_averages_and_keep_what_the_average_predicts(audit):
    averages = pd.read_csv(CELLS / "models/gaussian-full-0/averages.csv")
    assert averages["averaged"].tolist() == [1, 2, 5, 10, 20, 24]
    assert averages["auroc_permuted"].between(0, 1).all()
    assert averages["nll"].iloc[0] > averages["nll"].iloc[1] > averages["nll"].iloc[-1]
    rows = pd.read_csv(CELLS / "models/gaussian-full-0/rows.csv").iloc[0]
    assert averages["nll"].iloc[-1] == pytest.approx(rows["bma_nll"], rel=1e-4)
    assert averages["ece"].iloc[-1] == pytest.approx(rows["bma_ece"], rel=1e-3)
    assert len(pd.read_csv(CELLS / "models/hmc-0/predictions.csv")) == 57
    hmc = pd.read_csv(CELLS / "models/hmc-0/rows.csv").iloc[0]
    assert hmc["r_hat"] > 1
    assert (hmc["effective_draws"] > 0, hmc["chain_draws"]) == (True, 40)
    assert "r_hat" not in rows.index


def test_the_page_has_all_seeds_averages_and_equal_seconds(audit):
    text, found = Path("reports/audit/wdbc.md").read_text(), pd.read_csv("reports/audit/wdbc.averages.csv")
    assert "Made by `dvc repro reports/audit/dvc.yaml`." in text
    assert "2 splits of the data (data.split 0, 1), each with a zoo and fits of its own" in text
    assert "## Averages of networks, on test examples, euclidean" in text
    assert "Agreement with HMC" in text
    assert "AUROC, permuted" in text
    assert "Chains, by the worst prediction of validation examples and the worst seed: HMC R̂" in text
    assert len(found) == len(pd.read_csv("reports/audit/wdbc.csv")) == 2 * len(MODELS)
    one = found.set_index(["model", "seed"])
    assert one.loc["hmc", "agreement"].tolist() == [1, 1]
    assert one.loc["hmc", "total_variation"].tolist() == [0, 0]
    assert (one.loc["gaussian-full", "total_variation"] > 0).all()
    assert one.loc["flow", "affordable"].tolist() == [100, 100]
    assert one.loc["flow", "affordable_averaged"].tolist() == [24, 24]
    assert one.loc["held-out", "affordable"].isna().all()
    assert one.loc["held-out", "nll_excess"].tolist() == [0, 0]
    excess = one.loc["flow", "nll"] - one.loc["held-out", "nll"]
    assert one.loc["flow", "nll_excess"].tolist() == pytest.approx(excess.tolist())
    assert one.loc["held-out", "novelty"].tolist() == [1, 1]
    assert Path("reports/audit/wdbc.averages.svg").read_bytes().startswith(b"<?xml")


def refused(*words: str) -> str:
    found = CliRunner().invoke(cell.app, list(words))
    assert found.exit_code == 1
    return " ".join(found.output.split())


def test_wrong_splits_and_inputs_of_another_task_are_refused(audit, tmp_path):
    settings = ["--params", "reports/audit/wdbc.yaml"]
    assert "data.split: got -1;" in refused("data", f"{tmp_path}/a", *settings, "--set", "data.split=-1")
    (tmp_path / "none.yaml").write_text("task: none\n")
    words = ["--params", f"{tmp_path}/none.yaml", "--presets", f"{ROOT}/stages/presets"]
    said = refused("data", f"{tmp_path}/b", *words, "--set", "data.split=1")
    assert "cell data: data.split: 1: the parts of task none are fixed; expected 42" in said
    (tmp_path / "digits.yaml").write_text("task: digits\n")
    words[1] = f"{tmp_path}/digits.yaml"
    run(["python", "-m", "stages.cell", "data", f"{tmp_path}/digits", *words])
    data = ["--data", f"{tmp_path}/digits/dataset.safetensors"]
    run(["python", "-m", "stages.cell", "outside", f"{tmp_path}/digits", *data])
    forms = [word for form in ("aligned", "canonical") for word in (f"--{form}", f"{CELLS}/aligned-0/{form}.safetensors")]
    zoo = ["--data", f"{CELLS}/zoo-0/dataset.safetensors", "--zoo-facts", f"{CELLS}/zoo-0/trained.json", *forms]
    other = ["--outside", f"{tmp_path}/digits/outside.safetensors", "--model", "average", "--networks", "20"]
    assert "expected inputs beside those of wdbc, found them made for digits" in refused(
        "model", f"{tmp_path}/c", *settings, *zoo, *other
    )
