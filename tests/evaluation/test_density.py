"""Ranking of groups by log-likelihood: known answers, ties, and what a useless or reversed density gives."""

from __future__ import annotations

import math

import pytest
import torch

from wflib.evaluation import density_table, ranking_quality
from wflib.rng import generator


@pytest.mark.parametrize(
    ("better", "worse", "quality"),
    [
        ([3.0, 4.0], [1.0, 2.0], 1.0),
        ([1.0, 2.0], [3.0, 4.0], 0.0),
        ([1.0, 3.0], [2.0, 2.0], 0.5),
        ([2.0, 2.0], [2.0, 2.0], 0.5),
        ([2.0, 5.0], [2.0, 1.0], 7 / 8),
        ([1.0], [0.0, 0.5, 2.0], 2 / 3),
    ],
)
def test_ranking_is_the_share_of_pairs(better, worse, quality):
    a, b = torch.tensor(better), torch.tensor(worse)
    assert ranking_quality(a, b) == pytest.approx(quality)
    pairs = ((a[:, None] > b).double() + (a[:, None] == b).double() / 2).mean().item()
    assert ranking_quality(a, b) == pytest.approx(pairs)


def test_ranking_of_gaussians_is_their_closed_form_and_of_one_distribution_a_half():
    values = torch.randn(2, 5_000, generator=generator(0, "values"), dtype=torch.float64)
    exact = torch.distributions.Normal(0, 1).cdf(torch.tensor(1.0) / 2**0.5).item()
    assert ranking_quality(values[0] + 1, values[1]) == pytest.approx(exact, abs=0.015)
    assert ranking_quality(values[0], values[1]) == pytest.approx(0.5, abs=0.015)
    assert ranking_quality(1e6 * values[0].exp(), 1e6 * values[1].exp()) == pytest.approx(0.5, abs=0.015)  # ranks only


def test_ranking_refuses_what_is_not_a_number():
    with pytest.raises(ValueError, match="NaN"):
        ranking_quality(torch.tensor([1.0, float("nan")]), torch.tensor([0.0]))


def test_the_table_has_moments_and_ranks_of_every_group():
    groups = {"real": torch.tensor([1.0, 3.0]), "noise": torch.tensor([-1.0, 0.0, 2.0])}
    table = density_table(groups, "real").set_index("networks")
    assert list(table.columns) == ["count", "log_likelihood_mean", "log_likelihood_std", "auc", "paired"]
    assert table.loc["real"].tolist() == pytest.approx([2, 2, 2**0.5, 0.5, math.nan], nan_ok=True)
    assert table.loc["noise"].tolist() == pytest.approx([3, 1 / 3, (7 / 3) ** 0.5, 5 / 6, math.nan], nan_ok=True)


def test_copies_are_ranked_against_their_own_originals():
    originals = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    groups = {"real": originals, "copy": originals - torch.tensor([0.5, 0.5, 0.5, -0.5])}
    table = density_table(groups, "real", ["copy"]).set_index("networks")
    assert table.paired["copy"] == pytest.approx(0.75)
    assert table.auc["copy"] == pytest.approx(9 / 16)  # between networks, the small change is hardly seen
