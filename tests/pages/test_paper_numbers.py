"""The page of chapter 7 says what its cells say: means over seeds, both deviations, and what holds of them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from wflib.measurements import load_cells
from wflib.pages import save_page
from wflib.pages.paper import thesis_page
from wflib.pages.paper.gaussian import gaussian
from wflib.pages.paper.numbers import MISSING, both, chosen, published, single
from wflib.pages.paper.quality import wdbc
from wflib.pages.paper.thesis import DIVERSITY, MNIST, WDBC
from wflib.storage import save_json

ROOT = Path(__file__).resolve().parents[2]


def cell(folder: Path, seed: int, geometry: str, accuracy: float) -> None:
    """A cell of quality with rows of draws and of the networks that were learned from."""
    labels = {"task": "wdbc", "method": "ours", "alignment": "aligned", "coupling": "ot", "seed": seed, "geometry": geometry}
    common = {**labels, "guidance": 0.0, "width": 0, "accuracy_std": 0.01, "nll_mean": 0.05, "nll_std": 0.02}
    common["validation_nll"] = 1 - accuracy
    drawn = [
        {**common, "source": "samples", "steps": steps, "form": "as drawn", "accuracy_mean": accuracy} for steps in (8, 64)
    ]
    drawn[0]["accuracy_mean"] = 0.5  # few steps do not count
    learned = {**common, "source": "training", "steps": 0, "form": "as trained", "accuracy_mean": 0.986}
    folder.mkdir(parents=True)
    pd.DataFrame([learned, *drawn]).to_csv(folder / "rows.csv", index=False)
    (folder / "cell.json").write_text(json.dumps({"measurement": "quality", "seconds": 1.0}))


@pytest.fixture
def text(tmp_path) -> str:
    for seed in (0, 1):
        cell(tmp_path / f"euclidean-{seed}", seed, "euclidean", 0.99 + 0.002 * seed)
        cell(tmp_path / f"geometric-{seed}", seed, "geometric", 0.97)
    return "\n\n".join(wdbc(load_cells(tmp_path)).blocks)


def test_numbers_are_means_over_seeds_with_both_deviations(text):
    assert "0.991 ± 0.010 ± 0.001" in text
    assert "0.970 ± 0.010 ± 0.000" in text
    line = next(line for line in text.splitlines() if line.startswith("| Euclidean (aligned + OT) | 0.993 ± 0.010"))
    assert line.count(MISSING) == 6  # the published method, losses without scale, and draws trained further
    assert "0.500" not in text


def test_sentences_say_which_flows_are_short_of_the_aim(text):
    assert (
        "With the project's method 1 of 2 flows reach an accuracy of 0.985; short of it are geometric (aligned + OT) 0.970."
        in text
    )
    assert (
        "Best by validation loss is euclidean (aligned + OT), 0.991, beside 0.986 of the networks that were learned from."
        in text
    )
    assert "published method 0 of" not in text  # of which nothing was computed


def test_what_is_not_there_is_a_dash():
    rows = pd.DataFrame({"seed": [0], "a_mean": [0.5], "a_std": [0.1], "b": [2.0]})
    assert both(rows, "a") == "0.500 ± 0.100"
    assert single(rows, "b", 1) == "2.0"
    one_is_missing = pd.concat([rows, pd.DataFrame({"seed": [1]})])
    assert both(one_is_missing, "a") == "0.500 ± 0.100"
    assert single(one_is_missing, "b", 1) == "2.0"
    assert {
        both(rows, "c"),
        single(rows, "c"),
        published(None),
        both(chosen(rows, seed=3), "a"),
        both(rows.iloc[:0], "a"),
    } == {MISSING}
    assert chosen(rows, size=3).empty


def test_the_thesis_has_its_numbers():
    assert len(WDBC) == 10
    assert len(MNIST) == len(DIVERSITY) == 7
    assert WDBC["geometric", "aligned", "independent"] == ((0.993, 0.001), (0.018, 0.001))
    assert max(accuracy for (accuracy, _), _ in MNIST.values() if accuracy < 0.9) == 0.786


def test_rows_of_cells_that_are_gone_are_taken_up_again(tmp_path):
    for seed in (0, 1):
        cell(tmp_path / f"all/euclidean-{seed}", seed, "euclidean", 0.99 + 0.002 * seed)
        cell(tmp_path / f"{seed}/euclidean-{seed}", seed, "euclidean", 0.99 + 0.002 * seed)
    whole, first = (thesis_page(load_cells(tmp_path / name)) for name in ("all", "0"))
    save_page(tmp_path / "page", first)
    later = load_cells(tmp_path / "1", tmp_path / "page/tables")
    assert thesis_page(later) == whole
    assert whole["README.md"] != first["README.md"]
    cell(tmp_path / "1/euclidean-0", 0, "euclidean", 0.5)  # measured anew: what was kept of it does not count
    anew = load_cells(tmp_path / "1", tmp_path / "page/tables").table("quality")
    assert anew.accuracy_mean.max() == 0.992
    assert len(anew) == 6
    save_page(tmp_path / "page", whole)
    (tmp_path / "page/tables/.quality.csv.4711.csv").touch()  # of a run that was killed while it wrote
    assert thesis_page(load_cells(tmp_path / "nowhere", tmp_path / "page/tables")) == whole
    with pytest.raises(ValueError, match=r"expected folders with a cell\.json, found none"):
        load_cells(tmp_path / "nowhere", tmp_path / "neither")


def test_methods_of_different_seeds_have_histograms(tmp_path):
    for method, seed, ways in (
        ("ours", 0, ("target", "deterministic", "diffusion")),
        ("thesis", 1, ("target", "deterministic")),
    ):
        folder, labels = tmp_path / method, {"task": "gaussian", "method": method, "seed": seed}
        folder.mkdir()
        rows = pd.DataFrame([{**labels, "way": way, "mean": 1.0, "std": 0.1, "variance_ratio": 0.9} for way in ways])
        rows.to_csv(folder / "rows.csv", index=False)
        means = [{**labels, "way": way, "mean_weight": value / 10} for way in ways for value in range(10)]
        pd.DataFrame(means).to_csv(folder / "means.csv", index=False)
        facts = {"measurement": "toy", "seconds": 1.0, "tables": ["rows", "means"]}
        (folder / "cell.json").write_text(json.dumps(facts))
    found = gaussian(load_cells(tmp_path))
    drawing = found.figures["gaussian"][0].decode()
    assert "published method, deterministic" in drawing
    assert "project's method, diffusion" in drawing.replace("&#39;", "'")
    assert "published method, diffusion" not in drawing  # of which there are no draws


def test_the_committed_page_is_made_of_the_committed_tables():
    kept = load_cells(ROOT / "nowhere", ROOT / "reports/paper/tables")
    made = thesis_page(kept)["README.md"].decode().splitlines()
    committed = (ROOT / "reports/paper/README.md").read_text().splitlines()
    other = [line for line in {*made} ^ {*committed} if "Figure 7.2" not in line and "barriers-wdbc" not in line]
    assert not other  # but for the one figure whose pairs are too many to keep


def test_a_page_of_fresh_cells_reads_the_digits_that_are_kept(tmp_path):
    fresh = tmp_path / "cells/one"
    fresh.mkdir(parents=True)
    pd.DataFrame({"seed": [0], "nll_mean": [0.12345678901]}).to_csv(fresh / "rows.csv", index=False)
    save_json(fresh / "cell.json", {"measurement": "quality", "seconds": 1.23456789, "tables": ["rows"]})
    cells = load_cells(tmp_path / "cells")
    read, files = cells.as_kept()
    for name, content in files.items():
        (tmp_path / f"{name}.csv").write_bytes(content)
    later = load_cells(tmp_path / "nowhere", tmp_path)
    assert read.table("quality").equals(later.table("quality"))
    assert read.summary.equals(later.summary)
    assert read.table("quality").nll_mean.tolist() == [0.1234568]
    assert not cells.table("quality").equals(later.table("quality"))
