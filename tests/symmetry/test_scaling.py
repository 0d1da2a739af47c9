"""Scalings of hidden neurons: exactly those that an activation commutes with."""

from __future__ import annotations

import pytest
import torch

from tests.cases import ARCHITECTURES, TOLERANCE, largest_difference, random_networks, random_weights
from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import random_scales, scale
from wflib.symmetry.scaling import scaling_kind

over_all = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
NETWORKS = 3
DOUBLE = torch.float64


def scales(architecture, name: str):
    return random_scales(architecture, NETWORKS, generator(0, name), dtype=DOUBLE)


def distance(architecture, a, b) -> float:
    return float((architecture.flatten(a) - architecture.flatten(b)).abs().max())


@over_all
def test_scaling_preserves_the_function(architecture):
    networks, factors = random_networks(architecture), scales(architecture, "a")
    scaled = scale(networks, factors)
    assert largest_difference(networks, scaled) < TOLERANCE
    trivial = all(scaling_kind(architecture, group.name) == "none" for group in architecture.hidden_groups)
    assert (distance(architecture, scaled.weights, networks.weights) < TOLERANCE) == trivial


@over_all
def test_an_uncoupled_scaling_changes_the_function(architecture):
    weights = random_weights(architecture)
    for group in architecture.hidden_groups:
        for layer in architecture.layers:
            if group.name in (layer.source, layer.target):
                uncoupled = weights | {layer.weight: weights[layer.weight] * 3}
                assert largest_difference(Networks(architecture, weights), Networks(architecture, uncoupled)) > 1e-3


@over_all
@pytest.mark.parametrize(("factor", "kinds"), [(2.0, {"positive", "any"}), (-1.0, {"sign", "any"}), (-2.0, {"any"})])
def test_only_admissible_factors_preserve_the_function(architecture, factor, kinds):
    networks = random_networks(architecture)
    for group in architecture.hidden_groups:
        factors = torch.full((NETWORKS, group.size), factor, dtype=DOUBLE)
        if scaling_kind(architecture, group.name) in kinds:
            scaled = scale(networks, {group.name: factors})
            assert largest_difference(networks, scaled) < TOLERANCE
            continue
        with pytest.raises(ValueError, match=f"{group.name}.*kind '{scaling_kind(architecture, group.name)}'"):
            scale(networks, {group.name: factors})
        forced = dict(networks.weights)
        for layer in architecture.layers:
            if layer.target == group.name:
                forced |= {name: forced[name] / factor for name in (layer.weight, layer.bias) if name}
            if layer.source == group.name:
                forced[layer.weight] = forced[layer.weight] * factor
        assert largest_difference(networks, Networks(architecture, forced)) > 1e-3


@over_all
def test_scalings_form_a_commutative_group(architecture):
    networks, a, b = (
        random_networks(architecture),
        scales(architecture, "a"),
        scales(architecture, "b"),
    )
    product = {name: a[name] * b[name] for name in a}
    both = scale(networks, product)
    assert distance(architecture, scale(scale(networks, a), b).weights, both.weights) < TOLERANCE
    assert distance(architecture, scale(scale(networks, b), a).weights, both.weights) < TOLERANCE
    back = scale(both, {name: 1 / factor for name, factor in product.items()}).weights
    assert distance(architecture, back, networks.weights) < TOLERANCE
    ones = {name: torch.ones_like(factor) for name, factor in a.items()}
    assert distance(architecture, scale(networks, ones).weights, networks.weights) == 0
    if any(scaling_kind(architecture, group.name) != "none" for group in architecture.hidden_groups):
        assert distance(architecture, both.weights, scale(networks, a).weights) > 1e-3


def test_factors_divide_what_enters_and_multiply_what_leaves():
    architecture = mlp([2, 3, 1])
    weights = random_weights(architecture, networks=1)
    scaled = scale(Networks(architecture, weights), {"hidden1": torch.tensor([[2.0, 1.0, 1.0]], dtype=DOUBLE)}).weights
    assert torch.equal(scaled["linear1.weight"][0, 0], weights["linear1.weight"][0, 0] / 2)
    assert scaled["linear1.bias"][0, 0] == weights["linear1.bias"][0, 0] / 2
    assert scaled["linear2.weight"][0, 0, 0] == weights["linear2.weight"][0, 0, 0] * 2
    assert torch.equal(scaled["linear1.weight"][0, 1:], weights["linear1.weight"][0, 1:])


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "identity"])
def test_factors_that_are_zero_or_not_finite_are_refused(value, activation):
    architecture = mlp([2, 3, 1], activation)
    factors = torch.ones(NETWORKS, 3, dtype=DOUBLE)
    assert scale(random_networks(architecture), {"hidden1": factors}).weights
    factors[1, 2] = value
    with pytest.raises(ValueError, match=r"hidden1.*finite"):
        scale(random_networks(architecture), {"hidden1": factors})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden2": torch.ones(NETWORKS, 3)}, "'hidden2' is no hidden group.*hidden1"),
        ({"output": torch.ones(NETWORKS, 1)}, "'output' is no hidden group.*hidden1"),
        ({"hidden1": torch.ones(NETWORKS, 2)}, r"hidden1 expected \(3, 3\), got \(3, 2\)"),
        ({"hidden1": torch.ones(3)}, r"hidden1 expected \(3, 3\), got \(3,\)"),
    ],
)
def test_factors_that_do_not_fit_are_refused(wrong, message):
    architecture = mlp([2, 3, 1])
    with pytest.raises(ValueError, match=message):
        scale(random_networks(architecture), wrong)
