"""The table of geometries says what the files say, and refuses a folder without any."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from stages.study_geometries import app
from wflib.report import geometries_markdown


def row(accuracy: float) -> dict[str, float]:
    return {
        "networks": 100,
        "novelty_networks": 100,
        "accuracy_mean": accuracy,
        "accuracy_std": 0.0125,
        "nll_mean": 0.3214,
        "nll_std": 0.05,
        "bma_accuracy": 0.95,
        "bma_nll": 0.2,
        "diversity": 0.0123,
        "variance_ratio": 0.987,
        "mean_shift": 0.0456,
        "nearest_distance_mean": 12.341,
        "nearest_distance_std": 0.5,
        "copying_ratio": 1.0021,
    }


def test_one_line_for_each_set_and_width(tmp_path):
    for geometry, accuracy in (("euclidean", 0.912), ("geometric", 0.934)):
        folder = tmp_path / geometry
        folder.mkdir()
        metrics = {"samples": row(accuracy), "zoo": row(0.99), "held-out": row(0.98)}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "train-flow.json").write_text(json.dumps({"iterations": 1200, "training_seconds": 90}))
        wide = pd.DataFrame([{"width": width, **row(accuracy), "networks": 32} for width in (10, 64)])
        wide.to_csv(folder / "widths.csv", index=False)
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "results.md").read_text()
    scores = "0.934 ± 0.013 | 0.321 ± 0.050 | 0.950 | 0.200 | 0.0123 | 0.987 | 0.046 | 12.341 ± 0.050 | 1.002"
    assert f"| geometric: samples | {scores} |" in text
    assert text.count("| euclidean: ") == 3
    assert "| euclidean | 64 | 0.912 ± 0.013 | 0.321 ± 0.050 | 0.950 |" in text
    assert "Average of 32: accuracy" in text
    assert "euclidean 1.5 minutes for 1,200 iterations" in text


def test_metrics_without_held_out_networks_are_named_and_undefined_figures_are_dashes(tmp_path):
    def text_of(found: dict) -> str:
        facts, wide = {"iterations": 1, "training_seconds": 60}, pd.DataFrame([{"width": 9, **row(0.9), "networks": 32}])
        return geometries_markdown({"geometric": found}, {"geometric": facts}, {"geometric": wide})

    undefined = {key: value for key, value in row(0.9).items() if not key.startswith("nearest")}
    assert "| 0.046 | – | 1.002 |" in text_of({"samples": undefined, "zoo": row(0.99), "held-out": row(0.98)})
    with pytest.raises(ValueError, match=r"geometric/metrics\.json: expected the source held-out, found samples, zoo"):
        text_of({"samples": row(0.9), "zoo": row(0.99)})


def test_a_folder_without_results_is_refused(tmp_path):
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert done.exit_code == 1
    assert "metrics.json" in done.output
    assert not (tmp_path / "results.md").exists()


def test_a_geometry_without_some_of_its_files_is_refused_by_their_names(tmp_path):
    (tmp_path / "geometric").mkdir()
    for present, missing in (("metrics.json", "train-flow.json"), ("train-flow.json", "widths.csv")):
        (tmp_path / "geometric" / present).write_text("{}")
        done = CliRunner().invoke(app, [str(tmp_path)])
        assert done.exit_code == 1
        assert f"geometric/{missing}: expected a file, found none; run reports/geometries/run.sh" in done.output
