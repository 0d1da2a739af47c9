"""Distances modulo symmetries: what a group explains disappears, what it does not stays."""

from __future__ import annotations

import torch

from tests.cases import random_weights
from wflib.architecture import mlp
from wflib.evaluation import SYMMETRY_SCHEMA, symmetry_distances
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations, random_scales, scale

ARCHITECTURE = mlp([4, 6, 5, 3])


def disguised(scaled: bool, networks: int = 4):
    """Copies of one network in random neuron order, and rescaled if asked."""
    base = random_weights(ARCHITECTURE, 1)
    copies = {name: tensor.expand(networks, *tensor.shape[1:]) for name, tensor in base.items()}
    copies = permute(Networks(ARCHITECTURE, copies), random_permutations(ARCHITECTURE, networks, generator(0, "p"))).weights
    if scaled:
        copies = scale(
            Networks(ARCHITECTURE, copies), random_scales(ARCHITECTURE, networks, generator(0, "s"), torch.float64)
        ).weights
    return copies


def largest(weights) -> dict[str, float]:
    table = symmetry_distances(Networks(ARCHITECTURE, weights), generator(0, "match"), restarts=10, chunk=4)
    assert {column: str(dtype) for column, dtype in table.dtypes.items()} == SYMMETRY_SCHEMA
    assert len(table) == 3 * 6
    return table.groupby("modulo").distance.max().to_dict()


def test_permuted_copies_are_equal_modulo_permutation():
    found = largest(disguised(scaled=False))
    assert found["nothing"] > 0.5
    assert found["permutation"] < 1e-6
    assert found["permutation and scaling"] < 1e-6


def test_rescaled_copies_are_equal_modulo_scaling_only():
    found = largest(disguised(scaled=True))
    assert found["permutation"] > 0.3
    assert found["permutation and scaling"] < 1e-6


def test_different_networks_stay_different():
    found = largest(random_weights(ARCHITECTURE, 4))
    assert found["permutation and scaling"] > 0.3
    assert 0.3 < found["permutation"] < found["nothing"]
