"""Canonical networks: the same function, one representative per orbit of positive scalings, and a way back."""

from __future__ import annotations

import pytest
import torch

from tests.cases import (
    ARCHITECTURES,
    LINEAR,
    TOLERANCE,
    copy_of,
    incoming,
    incoming_layer,
    largest_difference,
    random_networks,
    random_weights,
)
from wflib.architecture import NORMS, mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import canonicalize, decanonicalize, random_scales, scale
from wflib.symmetry.scaling import scaling_kind
from wflib.symmetry.writers import normalized_scalings

ALL = ARCHITECTURES | LINEAR
over_all = pytest.mark.parametrize("architecture", ALL.values(), ids=ALL)
over_norms = pytest.mark.parametrize("norm", NORMS)
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
@over_norms
def test_the_function_stays_the_same_there_and_back(architecture, norm):
    networks = random_networks(architecture)
    canonical = canonicalize(networks, norm)
    assert largest_difference(networks, canonical.networks) < TOLERANCE
    for record in (canonical.record, None):
        back = decanonicalize(canonical.networks, record)
        assert back.architecture == architecture
        assert largest_difference(networks, back) < TOLERANCE
    spoiled = {name: tensor * 1.01 for name, tensor in canonical.networks.weights.items()}
    assert largest_difference(networks, Networks(canonical.networks.architecture, spoiled)) > 1e-3


@over_all
@over_norms
def test_the_record_restores_the_weights(architecture, norm):
    weights = random_weights(architecture)
    canonical = canonicalize(Networks(architecture, weights), norm)
    back = decanonicalize(canonical.networks, canonical.record).weights
    assert distance(architecture, back, weights) < TOLERANCE
    assert set(canonical.record) == set(normalized_scalings(architecture))
    if canonical.record:
        without = decanonicalize(canonical.networks).weights
        assert distance(architecture, without, weights) > 1e-3


@over_all
@over_norms
def test_norms_are_one_where_they_should_be(architecture, norm):
    weights = random_weights(architecture)
    canonical = canonicalize(Networks(architecture, weights), norm)
    other = next(name for name in NORMS if name != norm)
    for group in architecture.hidden_groups:
        layer, positive = (
            incoming_layer(architecture, group.name),
            scaling_kind(architecture, group.name) in ("positive", "any"),
        )
        norms = incoming(layer, canonical.networks.weights, norm).norm(dim=-1)
        assert bool((norms - 1).abs().max() < TOLERANCE) == positive
        if positive and layer.bias is not None:
            assert (incoming(layer, canonical.networks.weights, other).norm(dim=-1) - 1).abs().max() > 1e-3
    last = incoming(architecture.layers[-1], canonical.networks.weights, norm).flatten(1).norm(dim=1)
    assert bool((last - 1).abs().max() < TOLERANCE) == (architecture.task_type == "classification")
    assert (canonical.networks.architecture.log_scale is None) == (architecture.task_type == "regression")
    assert canonical.networks.architecture.norm == norm
    assert canonical.zero_norm_neurons == canonical.nearly_dead_neurons == 0


@over_all
@over_norms
def test_canonicalizing_twice_changes_nothing_more(architecture, norm):
    weights = random_weights(architecture)
    once = canonicalize(Networks(architecture, weights), norm)
    twice = canonicalize(once.networks, norm)
    assert twice.networks.architecture == once.networks.architecture
    assert distance(once.networks.architecture, once.networks.weights, twice.networks.weights) < TOLERANCE
    for norms in twice.record.values():
        assert float((norms - 1).abs().max()) < TOLERANCE
    if once.record or architecture.task_type == "classification":
        assert any(float((once.networks.weights[name] - weights[name]).abs().max()) > 1e-3 for name in weights)


@over_all
@over_norms
def test_orbits_of_positive_scalings_have_one_representative(architecture, norm):
    networks = random_networks(architecture)
    here = canonicalize(networks, norm)
    there = canonicalize(scale(networks, positive_scales(architecture)), norm)
    assert distance(here.networks.architecture, here.networks.weights, there.networks.weights) < TOLERANCE


@over_all
@over_norms
def test_other_orbits_have_other_representatives(architecture, norm):
    weights = random_weights(architecture)
    here = canonicalize(Networks(architecture, weights), norm)
    for name in weights:
        moved = copy_of(weights)
        moved[name].flatten(1)[:, 0] += 0.1
        there = canonicalize(Networks(architecture, moved), norm)
        assert distance(here.networks.architecture, here.networks.weights, there.networks.weights) > 1e-3


@over_classifiers
def test_the_output_scale_is_the_norm_of_the_last_layer(depth):
    architecture = mlp([3, *[4] * depth, 2])
    weights = random_weights(architecture)
    canonical = canonicalize(Networks(architecture, weights))
    doubled = copy_of(weights)
    for name in (architecture.layers[-1].weight, architecture.layers[-1].bias):
        doubled[name] *= 2
    other = canonicalize(Networks(architecture, doubled))
    difference = other.networks.weights["log_scale"] - canonical.networks.weights["log_scale"]
    torch.testing.assert_close(difference.exp(), torch.full((NETWORKS,), 2.0, dtype=torch.float64))
    for name in weights:
        torch.testing.assert_close(other.networks.weights[name], canonical.networks.weights[name])


def test_dropping_the_output_scale_keeps_the_argmax_and_loses_the_temperature():
    architecture = mlp([3, 5, 4])
    weights = random_weights(architecture)
    canonical = canonicalize(Networks(architecture, weights))
    inputs = torch.randn(50, 3, generator=generator(0, "inputs"), dtype=torch.float64)
    full = architecture.forward(weights, inputs)
    ordinary = canonical.networks.architecture.ordinary_form()
    dropped = ordinary.forward({name: canonical.networks.weights[name] for name in weights}, inputs)
    assert torch.equal(full.argmax(-1), dropped.argmax(-1))
    assert not torch.allclose(full.softmax(-1), dropped.softmax(-1), atol=0.01)


@over_norms
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [0.0, 1e-310, 1e-302])
def test_neurons_without_a_norm_are_counted_and_left(activation, bias, size, norm):
    architecture = mlp([3, 5, 4, 2], activation, bias=bias)
    networks = Networks(architecture, copy_of(random_weights(architecture)))
    networks.weights["linear1.weight"][1, 2] = size
    networks.weights["linear2.weight"][0, :2] = 0
    if bias and norm == "weights-and-bias":
        networks.weights["linear1.bias"][1, 2] = size
        networks.weights["linear2.bias"][0, :2] = 0
    canonical = canonicalize(networks, norm)
    # Where 1 / norm overflows, or nearly, a norm counts as zero.
    assert canonical.zero_norm_neurons == canonical.nearly_dead_neurons == 3
    assert bool(torch.isfinite(canonical.networks.flat).all())
    assert torch.equal(canonical.networks.weights["linear1.weight"][1, 2], networks.weights["linear1.weight"][1, 2])
    assert canonical.record["hidden1"][1, 2] == 1
    assert largest_difference(networks, canonical.networks) < TOLERANCE
    back = decanonicalize(canonical.networks, canonical.record).weights
    assert distance(architecture, back, networks.weights) < TOLERANCE
    twice = canonicalize(canonical.networks, norm)
    assert twice.zero_norm_neurons == 3
    assert distance(canonical.networks.architecture, twice.networks.weights, canonical.networks.weights) < TOLERANCE


def test_a_small_norm_is_a_norm_and_is_counted():
    architecture = mlp([3, 5, 2])
    weights = copy_of(random_weights(architecture))
    weights["linear1.weight"][1, 2] *= 1e-100
    canonical = canonicalize(Networks(architecture, weights), "weights")
    assert canonical.zero_norm_neurons == 0
    assert canonical.nearly_dead_neurons == 1
    assert float(canonical.networks.weights["linear1.weight"][1, 2].norm()) == pytest.approx(1)


def test_neurons_are_nearly_dead_by_the_measure_of_their_own_layer_and_network():
    architecture = mlp([3, 5, 4, 2])
    weights = copy_of(random_weights(architecture))
    small = {name: 1e-6 * tensor for name, tensor in weights.items()}
    assert canonicalize(Networks(architecture, small)).nearly_dead_neurons == 0
    small["linear1.weight"][0] *= 1e6
    small["linear1.bias"][0] *= 1e6
    assert canonicalize(Networks(architecture, small)).nearly_dead_neurons == 0
    for name in ("linear1.weight", "linear1.bias"):
        small[name][0, 3] *= 1e-4
        small[name][1, 0] *= 1e-4
    assert canonicalize(Networks(architecture, small)).nearly_dead_neurons == 2


def test_only_the_joined_norm_keeps_nearly_dead_neurons_bounded():
    architecture = mlp([3, 5, 4, 2])
    weights = copy_of(random_weights(architecture))
    weights["linear1.weight"][:, 2] *= 1e-6
    largest = {
        norm: max(t.abs().max() for t in canonicalize(Networks(architecture, weights), norm).networks.weights.values())
        for norm in NORMS
    }
    assert largest["weights-and-bias"] < 10
    assert largest["weights"] > 1e4


@over_norms
def test_a_classifier_that_says_nothing_is_counted_and_left(norm):
    architecture = mlp([3, 5, 2])
    networks = Networks(architecture, copy_of(random_weights(architecture)))
    networks.weights["linear2.weight"][1] = 0
    if norm == "weights-and-bias":
        networks.weights["linear2.bias"][1] = 0
    canonical = canonicalize(networks, norm)
    assert canonical.zero_norm_neurons == 1
    assert canonical.networks.weights["log_scale"][1] == 0
    assert largest_difference(networks, canonical.networks) < TOLERANCE


def test_another_norm_and_half_precision_are_refused():
    architecture = mlp([3, 5, 2])
    networks = random_networks(architecture)
    with pytest.raises(ValueError, match="expected one of weights-and-bias, weights, got 'biases'"):
        canonicalize(networks, "biases")
    canonical = canonicalize(networks, "weights")
    with pytest.raises(ValueError, match="expected the norm weights that the networks have, got 'weights-and-bias'"):
        canonicalize(canonical.networks, "weights-and-bias")
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=f"expected float32 or float64.*these are {dtype}"):
            canonicalize(Networks(architecture, {name: tensor.to(dtype) for name, tensor in networks.weights.items()}))


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(ValueError, match="Shape mismatch"):
        canonicalize(Networks(mlp([3, 4, 2]), random_weights(mlp([3, 5, 2]))))


@over_norms
@pytest.mark.parametrize("size", [1e-200, 1e-155, 1e200])
def test_norms_whose_squares_leave_the_range_are_norms(norm, size):
    architecture = mlp([3, 4, 2])
    weights = copy_of(random_weights(architecture))
    for name in ("linear1.weight", "linear1.bias"):
        weights[name][:, 1] *= size
    weights["linear2.weight"][:, :, 1] /= size
    expected = canonicalize(random_networks(architecture), norm).networks.weights
    found = canonicalize(Networks(architecture, weights), norm)
    assert found.zero_norm_neurons == 0
    for name, tensor in expected.items():
        torch.testing.assert_close(found.networks.weights[name], tensor, rtol=1e-12, atol=1e-12)


@over_norms
def test_norms_too_large_for_their_product_are_named(norm):
    architecture = mlp([3, 4, 3, 2])
    weights = {name: 1e20 * tensor.float() for name, tensor in random_weights(architecture).items()}
    with pytest.raises(ValueError, match=r"canonicalize.*linear2.weight.*double precision"):
        canonicalize(Networks(architecture, weights), norm)
    assert torch.isfinite(
        canonicalize(Networks(architecture, {n: t.double() for n, t in weights.items()}), norm).networks.weights["log_scale"]
    ).all()
