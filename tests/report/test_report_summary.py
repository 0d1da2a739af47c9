"""Sentences follow the numbers: each flips when its number does."""

import numpy as np
import pytest

from wflib.report import summary


def sentence(data, start):
    found = [text for text in summary(data) if start in text]
    assert len(found) == 1, (start, summary(data))
    return found[0]


# a word of the sentence, source and column to change, then value → what it must say
CASES = [
    (
        "Samples reach",
        "samples",
        "accuracy_mean",
        {0.960: "below (worse than)", 0.990: "above (better than)", 0.983: "equal to"},
    ),
    ("Their mean negative", "samples", "nll_mean", {0.130: "above (worse than)", 0.050: "below (better than)"}),
    (
        "simpler models",
        "samples",
        "nll_mean",
        {0.140: "0.140: the samples beat it", 0.160: "0.160: the samples do not beat it"},
    ),
    (
        "simpler models",
        "gaussian-full",
        "accuracy_mean",
        {0.9: "accuracy is the average", 0.999: "accuracy is the full Gaussian"},
    ),
    ("Averaging", "samples", "bma_nll", {0.1: "lowers", 0.2: "does not lower"}),
    ("Averaging", "zoo", "bma_nll", {0.05: "above (worse than)", 0.2: "below (better than)"}),
    (
        "variance",
        "samples",
        "variance_ratio",
        {1.04: "inside 0.8 to 1.2", 0.79: "below 0.8 to 1.2", 1.21: "above 0.8 to 1.2"},
    ),
    ("their diversity", "samples", "diversity", {0.013: "above the zoo's", 0.001: "below the zoo's"}),
    ("largest shift", "samples", "mean_shift", {0.37: "no tensor is far off", 0.38: "a tensor is off, whatever"}),
    (
        "distance",
        "samples",
        "nearest_distance_min",
        {11.6: "no smaller than", 5.7: "the closest is at 5.700 (11.500): some are copies"},
    ),
    (
        "distance",
        "samples",
        "nearest_distance_mean",
        {12.3: "no smaller than", 12.1: "within two standard errors", 11.9: "is 11.900 ± 0.037 on average, smaller than"},
    ),
    ("errors", "samples", "error_overlap_mean", {0.37: "no more than", 0.6: "a sign of copying or"}),
]


@pytest.mark.parametrize(("start", "source", "column", "readings"), CASES)
def test_sentences_flip_with_their_numbers(change_group, start, source, column, readings):
    for value, reading in readings.items():
        text = sentence(change_group(source, **{column: value}), start)
        assert reading in text
        assert not [other for other in readings.values() if other != reading and other in text]


def test_shifts_are_judged_by_held_out_networks_too(change_group):
    data = change_group("samples", mean_shift=0.5)
    assert "a tensor is off" in sentence(data, "largest shift")
    data.groups.loc[data.groups["source"] == "held-out", "mean_shift"] = 0.3
    assert "no tensor is far off" in sentence(data, "largest shift")


def test_samples_that_lie_too_close_are_copies_only_where_held_out_networks_are_further(change_group):
    data = change_group("samples", nearest_distance_mean=11.9)
    for ratio, reading in ((1.001, "a lack of spread, no copying"), (0.95, "a sign of copying"), (np.nan, "may be copying")):
        data.groups.loc[data.groups["source"] == "samples", "copying_ratio"] = ratio
        assert reading in sentence(data, "The distance")


def test_numbers_of_the_summary_are_those_of_the_tables(run):
    assert "0.960 ± 0.011" in sentence(run, "Samples reach")
    assert "0.983 ± 0.011" in sentence(run, "Samples reach")


def test_noise_around_training_networks_is_no_simpler_model_to_beat(change_group):
    assert "training + noise" not in sentence(change_group("training-noise", accuracy_mean=1.0), "simpler models")


def test_alignment_and_guidance_flip(run, make_run):
    assert "lowers the mean loss barrier" in sentence(run, "Alignment")
    swapped = run.barriers.replace({"stage": {"aligned": "unaligned", "unaligned": "aligned"}})
    assert "raises the mean loss barrier" in sentence(make_run(barriers=swapped), "Alignment")
    assert " lowers" in sentence(run, "Guidance")
    worse = run.curve.assign(nll_mean=run.curve["nll_mean"] + 10 * run.curve["guidance"])
    assert "does not lower" in sentence(make_run(curve=worse), "Guidance")


def test_guidance_is_compared_at_a_number_of_steps_both_have(run, make_run):
    curve = run.curve[(run.curve["guidance"] == 0) | (run.curve["steps"] <= 16)]
    assert "16 steps" in sentence(make_run(curve=curve), "Guidance")


def test_sentences_without_numbers_are_left_out(run, make_run):
    groups = run.groups[run.groups["source"].isin(["samples", "zoo"])].assign(
        accuracy_mean=np.nan, nearest_distance_mean=np.nan, mean_shift=np.nan
    )
    curve = run.curve[run.curve["guidance"] == 0]
    text = " ".join(summary(make_run(groups=groups, curve=curve, barriers=run.barriers.head(0), stages=run.stages.head(0))))
    assert text.startswith("Their mean negative")
    assert "nan" not in text
    for word in ("mean accuracy", "simpler models", "nearest", "shift", "Alignment", "Guidance", "stages"):
        assert word not in text


def test_an_overlap_above_held_out_networks_is_copying_only_beyond_chance(change_group):
    for overlap, reading in ((0.48, "no more than"), (0.53, "within two standard errors"), (0.56, "a sign of copying or")):
        assert reading in sentence(change_group("samples", error_overlap_mean=overlap), "errors overlap")
