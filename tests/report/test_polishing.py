"""How many steps from elsewhere a draw saves, and the figure of cost and quality."""

from __future__ import annotations

import pandas as pd

from wflib.report import polish_figure, saved_steps

STEPS = (0, 1, 2)


def rows(flow: list[float], prior: list[float]) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"start": name, "steps": STEPS, "seconds": [0.01, 0.02, 0.03], "nll_mean": nll, "variance_ratio": 1.1})
        for name, nll in (("flow", flow), ("prior", prior))
    ]
    return pd.concat(parts[::-1], ignore_index=True)


def test_the_fewest_steps_that_are_as_good_are_named():
    saved = saved_steps(rows([0.4, 0.3, 0.1], [0.9, 0.4, 0.2]), "flow", "prior", ("nll_mean",))
    assert saved.steps_from_the_flow.tolist() == [0, 1, 2]
    assert saved.from_the_prior_for_this_nll_mean.tolist() == ["1", "2", "more than 2"]
    nothing = saved_steps(rows([0.9, 0.4, 0.2], [0.9, 0.4, 0.2]), "flow", "prior", ("nll_mean",))
    assert nothing.from_the_prior_for_this_nll_mean.tolist() == ["0", "1", "2"]  # draws that save nothing


def test_the_figure_names_both_starts():
    figure = polish_figure(rows([0.4, 0.3, 0.1], [0.9, 0.4, 0.2]))
    assert figure.startswith(b"<?xml")
    for words in (b"flow", b"prior", b"cost of a network"):
        assert words in figure
