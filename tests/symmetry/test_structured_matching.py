"""Weight matching for networks of every kind: planted permutations are found."""

from __future__ import annotations

import pytest
import torch

from tests.architecture.cases import CASES, NETWORKS, change, random_weights, traced
from wflib.rng import generator
from wflib.symmetry import mix, permute, random_permutations, weight_matching


@pytest.mark.parametrize("references", [1, NETWORKS])
@pytest.mark.parametrize("name", CASES)
def test_planted_permutations_are_found(name, references):
    architecture = traced(name)[1]
    reference = random_weights(architecture, references)
    everywhere = {key: tensor.expand(NETWORKS, *tensor.shape[1:]) for key, tensor in reference.items()}
    hidden = random_permutations(architecture, NETWORKS, generator(0, "hide"))
    weights = permute(architecture, everywhere, hidden)
    for operation in architecture.operations:
        for statistic in operation.statistics:  # statistics are no part of the cost
            weights[statistic] = weights[statistic] * 100
    found = weight_matching(architecture, reference, weights, generator(0, "match"), restarts=8)
    back = permute(architecture, weights, found)
    learned = [key for key in weights if key not in architecture.statistics]
    assert all(torch.equal(back[key], everywhere[key]) for key in learned)


def test_matching_keeps_functions_and_refuses_no_descent():
    architecture = traced("transformer")[1]
    reference, weights = random_weights(architecture, 1), random_weights(architecture)
    found = weight_matching(architecture, reference, weights, generator(0, "match"))
    assert change(architecture, weights, permute(architecture, weights, found)) < 1e-10
    with pytest.raises(ValueError, match="restarts must be at least 1, got 0"):
        weight_matching(architecture, reference, weights, generator(0, "match"), restarts=0)


def test_mixing_refuses_other_networks():
    architecture = traced("residual")[1]
    with pytest.raises(ValueError, match="mix: expected a perceptron"):
        mix(architecture, random_weights(architecture), {})
