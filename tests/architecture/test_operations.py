"""Laws of every operation: what is derived preserves the function, and each tie is needed for it."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.architecture.cases import CASES, NETWORKS, change, random_inputs, random_networks, random_weights, traced
from wflib.architecture import Architecture
from wflib.architecture.derive import derive
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import compose, identity, inverse, permute, random_permutations, random_scales, scale

over_cases = pytest.mark.parametrize("name", CASES)
TOLERANCE = 1e-10


@cache
def case(name: str) -> Architecture:
    return traced(name)[1]


def moderate(scales):
    """Factors near one, with their signs, for which no variance becomes negative."""
    return {name: factor.sign() * factor.abs() ** 0.25 for name, factor in scales.items()}


@over_cases
def test_groups_are_those_that_are_known(name):
    architecture = case(name)
    sizes = {group.name: group.size for group in architecture.groups}
    found = [(sizes[g.parent], g.size) if g.parent else g.size for g in architecture.hidden_groups]
    assert sorted(map(str, found)) == sorted(map(str, CASES[name].groups))
    scalings = [(scaling.size, scaling.kind) for scaling in architecture.scalings]
    assert sorted(scalings) == sorted(CASES[name].scalings)


@over_cases
def test_networks_run_together_as_modules_run_alone(name):
    module, architecture = traced(name)
    weights, inputs = random_weights(architecture), random_inputs(architecture)
    outputs = architecture.forward(weights, inputs)
    rebuilt = architecture.module().double()
    assert set(rebuilt.state_dict()) == set(weights)
    for index in range(NETWORKS):
        alone = {key: tensor[index] for key, tensor in weights.items()}
        missing, unexpected = module.load_state_dict(alone, strict=False)
        assert not unexpected
        assert all(key.endswith(("num_batches_tracked", "places")) for key in missing)
        torch.testing.assert_close(module(inputs), outputs[index], rtol=TOLERANCE, atol=TOLERANCE)
        rebuilt.load_state_dict(alone)
        torch.testing.assert_close(rebuilt(inputs), outputs[index], rtol=TOLERANCE, atol=TOLERANCE)
    assert not torch.allclose(outputs[0], outputs[1])
    own = torch.stack([inputs, inputs + 1, inputs - 1])
    torch.testing.assert_close(architecture.forward(weights, own)[0], outputs[0], rtol=TOLERANCE, atol=TOLERANCE)


@over_cases
def test_text_describes_an_architecture_fully(name):
    architecture = case(name)
    assert Architecture.from_json(architecture.to_json()) == architecture
    weights = random_weights(architecture)
    assert change(Architecture.from_json(architecture.to_json()), weights, weights) == 0


@over_cases
def test_permutations_preserve_functions_and_each_tie_is_needed(name):
    architecture = case(name)
    networks = random_networks(architecture)
    everything = permute(networks, random_permutations(architecture, NETWORKS, generator(0, "all"))).weights
    assert change(architecture, networks.weights, everything) < TOLERANCE
    for group in architecture.hidden_groups:
        drawn = identity(architecture, NETWORKS) | {}
        alone = {group.name: drawn[group.name].roll(1, -1)}
        moved = permute(networks, alone).weights
        assert change(architecture, networks.weights, moved) < TOLERANCE
        touched = [key for key in networks.weights if not torch.equal(moved[key], networks.weights[key])]
        if group.size > 1:
            assert touched
            for key in touched:
                cut = moved | {key: networks.weights[key]}
                assert change(architecture, networks.weights, cut) > 1e-6, f"{group.name} does not need {key}"


@over_cases
def test_scalings_preserve_functions_and_each_tie_is_needed(name):
    architecture = case(name)
    networks = random_networks(architecture)
    factors = moderate(random_scales(architecture, NETWORKS, generator(0, "scales"), dtype=torch.float64))
    assert change(architecture, networks.weights, scale(networks, factors).weights) < TOLERANCE
    for scaling in architecture.scalings:
        moved = scale(networks, {scaling.name: factors[scaling.name]}).weights
        assert change(architecture, networks.weights, moved) < TOLERANCE
        touched = [key for key in networks.weights if not torch.equal(moved[key], networks.weights[key])]
        assert touched
        for key in touched:
            assert change(architecture, networks.weights, moved | {key: networks.weights[key]}) > 1e-6, (
                f"{scaling.name} does not need {key}"
            )


@over_cases
def test_permutations_form_a_group_that_weights_follow(name):
    architecture = case(name)
    networks = random_networks(architecture)
    first, second = (random_permutations(architecture, NETWORKS, generator(0, key)) for key in ("first", "second"))
    one_by_one = permute(permute(networks, first), second).weights
    both = permute(networks, compose(second, first, architecture)).weights
    assert all(torch.equal(both[key], one_by_one[key]) for key in networks.weights)
    back = permute(permute(networks, first), inverse(first, architecture)).weights
    assert all(torch.equal(back[key], networks.weights[key]) for key in networks.weights)


def test_nested_permutations_need_their_architecture():
    drawn = random_permutations(case("grouped"), NETWORKS, generator(0, "nested"))
    for act in (lambda: compose(drawn, drawn), lambda: inverse(drawn)):
        with pytest.raises(ValueError, match="parents; pass the architecture"):
            act()


def test_a_perceptron_is_asked_for_where_only_those_are_known():
    with pytest.raises(ValueError, match=r"expected a perceptron.*a convolution"):
        _ = case("convolution").layers
    with pytest.raises(ValueError, match=r"expected a perceptron.*`two` uses input"):
        _ = case("two-writers").layers


def test_variances_do_not_become_negative():
    architecture = case("batch-norm")
    weights, scaling = random_weights(architecture), architecture.scalings[0]
    factors = torch.full((NETWORKS, scaling.size), 1e4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"running_var would become negative.*smaller factors"):
        scale(Networks(architecture, weights), {scaling.name: factors})


def test_symmetries_are_derived_within_transforms_too():
    """What is looked for first while torch.func differentiates or vectorizes is what is found outside."""
    architecture = traced("convolution" if "convolution" in CASES else next(iter(CASES)))[1]
    sizes = []

    def seen(x):
        derive.cache_clear()
        sizes.append([group.size for group in architecture.groups])
        return x.square().sum()

    torch.func.grad(seen)(torch.ones(3))
    torch.func.vmap(seen)(torch.ones(2, 3))
    torch.func.jvp(seen, (torch.ones(3),), (torch.ones(3),))
    derive.cache_clear()
    assert sizes == [[group.size for group in architecture.groups]] * 3
