"""What knows perceptrons only says so of every other network, before it computes anything."""

from __future__ import annotations

import pytest

from tests.architecture.cases import CASES, traced
from wflib.architecture import is_perceptron, mlp, require_perceptron
from wflib.flow import Coordinates
from wflib.graph import neural_graph

OTHERS = [name for name in CASES if not is_perceptron(traced(name)[1])]


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_refused_by_their_operations(name):
    architecture = traced(name)[1]
    for call in (lambda: neural_graph(architecture), lambda: Coordinates(architecture)):
        with pytest.raises(ValueError, match=r"\w+: expected a perceptron, .* this network has "):
            call()


def test_perceptrons_are_not():
    assert len(OTHERS) > 15
    architecture = mlp([3, 4, 2])
    require_perceptron(architecture, "test")
    assert len(neural_graph(architecture).edges) == 2
