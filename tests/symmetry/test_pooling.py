"""Pools of coordinates: what permutations can exchange shares one, and nothing else does."""

from __future__ import annotations

import pytest
import torch

from tests.architecture.cases import CASES, traced
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, pooling_index, random_permutations


@pytest.mark.parametrize("name", CASES)
def test_pools_are_what_permutations_leave_together(name):
    architecture = traced(name)[1]
    index = pooling_index(architecture)
    networks = 200
    numbers = Networks.from_flat(architecture, torch.arange(architecture.dimension).expand(networks, -1))
    drawn = random_permutations(architecture, networks, generator(0, "drawn"))
    sources = permute(numbers, drawn).flat
    assert torch.equal(index[sources], index.expand(networks, -1))
    alone = torch.bincount(index)[index] == 1
    assert torch.equal((sources == sources[:1]).all(0), alone)
    assert torch.equal(pooling_index(architecture, identities=True), torch.arange(architecture.dimension))
