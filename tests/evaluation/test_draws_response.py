"""Drawn networks measured against a zoo however it is aligned, and how answers of a conditioned flow follow wishes."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from tests.zoo.test_alignment import random_zoo
from wflib.evaluation import DrawQuality, response_summary, response_tenths, variance_ratio
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations
from wflib.tasks import Split


def split_for(zoo) -> Split:
    inputs = torch.randn(20, zoo.architecture.groups[0].size, generator=generator(0, "inputs"))
    return Split(inputs, torch.randint(2, (20,), generator=generator(0, "targets")))


def test_the_zoo_itself_has_the_ratio_one_in_whatever_order_its_neurons_come():
    zoo = random_zoo(runs=60)
    shuffled = permute(zoo.networks, random_permutations(zoo.architecture, len(zoo), generator(0, "p")))
    quality = DrawQuality(zoo, split_for(zoo), 0, networks=len(zoo))
    training = zoo.training_part.networks
    mixed = permute(training, random_permutations(zoo.architecture, len(training), generator(1, "p")))
    same, moved = quality(training), quality(mixed)
    assert same["variance_ratio"] == pytest.approx(1, abs=0.05)
    assert moved["variance_ratio"] == pytest.approx(1, abs=0.05)
    assert moved["nll_mean"] == pytest.approx(same["nll_mean"], rel=1e-5)
    unaligned = DrawQuality(replace(zoo, networks=shuffled), split_for(zoo), 0, networks=len(zoo))
    assert unaligned(mixed)["variance_ratio"] == pytest.approx(1, abs=0.1)
    half = training.map(lambda tensor: tensor.mean(0) + (tensor - tensor.mean(0)) / 2)
    assert quality(half)["variance_ratio"] < 0.5


def test_without_matching_the_ratio_would_say_something_else():
    zoo = random_zoo(runs=60)
    quality = DrawQuality(zoo, split_for(zoo), 0, networks=len(zoo))
    raw = variance_ratio(zoo.training_part.networks.flat, quality.training).mean
    assert raw > 1.05


def rows(count: int = 40) -> pd.DataFrame:
    asked = torch.linspace(1, 2, count)
    parts = []
    for strength, found in ((0.0, torch.rand(count, generator=generator(0, "found"))), (2.0, asked.square())):
        columns = {"strength": strength, "asked": asked.tolist(), "found": found.tolist(), "test_loss": (-found).tolist()}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts)


def test_the_summary_tells_answers_from_noise():
    summary = response_summary(rows()).set_index("strength")
    assert summary.rank_correlation[2.0] == pytest.approx(1)
    assert summary.rank_correlation_test[2.0] == pytest.approx(-1)
    assert abs(summary.rank_correlation[0.0]) < 0.4
    with_order_lost = response_summary(rows().sample(frac=1, random_state=0)).set_index("strength")
    assert with_order_lost.rank_correlation[2.0] == pytest.approx(1)


@pytest.mark.parametrize("count", [40, 25, 10, 3])
def test_tenths_are_even_and_ordered(count):
    tenths = response_tenths(rows(count))
    part = tenths[tenths.strength == 2]
    assert list(tenths.columns) == ["strength", "asked", "found", "found_std", "test_loss"]
    assert len(part) == min(count, 10)
    assert part.asked.is_monotonic_increasing
    whole = rows(count)
    if count % 10 == 0:
        assert part.found.mean() == pytest.approx(whole[whole.strength == 2].found.mean())
        assert part.asked.iloc[0] == pytest.approx(whole.asked.iloc[: count // 10].mean())
    assert math.isnan(part.found_std.iloc[0]) == (count <= 10)
