"""What the page of all models says in words follows from its numbers: copies, averages, what beats whom."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from tests.report.test_audit_page import audited, cell
from wflib.report import audit_choices, audit_in_short, audit_table, audit_zoo

SETTINGS = {
    "task": "mnist",
    "zoo": {
        **{"source": "train", "network": "mlp", "widths": [32, 32], "optimizer": "adam", "epochs": 5},
        **{"networks": 200, "held_out": 0.5},
    },
    "models": {"average": {"networks": 10}, "few-steps": {}, "flat-flow": {"components": 99, "steps": 5}},
    "velocity": {"kind": "neuron-tokens", "dimension": 128},
    "training": {"iterations": 1500, "batch_size": 32},
}
COPIES = "closer than held-out, share nearest to training"


def model(name: str, loss: float, accuracy: float, distance: float = 10.0, **more: object) -> dict[str, object]:
    seen = {"accuracy_mean": accuracy, "accuracy_std": 0.003, "detectable_copies": 0.16}
    return cell(name, 0, loss, distance, **seen, **more)


@pytest.fixture
def rows() -> pd.DataFrame:
    controls = [
        model("held-out", 0.12, 0.964),
        model("training", 0.12, 0.964, **audited(rejected="none") | {"draw_seconds": math.nan, "fit_seconds": math.nan}),
    ]
    return pd.DataFrame(
        [
            *controls,
            model("memorizer", 0.12, 0.9635, 0.0, **audited(0.5, rejected=COPIES, draw=1e-4)),
            model("flat-flow", 0.13, 0.962, 7.0, **audited(0.8, rejected=COPIES)),
            model("interpolation", 0.6, 0.79, 7.0, variance_ratio=0.5, **audited(rejected="norms")),
            model("gaussian-full", 3.0, 0.37, **audited(rejected="norms", draw=1e-4)),
            model(
                "few-steps", 0.35, 0.9, **audited(0.99, rejected="norms")
            ),  # near hubs of either side, says no test of copies
            model("trained-anew", 0.12, 0.964, **audited(rejected="none", draw=1.0)),
        ]
    )


def said(rows: pd.DataFrame) -> str:
    return audit_in_short(audit_table(rows), SETTINGS, zoo_seconds=100, training_seconds=0.8)


def table_of(text: str) -> dict[str, list[str]]:
    lines = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}


def test_copies_averages_and_who_is_beaten(rows):
    text = said(rows)
    table = table_of(text)
    assert {name: table[name]["Copies"] for name in ("memorizer", "flat flow matching", "full Gaussian", "held-out")} == {
        "memorizer": "copies",
        "flat flow matching": "drawn towards training networks",
        "full Gaussian": "none found",
        "held-out": "–",
    }
    assert (table["interpolated pair"]["Narrow"], table["full Gaussian"]["Narrow"]) == ("yes", "no")
    assert table["full Gaussian"]["Beaten by"] == "few steps of training (0.3500)"
    assert table["memorizer"]["Beaten by"] == table["few steps of training"]["Beaten by"] == "–"  # nothing better, or as new
    assert "No further below than one such deviation: memorizer, trained anew, flat flow matching;" in text
    assert "drawn towards them: memorizer, flat flow matching." in text
    assert "nor narrower than they are: few steps of training, full Gaussian; of these not beaten" in text
    assert "Verbatim copies of 16 % of the draws or more would be found" in text


def test_what_costs_more_or_copies_beats_nobody(rows):
    rows.loc[rows["model"] == "few-steps", "fit_seconds"] = 1000.0  # more than the zoo and the fit of a Gaussian
    assert table_of(said(rows))["full Gaussian"]["Beaten by"] == "–"
    rows.loc[rows["model"] == "gaussian-full", ["nearest_distance_mean", "copying_ratio"]] = [0.0, 0.5]
    assert table_of(said(rows))["full Gaussian"]["Beaten by"] == "memorizer (0.1200)"  # no less novel than it


def test_published_accuracies_stand_beside_those_of_copies(rows):
    assert "and not their code. Copies reach 96.35 ± 0.30 % here (memorizer)" in said(rows)
    assert "No model here copies" in said(rows[rows["model"] != "memorizer"])
    other = SETTINGS | {"task": "wdbc"}
    assert "Published" not in audit_in_short(audit_table(rows), other, zoo_seconds=100, training_seconds=0.8)


def test_the_zoo_in_words():
    assert audit_zoo(SETTINGS) == (
        "Zoo: mnist, mlp with hidden widths 32-32, adam for 5 epochs; 100 training runs to learn from, 100 held out."
    )
    foreign = {"task": "none", "zoo": SETTINGS["zoo"] | {"source": "folder/of/others"}}
    assert audit_zoo(foreign).startswith("Networks of folder/of/others")


def test_choices_in_words():
    assert audit_choices(SETTINGS) == (
        "Models have their own default settings but for average: networks 10; flat-flow: components 99, steps 5; flow: "
        "neuron-tokens of 128 features, 1,500 iterations of 32 networks."
    )


def test_tables_of_earlier_versions_have_a_page(rows):
    """Without accuracies on all test examples nothing is said of them, and nothing fails."""
    earlier = rows.drop(columns=["accuracy_mean", "accuracy_std", "detectable_copies"])
    assert table_of(said(earlier))["memorizer"]["Test accuracy [%]"] == "–"
