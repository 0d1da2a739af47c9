"""What is found is a symmetry, and what is a symmetry is found, where parts of a network look alike and are not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.architecture.cases import NETWORKS, random_inputs, random_networks
from tests.symmetry.lookalikes import LOOKALIKES
from wflib.architecture import Architecture
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import (
    canonicalize,
    decanonicalize,
    identity,
    inverse,
    mix,
    permute,
    random_permutations,
    random_scales,
    scale,
)

over_all = pytest.mark.parametrize("name", LOOKALIKES)
TOLERANCE = 1e-10
DOUBLE = torch.float64


def networks_of(name: str) -> Networks:
    """Random networks of a case, in float64."""
    case = LOOKALIKES[name]
    module = case.module().double().eval()
    return random_networks(Architecture.from_module(module, torch.zeros(1, *case.inputs, dtype=DOUBLE)))


def moved(networks: Networks, other: Networks) -> float:
    """How far outputs are apart, relative to the largest."""
    inputs = random_inputs(networks.architecture)
    before, after = (side.architecture.forward(side.weights, inputs) for side in (networks, other))
    return float((before - after).abs().max() / before.abs().max())


@over_all
def test_groups_and_scalings_are_those_that_there_are(name):
    architecture = networks_of(name).architecture
    sizes = {group.name: group.size for group in architecture.groups}
    found = [(sizes[g.parent], g.size) if g.parent else g.size for g in architecture.hidden_groups]
    assert sorted(map(str, found)) == sorted(map(str, LOOKALIKES[name].groups))
    scalings = [(scaling.size, scaling.kind) for scaling in architecture.scalings]
    assert sorted(scalings) == sorted(LOOKALIKES[name].scalings)


@over_all
def test_permuting_keeps_functions(name):
    networks = networks_of(name)
    orders = identity(networks.architecture, NETWORKS)
    for group, order in orders.items():
        assert moved(networks, permute(networks, {group: order.roll(1, -1)})) < TOLERANCE, group
    random = random_permutations(networks.architecture, NETWORKS, generator(0, "orders"))
    permuted = permute(networks, random)
    assert moved(networks, permuted) < TOLERANCE
    for before, after in zip(networks.weights.values(), permuted.weights.values(), strict=True):
        torch.testing.assert_close(before.flatten(1).sort(1).values, after.flatten(1).sort(1).values, rtol=0, atol=0)
    back = permute(permuted, inverse(random, networks.architecture))
    assert torch.equal(back.flat, networks.flat)
    matrices = {group: functional.one_hot(order, order.shape[-1]).double() for group, order in random.items()}
    assert torch.equal(mix(networks, matrices).flat, permuted.flat)


@over_all
def test_scaling_keeps_functions(name):
    networks = networks_of(name)
    factors = random_scales(networks.architecture, NETWORKS, generator(0, "factors"), dtype=DOUBLE)
    assert moved(networks, scale(networks, factors)) < TOLERANCE
    for scaling, factor in factors.items():
        assert moved(networks, scale(networks, {scaling: factor})) < TOLERANCE, scaling


@over_all
@pytest.mark.parametrize("norm", ["weights-and-bias", "weights"])
@pytest.mark.parametrize("signs", [False, True])
def test_canonical_networks_compute_the_same(name, norm, signs):
    networks = networks_of(name)
    found = canonicalize(networks, norm, signs)
    assert moved(networks, found.networks) < TOLERANCE
    back = decanonicalize(found.networks, found.record)
    assert float((back.flat - networks.flat).abs().max()) < TOLERANCE


@over_all
def test_what_only_looks_like_a_symmetry_changes_functions(name):
    networks = networks_of(name)
    other = networks.with_weights(LOOKALIKES[name].wrong(dict(networks.weights)))
    assert moved(networks, other) > 1e-3
