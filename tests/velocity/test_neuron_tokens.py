"""Neuron tokens are exactly equivariant, whatever the depth; and the checker notices a field that is not."""

from __future__ import annotations

import pytest
import torch

from tests.velocity.gradients import unfelt
from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations
from wflib.testing import assert_equivariant, assert_same_function
from wflib.velocity import NeuronTokens


def randomized(architecture) -> NeuronTokens:
    network = NeuronTokens(architecture, dimension=8, edge_dimension=4, layers=2, heads=2).double()
    random = generator(0, "parameters")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
    return network


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("canonical", [True, False])
@pytest.mark.parametrize("hidden", [[5], [5, 4], [4, 6, 3]])
def test_equivariance(hidden, canonical, bias):
    architecture = mlp([3, *hidden, 2], bias=bias)
    architecture = architecture.canonical_form("weights") if canonical else architecture
    network, random = randomized(architecture), generator(1, "points")
    x = torch.randn(4, architecture.dimension, generator=random, dtype=torch.float64)
    t = torch.tensor([0.0, 0.2, 0.5, 0.9], dtype=torch.float64)
    assert_equivariant(lambda point: network(point, t), architecture, x, random, 1e-10)
    assert (network(x, t) - network(x, t + 0.05)).abs().max() > 1e-6
    fixed = torch.nn.Linear(architecture.dimension, architecture.dimension).double()
    with pytest.raises(ValueError, match="equivariant"):
        assert_equivariant(fixed, architecture, x, random, 1e-10)


def test_every_part_of_every_parameter_matters():
    architecture = mlp([3, 4, 5, 2])
    x = torch.randn(3, architecture.dimension, dtype=torch.float64, generator=generator(0, "x"))
    t = torch.tensor([0.0, 0.4, 0.9], dtype=torch.float64)
    assert unfelt(randomized(architecture), x, t) == []
    # A bias of keys adds the same to all logits of a query, which the softmax ignores.
    biased = randomized(architecture)
    biased.layers[0].query_key_value = torch.nn.Linear(8, 24).double()
    assert unfelt(biased, x, t) == ["layers.0.query_key_value.bias"]


def test_identities_break_the_symmetry_and_fix_the_width():
    architecture = mlp([3, 4, 5, 2])
    network = NeuronTokens(architecture, 8, 4, 2, 2, identities=True).double()
    torch.nn.init.normal_(network.token_outputs[0].weight, generator=generator(0, "w"))
    x = torch.randn(4, architecture.dimension, generator=generator(0, "x"), dtype=torch.float64)
    with pytest.raises(ValueError, match="equivariant"):
        assert_equivariant(lambda p: network(p, torch.zeros(4).double()), architecture, x, generator(0, "p"))
    with pytest.raises(RuntimeError, match="positions"):
        NeuronTokens(mlp([3, 9, 5, 2]), 8, 4, 2, 2, identities=True).load_state_dict(network.state_dict())


def test_parameters_serve_other_widths():
    narrow, wide = randomized(mlp([3, 4, 2])), NeuronTokens(mlp([3, 9, 2]), 8, 4, 2, 2).double()
    wide.load_state_dict(narrow.state_dict())
    assert wide(torch.ones(1, mlp([3, 9, 2]).dimension, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)).shape == (
        1,
        56,
    )


@pytest.mark.parametrize("canonical", [True, False])
@pytest.mark.parametrize("hidden", [[5], [5, 4], [4, 6, 3]])
def test_what_looks_at_neuron_order_is_noticed(hidden, canonical):
    architecture = mlp([3, *hidden, 2])
    architecture = architecture.canonical_form("weights") if canonical else architecture
    network, random = randomized(architecture), generator(2, "points")
    x = torch.randn(4, architecture.dimension, generator=random, dtype=torch.float64)
    t = torch.full((4,), 0.3, dtype=torch.float64)
    slope = torch.linspace(0, 1e-6, architecture.dimension, dtype=torch.float64)
    assert_equivariant(lambda point: network(point, t), architecture, x, random)
    with pytest.raises(ValueError, match="equivariant"):
        assert_equivariant(lambda point: network(point, t) + slope, architecture, x, random)


def test_same_function_is_checked_network_by_network():
    architecture, random = mlp([3, 5, 4, 2]), generator(3, "networks")
    weights = architecture.unflatten(torch.randn(6, architecture.dimension, generator=random, dtype=torch.float64))
    inputs = torch.randn(9, 3, generator=random, dtype=torch.float64)
    moved = permute(Networks(architecture, weights), random_permutations(architecture, 6, random))
    assert_same_function(Networks(architecture, weights), moved, inputs, chunk=4)
    moved.weights["linear2.weight"] = moved.weights["linear2.weight"].clone()
    moved.weights["linear2.weight"][5] += 1e-3
    with pytest.raises(ValueError, match="1 of 6 networks"):
        assert_same_function(Networks(architecture, weights), moved, inputs, chunk=4)
    flipped = moved.weights | {"linear1.weight": moved.weights["linear1.weight"].flip(1)}  # one tensor alone is no symmetry
    with pytest.raises(ValueError, match="6 of 6 networks"):
        assert_same_function(Networks(architecture, weights), Networks(architecture, flipped), inputs)
