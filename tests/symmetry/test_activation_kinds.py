"""Activation matching of networks of every kind: channels, tokens, heads with their widths."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.architecture.cases import change, random_inputs
from tests.symmetry.kinds import BUILT, KINDS, NETWORKS, disguised, drawn, equal
from wflib.architecture import neuron_places
from wflib.symmetry import activation_matching, permute, random_permutations
from wflib.symmetry import activation_matching as function
from wflib.rng import generator

over_kinds = pytest.mark.parametrize("name", KINDS)


def repeated(weights):
    return {name: tensor[:1].expand(NETWORKS, *tensor.shape[1:]) for name, tensor in weights.items()}


@over_kinds
@pytest.mark.parametrize("examples", [1, 4])
def test_planted_permutations_are_found_exactly(name, examples):
    architecture = KINDS[name]()
    weights = repeated(drawn(architecture))
    hidden = disguised(architecture, weights)
    assert not equal(hidden, weights)
    inputs = random_inputs(architecture)[:examples]
    found = activation_matching(architecture, {n: t[:1] for n, t in weights.items()}, hidden, inputs, chunk=2)
    back = permute(architecture, hidden, found)
    # Neurons that never fire may be exchanged; what weights read of them does not change the function.
    assert change(architecture, weights, back) < 1e-10
    if examples > 1 and name in {"vit", "transformer", "cnn-batch", "layer-norm", "group-norm", "relative-positions"}:
        assert equal(back, weights)


@over_kinds
def test_activations_move_with_their_neurons(name):
    """The places found are those of the neurons: permuting a network permutes what lies there, and nothing else does."""
    architecture = KINDS[name]()
    weights = drawn(architecture)
    order = random_permutations(architecture, NETWORKS, generator(0, "order"))
    known = neuron_places(architecture.inputs, architecture.shapes, architecture.operations)
    parents = {group.name: group.parent for group in architecture.hidden_groups}
    inputs = random_inputs(architecture)
    from wflib.symmetry.activation_matching import firing

    before, after = (firing(architecture, side, inputs, known) for side in (weights, permute(architecture, weights, order)))
    for group, values in before.items():
        moved = values
        if parents[group] is not None:
            index = order[parents[group]][:, None, :, None, None].expand_as(values)
            moved = moved.gather(2, index)
        axis = moved.ndim - 2
        index = order[group].unsqueeze(1).unsqueeze(-1).expand_as(moved)
        torch.testing.assert_close(after[group], moved.gather(axis, index))
        assert not torch.allclose(after[group], values)
