"""Moments tensor by tensor: what is shifted or spread is named, and nothing else is."""

from __future__ import annotations

import math

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import tensor_moments, variance_ratio
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations

ARCHITECTURE = mlp([4, 6, 5, 3]).canonical_form("weights")


def networks(count: int, name: str) -> dict[str, torch.Tensor]:
    return ARCHITECTURE.unflatten(torch.randn(count, ARCHITECTURE.dimension, generator=generator(0, "moments", name)))


def by_tensor(samples, zoo) -> dict[str, tuple[float, float]]:
    table = tensor_moments("samples", Networks(ARCHITECTURE, samples), Networks(ARCHITECTURE, zoo)).set_index("tensor")
    return {str(name): (row["shift"], row["spread"]) for name, row in table.iterrows()}


def test_one_distribution_has_no_shift_and_the_spread_of_the_zoo():
    found = by_tensor(networks(2000, "samples"), networks(3000, "zoo"))
    assert list(found) == list(ARCHITECTURE.slices)
    for shift, spread in found.values():
        assert shift < 4 * math.sqrt(1 / 2000 + 1 / 3000)
        assert spread == pytest.approx(1, abs=0.12)


def test_the_tensor_that_is_wrong_is_named_even_where_the_overall_ratio_sees_nothing():
    zoo, samples = networks(3000, "zoo"), networks(2000, "samples")
    right = by_tensor(samples, zoo)
    samples["log_scale"] = 0.5 * samples["log_scale"] - 1.3
    samples["linear2.bias"] = samples["linear2.bias"] + 0.7
    found = by_tensor(samples, zoo)
    assert found["log_scale"][0] == pytest.approx(1.3, abs=0.1)
    assert found["log_scale"][1] == pytest.approx(0.25, abs=0.05)
    assert found["linear2.bias"][0] == pytest.approx(0.7, abs=0.05)
    assert {name: found[name] for name in found if name not in ("log_scale", "linear2.bias")} == {
        name: right[name] for name in right if name not in ("log_scale", "linear2.bias")
    }
    flat = (ARCHITECTURE.flatten(side) for side in (samples, zoo))
    assert variance_ratio(*flat).mean == pytest.approx(1, abs=0.03)


def test_the_order_of_neurons_does_not_enter():
    zoo, samples = networks(50, "zoo"), networks(40, "samples")
    shuffled = permute(Networks(ARCHITECTURE, samples), random_permutations(ARCHITECTURE, 40, generator(0, "order"))).weights
    expected = by_tensor(samples, zoo)
    for name, moments in by_tensor(shuffled, zoo).items():
        assert moments == pytest.approx(expected[name], rel=1e-9)


def test_tensors_without_variance_are_undefined_and_other_architectures_refused():
    zoo = networks(5, "zoo")
    zoo["log_scale"] = torch.ones(5)
    assert math.isnan(by_tensor(networks(5, "samples"), zoo)["log_scale"][0])
    with pytest.raises(ValueError, match="log_scale"):
        tensor_moments(
            "samples", Networks(ARCHITECTURE, mlp([4, 6, 5, 3]).unflatten(torch.randn(5, 83))), Networks(ARCHITECTURE, zoo)
        )
