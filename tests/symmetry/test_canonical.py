"""Canonical networks: the same function, one representative per orbit of positive scalings, and a way back."""

from __future__ import annotations

import pytest
import torch

from tests.cases import ARCHITECTURES, LINEAR, TOLERANCE, copy_of, largest_difference, random_weights
from wflib.architecture import mlp
from wflib.rng import generator
from wflib.symmetry import canonicalize, decanonicalize, random_scales, scale
from wflib.symmetry.canonical import normalized_groups
from wflib.symmetry.scaling import incoming_layer, scaling_kind

ALL = ARCHITECTURES | LINEAR
over_all = pytest.mark.parametrize("architecture", ALL.values(), ids=ALL)
over_classifiers = pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
NETWORKS = 3


def distance(architecture, a, b) -> float:
    return float((architecture.flatten(a) - architecture.flatten(b)).abs().max())


def positive_scales(architecture):
    """Random factors along the orbit of positive scalings: other groups keep factor one."""
    drawn = random_scales(architecture, NETWORKS, generator(0, "scales"), dtype=torch.float64)
    kinds = {name: scaling_kind(architecture, name) for name in drawn}
    return {name: f.abs() if kinds[name] in ("positive", "any") else torch.ones_like(f) for name, f in drawn.items()}


@over_all
def test_the_function_stays_the_same_there_and_back(architecture):
    weights = random_weights(architecture)
    canonical = canonicalize(architecture, weights)
    assert largest_difference(architecture, weights, canonical.architecture, canonical.weights) < TOLERANCE
    for record in (canonical.record, None):
        ordinary, back = decanonicalize(canonical.architecture, canonical.weights, record)
        assert ordinary == architecture
        assert largest_difference(architecture, weights, architecture, back) < TOLERANCE
    spoiled = {name: tensor * 1.01 for name, tensor in canonical.weights.items()}
    assert largest_difference(architecture, weights, canonical.architecture, spoiled) > 1e-3


@over_all
def test_the_record_restores_the_weights(architecture):
    weights = random_weights(architecture)
    canonical = canonicalize(architecture, weights)
    _, back = decanonicalize(canonical.architecture, canonical.weights, canonical.record)
    assert distance(architecture, back, weights) < TOLERANCE
    assert set(canonical.record) == set(normalized_groups(architecture))
    if canonical.record:
        _, without = decanonicalize(canonical.architecture, canonical.weights)
        assert distance(architecture, without, weights) > 1e-3


@over_all
def test_norms_are_one_where_they_should_be(architecture):
    weights = random_weights(architecture)
    canonical = canonicalize(architecture, weights)
    for group in architecture.hidden_groups:
        norms = canonical.weights[incoming_layer(architecture, group.name).weight].norm(dim=-1)
        unit = bool((norms - 1).abs().max() < TOLERANCE)
        assert unit == (scaling_kind(architecture, group.name) in ("positive", "any"))
    last = canonical.weights[architecture.layers[-1].weight].flatten(1).norm(dim=1)
    assert bool((last - 1).abs().max() < TOLERANCE) == (architecture.task_type == "classification")
    assert (canonical.architecture.log_scale is None) == (architecture.task_type == "regression")
    assert canonical.zero_norm_neurons == 0


@over_all
def test_canonicalizing_twice_changes_nothing_more(architecture):
    weights = random_weights(architecture)
    once = canonicalize(architecture, weights)
    twice = canonicalize(once.architecture, once.weights)
    assert twice.architecture == once.architecture
    assert distance(once.architecture, once.weights, twice.weights) < TOLERANCE
    for norms in twice.record.values():
        assert float((norms - 1).abs().max()) < TOLERANCE
    if once.record or architecture.task_type == "classification":
        assert any(float((once.weights[name] - weights[name]).abs().max()) > 1e-3 for name in weights)


@over_all
def test_orbits_of_positive_scalings_have_one_representative(architecture):
    weights = random_weights(architecture)
    here = canonicalize(architecture, weights)
    there = canonicalize(architecture, scale(architecture, weights, positive_scales(architecture)))
    assert distance(here.architecture, here.weights, there.weights) < TOLERANCE


@over_all
def test_other_orbits_have_other_representatives(architecture):
    weights = random_weights(architecture)
    here = canonicalize(architecture, weights)
    for name in weights:
        moved = copy_of(weights)
        moved[name].flatten(1)[:, 0] += 0.1
        there = canonicalize(architecture, moved)
        assert distance(here.architecture, here.weights, there.weights) > 1e-3


@over_classifiers
def test_the_output_scale_is_the_norm_of_the_last_layer(depth):
    architecture = mlp([3, *[4] * depth, 2])
    weights = random_weights(architecture)
    canonical = canonicalize(architecture, weights)
    doubled = copy_of(weights)
    for name in (architecture.layers[-1].weight, architecture.layers[-1].bias):
        doubled[name] *= 2
    other = canonicalize(architecture, doubled)
    difference = other.weights["log_scale"] - canonical.weights["log_scale"]
    torch.testing.assert_close(difference.exp(), torch.full((NETWORKS,), 2.0, dtype=torch.float64))
    for name in weights:
        torch.testing.assert_close(other.weights[name], canonical.weights[name])


def test_dropping_the_output_scale_keeps_the_argmax_and_loses_the_temperature():
    architecture = mlp([3, 5, 4])
    weights = random_weights(architecture)
    canonical = canonicalize(architecture, weights)
    inputs = torch.randn(50, 3, generator=generator(0, "inputs"), dtype=torch.float64)
    full = architecture.forward(weights, inputs)
    ordinary = canonical.architecture.without_log_scale()
    dropped = ordinary.forward({name: canonical.weights[name] for name in weights}, inputs)
    assert torch.equal(full.argmax(-1), dropped.argmax(-1))
    assert not torch.allclose(full.softmax(-1), dropped.softmax(-1), atol=0.01)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [0.0, 1e-310, 1e-200])
def test_neurons_without_a_norm_are_counted_and_left(activation, bias, size):
    architecture = mlp([3, 5, 4, 2], activation, bias=bias)
    weights = copy_of(random_weights(architecture))
    weights["linear1.weight"][1, 2] = size
    weights["linear2.weight"][0, :2] = 0
    canonical = canonicalize(architecture, weights)
    # 1e-200 is small, and its square underflows, so its norm is zero too.
    assert canonical.zero_norm_neurons == 3
    assert bool(torch.isfinite(canonical.architecture.flatten(canonical.weights)).all())
    assert torch.equal(canonical.weights["linear1.weight"][1, 2], weights["linear1.weight"][1, 2])
    assert canonical.record["hidden1"][1, 2] == 1
    assert largest_difference(architecture, weights, canonical.architecture, canonical.weights) < TOLERANCE
    _, back = decanonicalize(canonical.architecture, canonical.weights, canonical.record)
    assert distance(architecture, back, weights) < TOLERANCE
    twice = canonicalize(canonical.architecture, canonical.weights)
    assert twice.zero_norm_neurons == 3
    assert distance(canonical.architecture, twice.weights, canonical.weights) < TOLERANCE


def test_a_small_norm_is_a_norm():
    architecture = mlp([3, 5, 2])
    weights = copy_of(random_weights(architecture))
    weights["linear1.weight"][1, 2] *= 1e-100
    canonical = canonicalize(architecture, weights)
    assert canonical.zero_norm_neurons == 0
    assert float(canonical.weights["linear1.weight"][1, 2].norm()) == pytest.approx(1)


def test_a_classifier_that_says_nothing_is_counted_and_left():
    architecture = mlp([3, 5, 2])
    weights = copy_of(random_weights(architecture))
    weights["linear2.weight"][1] = 0
    canonical = canonicalize(architecture, weights)
    assert canonical.zero_norm_neurons == 1
    assert canonical.weights["log_scale"][1] == 0
    assert largest_difference(architecture, weights, canonical.architecture, canonical.weights) < TOLERANCE


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(ValueError, match="Shape mismatch"):
        canonicalize(mlp([3, 4, 2]), random_weights(mlp([3, 5, 2])))
