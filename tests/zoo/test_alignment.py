"""Aligning a whole zoo: every method keeps functions, references are what they say, killed runs go on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wflib.architecture import mlp
from wflib.config import AlignConfig
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations, squared_distance
from wflib.testing import assert_same_function
from wflib.zoo import Dataset, Split, Zoo, align_zoo, network_losses

ARCHITECTURE = mlp([5, 6, 4, 3])
TRAJECTORIES, SNAPSHOTS = 7, 3
METHODS = ["none", "weight-matching", "activation-matching", "sinkhorn"]


def settings(**changes) -> AlignConfig:
    values = {
        "seed": 0,
        "method": "weight-matching",
        "objective": "l2",
        "reference": "first",
        "restarts": 3,
        "iterations": 20,
    }
    return AlignConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    random = generator(0, "data")

    def split(count: int) -> Split:
        inputs = torch.randn(count, 5, generator=random, dtype=torch.float64)
        return Split(inputs, torch.randint(0, 3, (count,), generator=random))

    return Dataset("toy", "classification", 3, split(60), split(30), split(30))


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    """Networks that are one network plus noise, each trajectory in a neuron order of its own; the last one is held out."""
    random, count = generator(0, "zoo"), TRAJECTORIES * SNAPSHOTS
    base = torch.randn(1, ARCHITECTURE.dimension, generator=random, dtype=torch.float64)
    flat = base + 0.05 * torch.randn(count, ARCHITECTURE.dimension, generator=random, dtype=torch.float64)
    trajectory = torch.arange(TRAJECTORIES).repeat_interleave(SNAPSHOTS)
    order = {k: v[trajectory] for k, v in random_permutations(ARCHITECTURE, TRAJECTORIES, random).items()}
    weights = permute(ARCHITECTURE, ARCHITECTURE.unflatten(flat), order)
    step = torch.arange(SNAPSHOTS).repeat(TRAJECTORIES)
    return Zoo(ARCHITECTURE, weights, trajectory, step, trajectory == TRAJECTORIES - 1, "trained")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reference", ["first", "best", "medoid", "mean"])
def test_functions_stay_and_orders_agree(zoo, dataset, method, reference):
    aligned = align_zoo(zoo, settings(method=method, reference=reference), dataset)
    assert_same_function(ARCHITECTURE, zoo.weights, ARCHITECTURE, aligned.weights, dataset.test.inputs)
    spread = squared_distance(ARCHITECTURE, aligned.reference, aligned.weights).max()
    # Twice the noise is far below the distance between neurons in different orders.
    assert (float(spread) < 4 * 0.05**2 * ARCHITECTURE.dimension) == (method != "none")
    for indices in aligned.permutations.values():
        assert bool((indices.view(TRAJECTORIES, SNAPSHOTS, -1) == indices.view(TRAJECTORIES, SNAPSHOTS, -1)[:, :1]).all())


@pytest.mark.parametrize("objective", ["midpoint", "random-point"])
def test_sinkhorn_lowers_the_loss_at_the_midpoint(zoo, dataset, objective):
    def midpoint_loss(aligned):
        last = aligned.last_snapshots
        between = {k: (aligned.reference[k] + v) / 2 for k, v in last.weights.items()}
        return network_losses(ARCHITECTURE, between, dataset.train)

    before = midpoint_loss(align_zoo(zoo, settings(), dataset))
    aligned = align_zoo(zoo, settings(method="sinkhorn", objective=objective), dataset)
    assert_same_function(ARCHITECTURE, zoo.weights, ARCHITECTURE, aligned.weights, dataset.test.inputs)
    after = midpoint_loss(aligned)
    assert bool((after <= before + 1e-12).all())
    assert bool((after < before - 1e-3).any())


def test_references_are_what_they_say(zoo, dataset):
    last = zoo.last_snapshots[~zoo.last_snapshots.held_out]
    found = {kind: align_zoo(zoo, settings(reference=kind), dataset) for kind in ("first", "best", "medoid", "mean")}
    best = int(network_losses(ARCHITECTURE, last.weights, dataset.validation).argmin())
    for kind, index in (("first", 0), ("best", best)):
        assert torch.equal(found[kind].reference["linear1.weight"], last.weights["linear1.weight"][index : index + 1])
    mean = found["mean"]
    kept = mean.last_snapshots[~mean.last_snapshots.held_out]
    assert torch.allclose(mean.reference["linear2.weight"][0], kept.weights["linear2.weight"].mean(0))
    distance = {
        kind: squared_distance(ARCHITECTURE, a.reference, a.last_snapshots.training_part.weights).mean()
        for kind, a in found.items()
    }
    assert distance["mean"] == min(distance.values())


def test_test_examples_and_held_out_networks_decide_nothing(zoo, dataset):
    config = settings(method="sinkhorn", objective="midpoint", reference="mean")
    expected = align_zoo(zoo, config, dataset).permutations
    spoiled = replace(dataset, test=Split(dataset.test.inputs * torch.nan, dataset.test.targets))
    assert all(torch.equal(align_zoo(zoo, config, spoiled).permutations[k], v) for k, v in expected.items())
    other = replace(
        zoo, weights={k: torch.where(zoo.held_out.view(-1, *[1] * (v.ndim - 1)), v + 1, v) for k, v in zoo.weights.items()}
    )
    moved = align_zoo(other, config, dataset)
    assert all(torch.equal(moved.permutations[k][~zoo.held_out], v[~zoo.held_out]) for k, v in expected.items())
    trained = replace(dataset, train=Split(-dataset.train.inputs, dataset.train.targets.flip(0)))
    by_activations = settings(method="activation-matching")
    same = [align_zoo(zoo, by_activations, part).permutations for part in (dataset, trained)]
    assert all(torch.isfinite(v.double()).all() for part in same for v in part.values())


def test_a_killed_run_goes_on(zoo, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("wflib.zoo.alignment.CHUNK", 2)
    config, calls = settings(), []

    def stop(what: str, done: int, chunks: int) -> None:
        calls.append((done, chunks))
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align_zoo(zoo, config, dataset, stop, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    resumed = align_zoo(zoo, config, dataset, checkpoints=tmp_path)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
    assert all(torch.equal(resumed.permutations[k], v) for k, v in align_zoo(zoo, config, dataset).permutations.items())
