"""Distances modulo permutation and scaling: zero on orbits, never above plain ones."""

from __future__ import annotations

import pytest
import torch

from tests.cases import random_weights
from wflib.architecture import mlp
from wflib.evaluation import DISTANCE_SCHEMA, distance_table, pairwise_distances
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations, random_scales, scale

MODULO = ["nothing", "permutation", "scaling", "permutation and scaling"]
NETWORKS = 6


def table(architecture, weights, **more):
    return distance_table(architecture, weights, 0, **more).set_index("modulo").distance


def orbit(architecture, moved: str):
    """One network and others that only its symmetries make different."""
    networks = {name: tensor.expand(NETWORKS, *tensor.shape[1:]) for name, tensor in random_weights(architecture, 1).items()}
    if "scaling" in moved:
        networks = scale(architecture, networks, random_scales(architecture, NETWORKS, generator(0), torch.float64))
    if "permutation" in moved:
        networks = permute(architecture, networks, random_permutations(architecture, NETWORKS, generator(1)))
    return networks


@pytest.mark.parametrize("activation", ["relu", "tanh", "identity"])
@pytest.mark.parametrize("moved", MODULO)
def test_distances_vanish_modulo_what_moved_the_networks(activation, moved):
    architecture = mlp([5, 6, 3], activation)
    distances = table(architecture, orbit(architecture, moved))
    for modulo in MODULO:
        removed = moved == "nothing" or all(part in modulo for part in moved.split(" and "))
        assert (float(distances[modulo].max()) < 1e-6) == removed, modulo


def test_matched_distances_are_never_above_plain_ones():
    architecture = mlp([4, 6, 5, 2])
    distances = table(architecture, random_weights(architecture, NETWORKS), restarts=2)
    for plain, matched in (MODULO[:2], MODULO[2:]):
        assert bool((distances[matched].to_numpy() <= distances[plain].to_numpy() + 1e-12).all())
        assert distances[matched].mean() < distances[plain].mean() - 0.1


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_plain_distances_are_those_of_flat_vectors(chunk):
    architecture = mlp([4, 3, 2])
    weights = random_weights(architecture, NETWORKS)
    flat = architecture.flatten(weights)
    torch.testing.assert_close(pairwise_distances(architecture, weights, chunk=chunk), torch.cdist(flat, flat))


def test_unrelated_networks_are_one_apart():
    architecture = mlp([40, 30, 20])
    found = distance_table(architecture, random_weights(architecture, NETWORKS), 0)
    assert list(found.columns) == list(DISTANCE_SCHEMA)
    assert found.groupby("modulo").size().tolist() == [NETWORKS * (NETWORKS - 1) // 2] * 4
    assert found[found.modulo == "nothing"].relative.tolist() == pytest.approx([1] * 15, abs=0.1)
    assert found[found.modulo == "permutation"].relative.max() < 1
