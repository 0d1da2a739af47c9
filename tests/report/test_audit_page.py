"""The page of all models says what its cells say."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from wflib.report import audit_figure, audit_markdown, audit_table


def cell(model: str, seed: int, loss: float, distance: float = 10.0, **more: object) -> dict[str, object]:
    return {
        "model": model,
        "geometry": "euclidean",
        "seed": seed,
        "networks": 100,
        **{f"{part}_{name}": loss for part in ("train", "validation", "test") for name in ("nll", "accuracy")},
        "average_100": loss / 2,
        "variance_ratio": 1.0,
        "nearest_distance_mean": distance,
        **more,
    }


def audited(ratio: float = 1.0, auc: float = 0.5, rejected: str = "", draw: float = 0.01) -> dict[str, object]:
    seconds = {"fit_seconds": 100.0, "draw_seconds": draw}
    return {"copying_ratio": ratio, "classifier_auc": auc, "rejected": rejected, **seconds}


@pytest.fixture
def rows() -> pd.DataFrame:
    cells = [cell("held-out", 0, 0.1), cell("training", 0, 0.1, **audited() | {"draw_seconds": math.nan})]
    for seed in (0, 1, 2):
        shift = 0.001 * seed
        cells += [
            cell("flow", seed, 0.12 + shift, **audited(auc=0.9, rejected="classifier, norms" if seed else "norms")),
            cell("few-steps", seed, 0.09 + shift, **audited(draw=0.001, rejected="kernel" if seed == 2 else "")),
            cell("memorizer", seed, 0.10 + shift, 0.0, **audited(ratio=0.5, draw=1e-5)),
            cell("gaussian-full", seed, 0.30 + shift, **audited(draw=1e-5)),
            cell("average", seed, 0.15, 6.0),
            cell("sgld", seed, 0.5, 5.0, **audited(draw=0.001)),
        ]
    return pd.DataFrame(cells)


def test_rows_are_means_over_seeds_beside_held_out_networks(rows):
    table = audit_table(rows).set_index("model")
    assert table.loc["flow", "train_nll"] == pytest.approx(0.121)
    assert table.loc["flow", "train_nll_std"] == pytest.approx(0.001)
    assert table.loc["memorizer", "novelty"] == 0
    assert table.loc["average", "novelty"] == pytest.approx(0.6)
    assert table.loc["flow", "rejected"] == "classifier, norms"  # in most seeds
    assert table.loc["few-steps", "rejected"] == ""
    assert table.loc["few-steps", "rejected_share"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="held-out networks for geometry euclidean"):
        audit_table(rows[rows.model != "held-out"])


def test_the_page_names_the_front_what_beats_the_flow_and_what_pays(rows):
    text = audit_markdown(audit_table(rows), zoo_seconds=60, training_seconds=0.005)
    assert "beaten in loss and cost by no other novel model: few steps of training, full Gaussian." in text
    assert "lower than the flow's 0.1210: few steps of training (0.0910)" in text
    lines = {
        line.split("|")[1].strip(): [part.strip() for part in line.split("|")] for line in text.splitlines() if "|" in line
    }
    assert lines["**flow**"][-3] == "never"  # a draw costs more than training
    assert lines["few steps of training"][-3] == f"{100 / 0.004:,.0f}"  # needs no zoo
    assert lines["SGLD"][-3] == f"{100 / 0.004:,.0f}"  # nor does this
    assert lines["full Gaussian"][-3] == f"{160 / 0.00499:,.0f}"
    assert lines["held-out"][-2] == lines["average network"][-2] == "–"
    assert lines["few steps of training"][-2] == "none"
    assert "beats" not in text


def test_the_figure_is_the_same_every_time(rows):
    table = audit_table(rows)
    assert audit_figure(table) == audit_figure(table)
    other = table.assign(test_nll=2 * table["test_nll"])
    assert audit_figure(other) != audit_figure(table)
