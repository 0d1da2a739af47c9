"""Agreement and total variation with a reference, by hand."""

from __future__ import annotations

import pytest
import torch

from wflib.evaluation import agreement, bayesian_model_average, total_variation

P = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [1.0, 0.0, 0.0]]).log()
Q = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]]).log()


def test_both_are_what_counting_gives():
    assert agreement(P, Q) == 0.5
    assert total_variation(P, Q) == pytest.approx((0.1 + 0.4 + 0.1 + 1.0) / 4)
    assert total_variation(Q, P) == pytest.approx(total_variation(P, Q))
    assert (agreement(P, P), total_variation(P, P)) == (1.0, 0.0)


def test_averages_of_probabilities_are_compared_not_single_networks():
    networks = torch.stack([P, Q])
    average = bayesian_model_average(networks)
    assert total_variation(average, P) == pytest.approx(total_variation(P, Q) / 2)
    with pytest.raises(ValueError, match=r"expected averaged log-probabilities \(examples, classes\)"):
        total_variation(networks, networks)
    with pytest.raises(ValueError, match="Shape mismatch"):
        agreement(P, Q[:2])
