"""The page's second table follows from its cells: distances from a reference, equal seconds, the front."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from wflib.report import (
    audit_splits,
    averages_figure,
    averages_with_costs,
    mixing_sentence,
    reference_distances,
    uncertainty_markdown,
    uncertainty_rows,
)
from wflib.report.audit_averages import on_the_front

SECONDS = {"flow": (90.0, 0.1), "sgld": (9.0, 1.0), "gaussian-full": (1.0, 0.5), "few-steps": (200.0, 1.0)}


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two seeds; a zoo of 200 s, half of it for networks to learn from."""
    found = []
    for model in ("held-out", "hmc", *SECONDS):
        fit, draw = SECONDS.get(model, (math.nan, math.nan))
        for seed in (0, 1):
            costs = {"fit_seconds": fit, "draw_seconds": draw, "zoo_seconds": 200.0}
            near = {"nearest_distance_mean": (10.0 if model == "held-out" else 5.0) * (1 + seed), "accuracy_mean": 0.9}
            found.append({"geometry": "euclidean", "model": model, "seed": seed, **costs, **near})
    return pd.DataFrame(found)


@pytest.fixture
def averages(rows) -> pd.DataFrame:
    scores = {name: 0.5 for name in ("brier", "accuracy", "ece", "selective_accuracy_80", "auroc_permuted")}
    models = rows[["geometry", "model", "seed"]].to_dict("records")
    return pd.DataFrame(
        [
            {**model, "averaged": count, "nll": 1 / count + model["seed"] + (model["model"] == "flow"), **scores}
            for count in (100, 1, 10, 20, 200)
            for model in models
        ]
    )


@pytest.fixture
def predictions(rows) -> pd.DataFrame:
    """Two examples, which HMC and the flow predict alike, and SGLD one of them otherwise."""
    sure, found = {"hmc": (0.9, 0.8), "flow": (0.9, 0.8), "sgld": (0.9, 0.3)}, []
    for seed in (1, 0):
        for model, shares in sure.items():
            for example, share in enumerate(shares):
                classes = {"log_probability_0": math.log(share), "log_probability_1": math.log(1 - share)}
                found.append({"geometry": "euclidean", "model": model, "seed": seed, "example": example, **classes})
    return pd.DataFrame(found)


def by_model(found: pd.DataFrame) -> pd.DataFrame:
    return found[found["seed"] == 0].set_index("model")


def test_a_model_agrees_with_itself_and_others_as_far_as_they_predict_alike(predictions):
    found = by_model(reference_distances(predictions))
    assert found.loc["hmc", ["agreement", "total_variation"]].tolist() == [1, 0]
    assert found.loc["flow", ["agreement", "total_variation"]].tolist() == [1, 0]
    assert found.loc["sgld", ["agreement", "total_variation"]].tolist() == pytest.approx([0.5, 0.25])
    other = by_model(reference_distances(predictions, "sgld"))
    assert other.loc["hmc", "total_variation"] == pytest.approx(0.25)
    assert other.loc["sgld", ["agreement", "total_variation"]].tolist() == [1, 0]
    assert reference_distances(predictions[predictions["model"] != "hmc"]).empty


def test_predictions_are_compared_in_the_order_of_examples_and_by_seed(predictions):
    mixed = predictions.sort_values(["model", "seed", "example"], ascending=[True, False, False])
    expected, found = by_model(reference_distances(predictions)), by_model(reference_distances(mixed))
    pd.testing.assert_frame_equal(found.sort_index(), expected.sort_index())
    one = predictions[(predictions["model"] != "hmc") | (predictions["seed"] == 1)]
    assert set(reference_distances(one)["seed"]) == {1}  # another seed is another split, and no reference


def test_equal_seconds_count_training_networks_only_where_a_model_learns_from_them(rows, averages, predictions):
    found = by_model(uncertainty_rows(averages_with_costs(rows, averages, share=0.5), predictions))
    # The flow: 100 s of training networks, 90 s of training, 10 s for 100 draws: 200 s.
    assert found["affordable"].drop(["held-out", "hmc"]).to_dict() == {
        "flow": 100,
        "sgld": 191,
        "gaussian-full": 198,
        "few-steps": 0,
    }
    assert found.loc["sgld", ["affordable_averaged", "affordable_nll"]].tolist() == [100, 0.01]
    assert math.isnan(found.loc["few-steps", "affordable_nll"])
    assert math.isnan(found.loc["held-out", "affordable"])
    assert found.loc["flow", ["nll_1", "nll_10", "nll"]].tolist() == [2, 1.1, 1.01]
    assert (found.loc["flow", "nll_excess"], found.loc["sgld", "nll_excess"]) == (1, 0)
    assert found.loc["flow", "novelty"] == 0.5
    without = uncertainty_rows(averages_with_costs(rows[rows["model"] != "flow"], averages, share=0.5), predictions)
    assert without["affordable"].isna().all()


def test_the_table_and_the_figure(rows, averages, predictions):
    joined = averages_with_costs(rows, averages, share=0.5)
    found = uncertainty_rows(joined, predictions)
    text = uncertainty_markdown(found)
    (line,) = [line for line in text.splitlines() if line.startswith("| **flow** |")]
    assert "| 2 | 2.50 ± 0.71 | 1.60 ± 0.71 | 1.51 ± 0.71 |" in line
    assert found[found["model"] == "flow"]["nll_excess"].tolist() == pytest.approx([1, 1])  # what seeds differ by is gone
    assert line.endswith("| 100 | 1.5100 (100) |")
    (line,) = [line for line in text.splitlines() if line.startswith("| few steps of training |")]
    assert line.endswith("| 0 | – |")
    assert "Agreement with HMC" not in uncertainty_markdown(found.assign(agreement=math.nan)).split("\n\n")[1]
    assert averages_figure(joined) == averages_figure(joined)
    assert averages_figure(joined) != averages_figure(joined.assign(nll=2 * joined["nll"]))


def test_the_front_is_what_nothing_beats_in_both():
    points = pd.DataFrame(
        {"novelty": [0.99, 1.3, 0.0, 0.5, 0.5], "accuracy_mean": [0.8, 0.7, 0.9, 0.85, 0.8]}, index=list("abcde")
    )
    assert on_the_front(points).to_dict() == {"a": True, "b": False, "c": True, "d": True, "e": False}


def test_chains_and_splits_in_words(rows):
    assert mixing_sentence(rows) == ""
    chains = {"r_hat": [1.01, 1.02], "effective_draws": [900.0, 400.0], "chain_draws": [4000, 4000]}
    hmc = rows[rows["model"] == "hmc"].assign(**chains)
    assert mixing_sentence(hmc).endswith("HMC R̂ 1.020, 400 effective draws of 4,000.")

    def cell(model: str, split: int | None) -> dict:
        return {"options": {"model": model}, "settings": {} if split is None else {"data": {"split": split}}}

    cells = [cell("hmc", 0), cell("flow", 0), cell("hmc", 1)]
    assert audit_splits([cell("hmc", 0), cell("flow", 0), cell("flow", None)]) == ""
    assert audit_splits([*cells, cell("flow", 1)]).endswith("losses of different splits are of different examples.")
    assert audit_splits(cells).endswith("Not on all of them, and so not like others: flow (0).")
