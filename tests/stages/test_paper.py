"""Chapter 7 in a tiny form: every kind of cell, and the page from all or few of them."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from stages import cell, page
from tests.stages.test_pipeline_end_to_end import ROOT, TINY, write_project
from wflib.pages.paper.transfer import best_by_validation, start_sentences, steps_to
from wflib.tasks import Split, load_dataset, save_dataset

LABELS = {"task": "wdbc", "method": "ours", "alignment": "aligned", "coupling": "independent", "seed": 0}
INDEPENDENT = ["--set", "flow.coupling=independent", "--set", "velocity.gradient_examples=16"]


def invoke(measurement: str, out: str, *arguments: str, **labels: object) -> None:
    words = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    found = CliRunner().invoke(cell.app, [measurement, out, *arguments, *words])
    assert found.exit_code == 0, f"{measurement}: {found.output} {found.exception}"


def places(aligned: str, data: str = "zoo/dataset.safetensors") -> list[str]:
    files = {"data": data, "aligned": f"{aligned}/aligned.safetensors", "canonical": f"{aligned}/canonical.safetensors"}
    return [word for name, path in files.items() for word in (f"--{name}", path)]


def without_data(words: list[str]) -> list[str]:
    return words[2:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with cells of every kind, from two tiny zoos of wdbc and diabetes."""
    folder = tmp_path_factory.mktemp("paper")
    write_project(folder)
    preset = YAML(typ="safe").load((ROOT / "stages/presets/diabetes.yaml").read_text())
    for section, values in TINY.items():
        preset[section] |= values
    with (folder / "stages/presets/diabetes.yaml").open("w") as file:
        YAML().dump(preset, file)
    (folder / "diabetes.yaml").write_text("task: diabetes\nflow: {geometry: euclidean}\n")
    with contextlib.chdir(folder):
        make_cells()
    return folder


def make_cells() -> None:
    small = ["--networks", "4"]
    invoke("zoo", "zoo")
    trained = ["--data", "zoo/dataset.safetensors", "--trained", "zoo/trained.safetensors"]
    invoke("align", "aligned", *trained)
    dataset = load_dataset("zoo/dataset.safetensors")
    parts = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    flipped = {name: Split(-split.inputs, split.targets) for name, split in parts.items()}
    save_dataset("target.safetensors", replace(dataset, **flipped))
    for geometry in ("euclidean", "geometric"):
        labels, flow = LABELS | {"geometry": geometry}, f"cells/flow-{geometry}"
        settings = [*places("aligned"), "--set", f"flow.geometry={geometry}", *INDEPENDENT]
        invoke("flow", flow, *settings, **labels)
        drawn = ["--flow", f"{flow}/flow.safetensors", *places("aligned")]
        measured = [*small, "--steps", "1", "--steps", "2", "--examples", "10"]
        invoke("quality", f"cells/quality-{geometry}", *drawn, *measured, **labels)
        averages = [*small, "--count", "1", "--count", "4", "--steps", "2", "--repeats", "2"]
        invoke("averages", f"cells/averages-{geometry}", *drawn, *averages, **labels)
    labels = LABELS | {"geometry": "geometric"}
    drawn = ["--flow", "cells/flow-geometric/flow.safetensors", *places("aligned")]
    wide = ["--width", "4", "--width", "32", "--steps", "2", "--guidance", "0", *small, "--examples", "10"]
    invoke("quality", "cells/widths", *drawn, *wide, **labels | {"task": "mnist"})
    flat = ["--flow", "cells/flow-euclidean/flow.safetensors", *without_data(places("aligned"))]
    invoke("toy", "cells/toy", *flat, "--networks", "4", "--steps", "2", **LABELS | {"task": "gaussian"})
    methods = ["--method", "none", "--method", "weight-matching, 1 start", "--networks", "4", "--points", "1"]
    invoke("alignment", "cells/alignment", *trained, *methods, task="wdbc", seed=0)
    flow = ["--flow", "cells/flow-geometric/flow.safetensors"]
    target, mnist = ["--target", "target.safetensors"], LABELS | {"task": "mnist", "geometry": "geometric"}
    few = ["--steps", "2", "--strength", "0.1", "--strength", "1", "--rate", "0.01", "--epochs", "1"]
    invoke("transfer", "cells/transfer", *flow, *target, *few, *small, **mnist)
    starts = ["--runs", "2", "--steps", "1", "--steps", "4", "--draw-steps", "2", "--few", "2", "--guided", "3"]
    invoke("starts", "cells/starts", *flow, *target, *without_data(places("aligned")), *starts, **mnist)
    invoke("flow", "conditioned", *places("aligned"), "--set", "flow.condition=loss", *INDEPENDENT)
    steered = ["--steps", "2", "--strength", "0.1", "--iterations", "2", "--conditioned", "conditioned/flow.safetensors"]
    invoke("steering", "cells/steering", *drawn, *steered, *small, **labels)
    diabetes = ["--params", "diabetes.yaml"]
    invoke("zoo", "diabetes/zoo", *diabetes)
    of_zoo = ["--data", "diabetes/zoo/dataset.safetensors", "--trained", "diabetes/zoo/trained.safetensors"]
    invoke("align", "diabetes/aligned", *diabetes, *of_zoo)
    own = places("diabetes/aligned", "diabetes/zoo/dataset.safetensors")
    invoke("flow", "diabetes/flow", *diabetes, *own)
    drawn = ["--flow", "diabetes/flow/flow.safetensors", *own, *diabetes, *small, "--steps", "1", "--steps", "2"]
    invoke("regression", "cells/regression", *drawn, **LABELS | {"task": "diabetes", "geometry": "euclidean"})


@pytest.fixture
def cells(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder / "cells"


def rows(name: str) -> pd.DataFrame:
    return pd.read_csv(f"cells/{name}/rows.csv", keep_default_na=False, na_values=[""])


def made(source: str, out: str) -> str:
    found = CliRunner().invoke(page.app, ["paper", source, out])
    assert found.exit_code == 0, f"{found.output} {found.exception!r}"
    return Path(out, "README.md").read_text()


def test_quality_says_what_is_drawn_and_what_was_learned(cells):
    table = rows("quality-geometric")
    assert table.source.tolist()[:2] == ["training", "held-out"]
    drawn = table[table.source == "samples"]
    assert set(zip(drawn.steps, drawn.guidance, drawn.form, strict=True)) == {
        (steps, guidance, form) for steps in (1, 2) for guidance in (0.0, 0.1) for form in ("as drawn", "scale dropped")
    } | {(2, 0.0, "trained further")}
    whole, bare = (drawn[drawn.form == form].reset_index() for form in ("as drawn", "scale dropped"))
    assert whole.accuracy_mean.tolist() == bare.accuracy_mean.tolist()  # classes stay what they are
    assert (whole.nll_mean != bare.nll_mean).all()
    unguided = whole[(whole.steps == 2) & (whole.guidance == 0)].iloc[0]
    further = table[table.form == "trained further"]
    assert set(zip(further.steps, further.guidance, strict=True)) == {(2, 0.0)}  # what tables show
    assert further.train_nll.item() < unguided.train_nll
    assert 0 <= unguided.thesis_diversity_mean < unguided.diversity_mean
    assert whole[whole.steps == 1].diversity_mean.isna().all()
    assert set(rows("quality-euclidean").form) == {"as trained", "as drawn", "trained further"}
    facts = json.loads((cells / "quality-geometric/cell.json").read_text())
    assert set(facts["settings"]) == {"sample"}  # the flow was not made by the others
    wide = rows("widths")
    assert set(wide[wide.source == "samples"].width) == {4, 32}
    losses = wide[wide.width == 32].set_index("form").validation_nll
    assert losses["one factor"] <= losses["as drawn"] + 1e-6


def test_averages_are_of_draws_of_these_trained_further_and_of_trained_networks(cells):
    table = rows("averages-geometric").set_index(["source", "count"])
    assert set(table.index) == {(name, count) for name in ("samples", "trained further", "training") for count in (1, 4)}
    assert table.test_nll_mean["trained further", 1] != table.test_nll_mean["samples", 1]


def test_a_regressions_draws_are_trained_further_too_and_fit_the_data_better(cells):
    table = rows("regression")
    assert list(zip(table.source, table.steps, strict=True)) == [
        ("training", 0), ("held-out", 0), ("samples", 1), ("samples", 2), ("trained further", 2)
    ]  # fmt: skip
    drawn, further = table.iloc[-2], table.iloc[-1]
    assert further.train_rmse_mean < drawn.train_rmse_mean


def test_transfer_reads_training_data_and_counts_gradients(cells):
    table = rows("transfer")
    assert table.groupby("way").size().to_dict() == {
        **{
            "guided": 2,
            "guided as published": 1,
            "not guided": 1,
            "sees the other task": 1,
            "trained from draws": 1,
            "trained from the prior": 1,
            "trained for epochs": 1,
        }
    }
    assert (table[table.way != "trained for epochs"].steps == 2).all()
    assert table.validation_nll.notna().all()
    starts = rows("starts")
    assert starts.groupby(["start", "step"]).size().eq(2).all()
    before = starts.groupby("start", sort=False).making_gradients.first().to_dict()
    assert before == {"flow": 0, "guided flow": 3, "gaussian": 0, "wide-gaussian": 0, "he": 0, "zoo": 0, "few-steps": 2}
    assert set(starts.step) == {0, 1, 4}
    assert (starts.making_seconds > 0).all()


def test_neither_guidance_nor_training_reads_test_data(cells, tmp_path):
    dataset = load_dataset("target.safetensors")
    other = replace(dataset, test=Split(dataset.test.inputs, 1 - dataset.test.targets))
    save_dataset(tmp_path / "other.safetensors", other)
    words = ["--flow", "cells/flow-geometric/flow.safetensors", "--target", str(tmp_path / "other.safetensors")]
    few = ["--steps", "2", "--strength", "0.1", "--strength", "1", "--rate", "0.01", "--epochs", "1", "--networks", "4"]
    invoke("transfer", str(tmp_path / "cell"), *words, *few)
    ours, theirs = rows("transfer"), pd.read_csv(tmp_path / "cell/rows.csv")
    for part in ("train", "validation"):
        assert theirs[f"{part}_nll"].tolist() == ours[f"{part}_nll"].tolist()
    assert (theirs.test_nll != ours.test_nll).all()  # what was flipped is seen where it may be


def test_steering_counts_evaluations(cells):
    table = rows("steering").set_index(["way", "setting"])
    assert table.evaluations.to_dict() == {
        ("plain", 0.0): 2,
        ("guidance", 0.1): 2,
        ("starting point", 2.0): 18,
        ("asked", 0.0): 2,
        ("asked", 1.0): 4,
        ("asked", 2.0): 4,
    }


def test_the_page_has_the_thesis_numbers_beside_ours(cells):
    text = made("cells", "page")
    for number in ("0.998 ± 0.006", "0.00102 ± 0.00114", "0.754 ± 0.082", "0.826 ± 0.076", "0.244 before"):
        assert number in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == 9
    drawn = rows("quality-euclidean")
    drawn = drawn[(drawn.source == "samples") & (drawn.guidance == 0) & (drawn.steps == 2)].iloc[0]
    line = next(line for line in text.splitlines() if line.startswith("| Euclidean (aligned) | 0.998"))
    assert f"{drawn.accuracy_mean:.3f} ± {drawn.accuracy_std:.3f}" in line
    assert "| — | — | — |" in line  # the published method's cells are not there
    for figure in ("gaussian", "steps-wdbc", "barriers-wdbc", "averages-wdbc-ours", "starts", "steering"):
        assert Path(f"page/figures/{figure}.svg").read_bytes().startswith(b"<?xml")
        assert f"](figures/{figure}.svg)" in text
    of_both = [len(rows(f"quality-{geometry}")) for geometry in ("euclidean", "geometric")]
    assert len(pd.read_csv("page/tables/quality.csv")) == sum(of_both) + len(rows("widths"))
    html = Path("page/page.html").read_text()
    assert not re.search(r"""(src|href)=["']https?://""", html)
    assert html.count("data:image/svg+xml") == text.count("](figures/") > 5


def test_tables_of_all_pairs_are_too_large_to_keep_and_the_page_says_so(cells, monkeypatch, tmp_path):
    of_pairs = pd.read_csv(cells / "alignment/barriers.csv")
    monkeypatch.setattr("wflib.measurements.cells.MOST_KEPT", len(of_pairs) - 1)
    assert "Figure 7.2: Loss barriers" in made("cells", str(tmp_path))
    assert not (tmp_path / "tables/alignment.barriers.csv").exists()
    assert (tmp_path / "tables/alignment.csv").is_file()
    assert "Figure 7.2 needs its cells. Loss barriers" in made("nowhere", str(tmp_path))


@pytest.mark.parametrize("one", ["quality-euclidean", "toy", "starts", "flow-geometric", "regression", "alignment"])
def test_a_page_of_few_cells_shows_dashes(cells, one):
    text = made(f"cells/{one}", f"few-{one}")
    assert text.count("—") > 100
    assert "nan" not in text
    assert len([line for line in text.splitlines() if line.startswith("## ")]) == 9


def test_flows_of_several_sizes_are_a_figure_of_their_own(cells, tmp_path):
    flow = rows("flow-geometric").assign(task="mnist")
    for size, loss in ((16, 0.5), (32, 0.4)):
        folder = tmp_path / f"cells/size-{size}"
        folder.mkdir(parents=True)
        flow.assign(size=size, nll_mean=loss, parameters=100 * size).to_csv(folder / "rows.csv", index=False)
        (folder / "cell.json").write_text('{"measurement": "flow", "seconds": 1}')
    text = made(str(tmp_path / "cells"), str(tmp_path / "page"))
    assert "Geometric: the loss falls with every size (0.500, 0.400 for 16, 32 features)." in text
    assert (tmp_path / "page/figures/sizes.svg").is_file()


def test_steps_count_from_which_on_a_run_stays_there():
    curve = {"start": "flow", "seed": 0, "run": 0, "making_seconds": 2.0, "step_seconds": 0.5}
    table = pd.DataFrame(
        [{**curve, "step": step, "test_accuracy": value} for step, value in ((0, 0.9), (1, 0.7), (4, 0.85), (8, 0.9))]
    )
    found = steps_to(pd.concat([table, table.assign(run=1, test_accuracy=0.1)]), 0.8)
    assert found.steps.tolist()[0] == 4
    assert found.seconds.tolist()[0] == 4.0
    assert found.steps.isna().tolist() == [False, True]


def test_a_flow_is_as_slow_as_its_slowest_run():
    curve = {"method": "ours", "geometry": "euclidean", "seed": 0, "making_seconds": 2.0, "step_seconds": 0.5, "step": 10}
    table = pd.DataFrame([{**curve, "start": "flow", "run": run, "test_accuracy": 0.9} for run in range(2)])
    others = [table.assign(start="guided flow", step=0, making_seconds=3.0), table.assign(start="he", step=[20, 30])]
    told = next(start_sentences(pd.concat([table, *others])))
    assert "making the start): flow 10 (7.00 s), guided flow 0 (3.00 s); the fastest from random weights: he 20" in told
    stuck = pd.concat([table, table.assign(run=2, test_accuracy=0.5)])
    assert "making the start): flow —;" in next(start_sentences(stuck))


def test_settings_are_chosen_by_validation_alone():
    table = pd.DataFrame(
        {"seed": 0, "way": "guided", "steps": 8, "setting": [0.1, 1.0], "validation_nll": [0.5, 0.4], "nll_mean": [0.1, 0.9]}
    )
    assert best_by_validation(table).setting.tolist() == [1.0]
