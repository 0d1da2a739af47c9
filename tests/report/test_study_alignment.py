"""Summaries of distances modulo symmetries."""

import math

import pandas as pd
import pytest

from wflib.report import measures_markdown, symmetry_summary


def test_means_over_pairs_and_over_nearest_networks():
    # Three networks on a line at 0, 1 and 3: nearest at 1, 1 and 2.
    distances = pd.DataFrame({"modulo": "nothing", "i": [0, 0, 1], "j": [1, 2, 2], "distance": [1.0, 3.0, 2.0]})
    closer = distances.assign(modulo="permutation", distance=distances.distance / 2)
    found = symmetry_summary(pd.concat([distances, closer])).set_index("modulo")
    assert found.distance_of_pairs.to_dict() == {"nothing": 2, "permutation": 1}
    assert found.distance_to_nearest.to_dict() == pytest.approx({"nothing": 4 / 3, "permutation": 2 / 3})
    assert "| nothing | 2 | 1.33 |" in measures_markdown(found.reset_index())


def test_measures_have_three_digits_settings_are_short_and_what_is_undefined_is_a_dash():
    table = pd.DataFrame({"way": ["a", "b"], "strength": [0.1, 2.0], "steps": [64, 8], "nll_mean": [0.12345, math.nan]})
    text = measures_markdown(table, "What it means.")
    assert text == (
        "| way | strength | steps | nll mean |\n| --- | --- | --- | --- |\n"
        "| a | 0.1 | 64 | 0.123 |\n| b | 2 | 8 | – |\n\nWhat it means.\n"
    )
    assert measures_markdown(table).endswith("| – |\n")
