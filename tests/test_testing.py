"""The public checkers pass what is right and fail what is wrong."""

from __future__ import annotations

import pytest
import torch

from tests.cases import random_inputs, random_networks
from wflib.architecture import mlp
from wflib.rng import generator
from wflib.symmetry import canonicalize, permute, random_permutations
from wflib.testing import assert_equivariant, assert_invariant, assert_orbit_constant, assert_same_function

ARCHITECTURE = mlp([4, 6, 5, 3])
NETWORKS = random_networks(ARCHITECTURE, 5)
X = NETWORKS.flat


def test_same_function():
    permuted = permute(NETWORKS, random_permutations(ARCHITECTURE, 5, generator(0, "p")))
    inputs = random_inputs(ARCHITECTURE)
    assert_same_function(NETWORKS, permuted, inputs)
    bias = permuted.weights["linear2.bias"] + torch.tensor([0, 0, 1e-6, 0, 0]).view(5, 1)
    spoiled = permuted.with_weights({**permuted.weights, "linear2.bias": bias})
    with pytest.raises(ValueError, match="outputs of 1 of 5 networks differ"):
        assert_same_function(NETWORKS, spoiled, inputs)


def test_equivariant():
    assert_equivariant(lambda x: x**2 + x.mean(), ARCHITECTURE, X, generator(0, "p"))
    with pytest.raises(ValueError, match="expected an equivariant field"):
        assert_equivariant(lambda x: x * torch.arange(x.shape[1]), ARCHITECTURE, X, generator(0, "p"))


def test_invariant():
    assert_invariant(lambda x: x.square().sum(1), ARCHITECTURE, X, generator(0, "p"))
    with pytest.raises(ValueError, match="expected an invariant function"):
        assert_invariant(lambda x: x[:, 0], ARCHITECTURE, X, generator(0, "p"))


@pytest.mark.parametrize("activation", ["relu", "tanh", "identity", "gelu"])
@pytest.mark.parametrize("signs", [False, True])
def test_orbit_constant(activation, signs):
    architecture = mlp([4, 6, 5, 3], activation)
    networks, random = random_networks(architecture, 5), generator(0, "s")
    assert_orbit_constant(lambda one: canonicalize(one, signs=signs).networks, networks, random, signs)
    movable = activation in {False: ("relu", "identity"), True: ("relu", "tanh", "identity")}[signs]
    if movable:
        with pytest.raises(ValueError, match="expected one representative per orbit"):
            assert_orbit_constant(lambda one: one, networks, random, signs)
    if signs and activation in ("tanh", "identity"):
        with pytest.raises(ValueError, match="rescaling neurons changes linear1"):
            assert_orbit_constant(lambda one: canonicalize(one).networks, networks, random, signs)
