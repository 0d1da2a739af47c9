"""Barriers, moments, spread, diversity and distances modulo symmetry of networks of every kind."""

from __future__ import annotations

import math

import pytest
import torch

from tests.architecture.cases import random_inputs
from tests.symmetry.kinds import BUILT, disguised, drawn
from wflib.evaluation import (
    MOMENT_SCHEMA,
    barrier_table,
    evaluate_networks,
    jensen_shannon_diversity,
    loss_barriers,
    symmetry_distances,
    tensor_moments,
    variance_ratio,
)
from wflib.networks import Networks, network_losses, predict
from wflib.rng import generator
from wflib.symmetry import permute, pooling_index, random_scales, scale, weight_matching
from wflib.tasks import Split
from wflib.zoo import Zoo

over_built = pytest.mark.parametrize("name", BUILT)
COPIES = 4


def copies(architecture):
    """One network again and again."""
    return {name: tensor[:1].expand(COPIES, *tensor.shape[1:]) for name, tensor in drawn(architecture).items()}


def examples(architecture) -> Split:
    inputs = random_inputs(architecture)
    return Split(inputs, torch.arange(len(inputs)) % 5)


@over_built
def test_matched_copies_have_no_barrier_and_others_do(name):
    architecture = BUILT[name]()
    same, inputs = copies(architecture), random_inputs(architecture)
    split = Split(
        inputs, architecture.forward(same, inputs)[0].argmax(-1)
    )  # what the network says, so that others are worse
    hidden = disguised(architecture, same)
    reference = {key: tensor[:1] for key, tensor in same.items()}
    back = permute(
        Networks(architecture, hidden),
        weight_matching(Networks(architecture, reference), Networks(architecture, hidden), generator(0, "m"), 6),
    )
    assert float(loss_barriers(back, split, points=3).maximal.max()) < 1e-9
    assert float(loss_barriers(Networks(architecture, hidden), split, points=3).maximal.max()) > 0.1
    assert len(barrier_table("unaligned", Networks(architecture, hidden), split, points=1)) == COPIES**2


def test_barriers_interpolate_statistics_too():
    architecture = BUILT["cnn-batch"]()
    weights, split = copies(architecture), examples(architecture)
    changed = weights | {
        key: weights[key] * torch.linspace(1, 4, COPIES, dtype=torch.float64)[:, None] for key in architecture.statistics
    }
    found = loss_barriers(Networks(architecture, changed), split, points=1).midpoint[0, -1]
    middle = {key: (tensor[:1] + tensor[-1:]) / 2 for key, tensor in changed.items()}
    torch.testing.assert_close(found, network_losses(Networks(architecture, middle), split)[0])
    assert abs(float(found - network_losses(Networks(architecture, weights), split)[0])) > 1e-3


@over_built
def test_moments_do_not_see_the_order_of_neurons_and_see_shifts(name):
    architecture = BUILT[name]()
    zoo = Networks(architecture, drawn(architecture, 30))
    same = tensor_moments("same", Networks(architecture, disguised(architecture, zoo.weights)), zoo)
    assert {column: str(dtype) for column, dtype in same.dtypes.items()} == MOMENT_SCHEMA
    assert list(same.tensor) == [key for key, _ in architecture.shapes]
    assert same["shift"].max() < 1e-6
    assert (same["spread"] - 1).abs().max() < 1e-6
    shifted = tensor_moments(
        "shifted", Networks(architecture, {key: 2 * tensor + 1 for key, tensor in zoo.weights.items()}), zoo
    )
    assert shifted["shift"].min() > 0.5
    assert (shifted["spread"] - 4).abs().max() < 1e-6
    assert int(pooling_index(architecture).max()) + 1 < architecture.dimension


@over_built
def test_predictions_diversity_and_spread(name):
    architecture = BUILT[name]()
    zoo, inputs = drawn(architecture, 6), random_inputs(architecture)
    hidden = disguised(architecture, copies(architecture))
    same, other = (predict(Networks(architecture, side), inputs, chunk=4) for side in (hidden, zoo))
    torch.testing.assert_close(other, architecture.forward(zoo, inputs).log_softmax(-1))
    none = predict(Networks(architecture, {key: tensor[:0] for key, tensor in zoo.items()}), inputs)
    assert none.shape == (0, len(inputs), 5)
    with pytest.raises(ValueError, match=r"expected inputs \(examples, 1, 8, 8\), got \(4, 64\)"):
        predict(Networks(architecture, zoo), inputs.flatten(1))
    assert jensen_shannon_diversity(same) < 1e-9
    assert 0.01 < jensen_shannon_diversity(other) < math.log(2)
    flat = architecture.flatten(zoo)
    assert variance_ratio(2 * flat, flat).mean == pytest.approx(4)


@over_built
def test_what_symmetries_explain_disappears(name):
    architecture = BUILT[name]()
    hidden = disguised(architecture, copies(architecture))
    scales = random_scales(architecture, COPIES, generator(0, "s"), torch.float64)
    scaled = scale(Networks(architecture, hidden), {key: factor.clamp(-1.2, 1.2) for key, factor in scales.items()}).weights
    for weights, modulo in ((hidden, "permutation"), (scaled, "permutation and scaling")):
        table = symmetry_distances(Networks(architecture, weights), generator(0, "match"), restarts=30)
        largest = table.groupby("modulo").distance.max()
        assert largest["nothing"] > 0.3
        assert largest[modulo] < 1e-5
        assert largest["permutation and scaling"] < 1e-5
    assert largest["permutation"] > 1e-2
    other = (
        symmetry_distances(Networks(architecture, drawn(architecture, COPIES)), generator(0, "match"))
        .groupby("modulo")
        .distance
    )
    assert other.min().min() > 0.2


def test_statistics_are_no_part_of_distances_modulo_symmetry():
    architecture = BUILT["cnn-batch"]()
    weights = copies(architecture)
    measured = {
        key: weights[key] * torch.linspace(1, 2, COPIES, dtype=torch.float64)[:, None] for key in architecture.statistics
    }
    table = (
        symmetry_distances(Networks(architecture, weights | measured), generator(0, "match"))
        .groupby("modulo")
        .distance.max()
    )
    assert table["nothing"] == table["permutation"] == 0


@over_built
def test_networks_of_a_zoo_are_evaluated_and_copies_seen(name):
    architecture = BUILT[name]()
    flat = architecture.flatten(drawn(architecture, 12))
    runs = torch.arange(12)
    zoo = Zoo(Networks.from_flat(architecture, flat), runs, runs, runs >= 6, "aligned")
    learned, unseen = zoo.training_part, zoo.held_out_part

    def evaluated(networks, trajectory=None, held_out=None):
        random, reference = generator(0, "evaluate"), zoo.networks[:1]
        return evaluate_networks(
            name, networks, examples(architecture), learned, 5, random, reference, trajectory=trajectory, unseen=held_out
        )[1]

    stolen = evaluated(Networks(architecture, disguised(architecture, learned.weights)), held_out=unseen)
    assert stolen["nearest_distance_mean"] < 1e-6
    assert stolen["copying_ratio"] < 0.2
    honest = evaluated(unseen.networks, unseen.trajectory)
    assert honest["nearest_distance_min"] > 3
    assert honest["diversity"] > 0.01
