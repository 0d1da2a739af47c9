"""What knows perceptrons only says so of every other network, before it computes anything."""

from __future__ import annotations

import pytest
import torch

from tests.architecture.cases import CASES, random_inputs, random_weights, traced
from wflib.architecture import is_perceptron, mlp, require_perceptron
from wflib.evaluation.novelty import squared_distance_bound
from wflib.flow import Coordinates
from wflib.graph import neural_graph
from wflib.symmetry import activation_matching, mix, order_free_matching

OTHERS = [name for name in CASES if not is_perceptron(traced(name)[1])]


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_refused_by_their_operations(name):
    architecture = traced(name)[1]
    weights, one = random_weights(architecture), {}
    for call in (
        lambda: neural_graph(architecture),
        lambda: Coordinates(architecture),
        lambda: order_free_matching(architecture, weights, weights),
        lambda: activation_matching(architecture, weights, weights, random_inputs(architecture)),
        lambda: mix(architecture, weights, one),
        lambda: squared_distance_bound(architecture, weights, weights),
    ):
        with pytest.raises(ValueError, match=r"\w+: expected a perceptron, .* this network has "):
            call()


def test_perceptrons_are_not():
    assert len(OTHERS) > 15
    architecture = mlp([3, 4, 2])
    require_perceptron(architecture, "test")
    flat = torch.randn(2, architecture.dimension, generator=torch.Generator().manual_seed(0))
    weights = architecture.unflatten(flat)
    assert squared_distance_bound(architecture, weights, weights).diagonal().abs().max() < 1e-4
    assert len(neural_graph(architecture).edges) == 2
