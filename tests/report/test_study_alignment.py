"""Summaries of distances modulo symmetries."""

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
