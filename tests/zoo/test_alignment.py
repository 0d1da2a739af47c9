"""Aligning a zoo: every method and reference, whole trajectories in one neuron order, and runs that were killed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wflib.architecture import mlp
from wflib.config import AlignConfig, ZooConfig
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.storage import KeptParts
from wflib.symmetry import permute, random_permutations, squared_distance
from wflib.tasks import Dataset, Split
from wflib.testing import assert_same_function
from wflib.zoo import Zoo, align_zoo, train_zoo
from wflib.zoo import alignment as module

ARCHITECTURE = mlp([4, 6, 5, 2])
RUNS, SNAPSHOTS = 6, 3
EVERY = [
    *[(method, "l2", "first") for method in ("none", "weight-matching", "activation-matching")],
    *[("sinkhorn", objective, "first") for objective in ("l2", "midpoint", "random-point")],
    *[("weight-matching", "l2", reference) for reference in ("best", "medoid", "mean")],
    ("sinkhorn", "midpoint", "mean"),
]
over_every = pytest.mark.parametrize(("method", "objective", "reference"), EVERY, ids="-".join)


def config(method: str, objective: str = "l2", reference: str = "first", restarts: int = 4) -> AlignConfig:
    return AlignConfig(seed=0, method=method, objective=objective, reference=reference, restarts=restarts, iterations=10)


def task(labels) -> Dataset:
    def split(name: str, size: int) -> Split:
        inputs = torch.randn(size, 4, generator=generator(0, name))
        return Split(inputs, labels(inputs))

    return Dataset("toy", "classification", 2, split("train", 60), split("validation", 40), split("test", 40))


def hidden_copies(noise: float = 1e-3):
    """Trajectories that end near one network, each in its own neuron order; the task is what the network says."""
    flat = 2 * torch.randn(1, ARCHITECTURE.dimension, generator=generator(0, "network"))
    network = Networks.from_flat(ARCHITECTURE, flat)
    order = random_permutations(ARCHITECTURE, RUNS, generator(0, "order"))
    trajectory = torch.arange(RUNS).repeat_interleave(SNAPSHOTS)
    initial = permute(network[[0] * RUNS], order)
    moved = initial.flat[trajectory]
    flat = moved + noise * torch.randn(moved.shape, generator=generator(0, "noise"))
    zoo = Zoo(
        Networks.from_flat(ARCHITECTURE, flat),
        trajectory,
        torch.arange(SNAPSHOTS).repeat(RUNS),
        held_out=trajectory == RUNS - 1,
        form="trained",
        initial=initial,
    )
    return zoo, task(lambda inputs: network.forward(inputs)[0].argmax(-1)), order


@over_every
def test_known_orders_are_found_and_functions_kept(method, objective, reference):
    zoo, dataset, order = hidden_copies()
    aligned = align_zoo(zoo, config(method, objective, reference), dataset)
    assert_same_function(zoo.networks, aligned.networks, dataset.validation.inputs, 1e-5)
    again = permute(zoo.networks, aligned.permutations).weights
    assert all(torch.equal(again[name], aligned.weights[name]) for name in again)
    distance = squared_distance(aligned.reference, aligned.networks)
    if method == "none":
        assert float(distance.max()) > 10
        return
    assert float(distance.max()) < 0.01
    common = {group: indices[0] for group, indices in aligned.permutations.items()}
    for group, indices in aligned.permutations.items():
        for run in range(RUNS):
            # Undoing a run's own order and then the first run's: all runs must agree.
            undone = order[group][run][indices[run * SNAPSHOTS]]
            assert torch.equal(undone, order[group][0][common[group]])


@over_every
def test_snapshots_and_initial_weights_follow_their_trajectory(method, objective, reference):
    zoo, dataset, _ = hidden_copies()
    aligned = align_zoo(zoo, config(method, objective, reference), dataset)
    for indices in aligned.permutations.values():
        assert torch.equal(indices, indices[aligned.last_snapshots.trajectory * SNAPSHOTS].repeat_interleave(SNAPSHOTS, 0))
    start = aligned.initial_of(torch.arange(len(aligned))).weights
    assert float(squared_distance(Networks(ARCHITECTURE, start), aligned.networks).max()) < 0.01
    assert method == "none" or aligned.permutations["hidden1"].unique(dim=0).shape[0] > 1


def random_zoo(runs: int = 12) -> Zoo:
    weights = ARCHITECTURE.unflatten(torch.randn(runs, ARCHITECTURE.dimension, generator=generator(3, "weights")))
    runs_of = torch.arange(runs)
    return Zoo(Networks(ARCHITECTURE, weights), runs_of, torch.ones_like(runs_of), runs_of % 4 == 0, "trained")


def test_references_are_what_they_are_called():
    zoo, dataset = random_zoo(), task(lambda inputs: (inputs[:, 0] > 0).long())
    found = {kind: align_zoo(zoo, config("weight-matching", "l2", kind), dataset) for kind in ("first", "best", "mean")}
    learned = zoo.training_part

    assert torch.equal(found["first"].reference.flat, learned[:1].networks.flat)
    best = int(network_losses(learned.networks, dataset.validation).argmin())
    assert best > 0
    assert torch.equal(found["best"].reference.flat, learned[best : best + 1].networks.flat)
    part = found["mean"].training_part.networks
    middle = part.map(lambda tensor: tensor.mean(0, keepdim=True))
    spread = squared_distance(found["mean"].reference, part).mean()
    assert float(spread) < float(squared_distance(found["first"].reference, part).mean())
    assert float(squared_distance(middle, part).mean()) <= float(spread) + 1e-5


def trained_networks(dataset: Dataset) -> Zoo:
    """Good networks from different initializations, with barriers between them."""
    recipe = {"seed": 2, "widths": [6, 5], "activation": "relu", "networks": 8, "held_out": 0.2, "optimizer": "adam"}
    recipe |= {"learning_rate": 0.02, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 20, "epochs": 30}
    recipe |= {"skip_epochs": 29, "snapshot_every": 3, "network": "mlp", "init": "normal", "init_std": 0.5, "device": "cpu"}
    return train_zoo(ARCHITECTURE, dataset, ZooConfig(**recipe))


def test_sinkhorn_lowers_the_barrier_that_it_is_asked_to():
    dataset = task(lambda inputs: (inputs[:, 0] * inputs[:, 1] > 0).long())
    zoo = trained_networks(dataset)

    def barrier(aligned: Zoo, node: float):
        point = aligned.reference.lerp(aligned.networks, node)
        own = [network_losses(side, dataset.train) for side in (aligned.reference, aligned.networks)]
        return network_losses(point, dataset.train) - torch.lerp(*own, node)

    before = align_zoo(zoo, config("weight-matching"), dataset)
    assert float(barrier(before, 0.5).mean()) > 0.05
    for objective, nodes in (("midpoint", (0.5,)), ("random-point", module.NODES)):
        after = align_zoo(zoo, config("sinkhorn", objective), dataset)
        here, there = (torch.stack([barrier(a, node) for node in nodes]).mean(0) for a in (after, before))
        assert bool((here <= there.clamp_min(module.NO_BARRIER) + 1e-6).all())
        assert float((here - there).mean()) < -0.01


def test_test_examples_and_held_out_networks_decide_nothing():
    zoo, dataset = random_zoo(), task(lambda inputs: (inputs[:, 0] > 0).long())
    settings = config("sinkhorn", "midpoint", "mean")
    expected = align_zoo(zoo, settings, dataset).permutations
    spoiled = replace(dataset, test=Split(dataset.test.inputs * torch.nan, dataset.test.targets))
    found = align_zoo(zoo, settings, spoiled).permutations
    assert all(torch.equal(found[group], indices) for group, indices in expected.items())
    flat = torch.where(zoo.held_out[:, None], -zoo.networks.flat, zoo.networks.flat)
    moved = align_zoo(replace(zoo, networks=Networks.from_flat(ARCHITECTURE, flat)), settings, dataset).permutations
    learned = ~zoo.held_out
    assert all(torch.equal(moved[group][learned], indices[learned]) for group, indices in expected.items())
    assert any(not torch.equal(moved[group], indices) for group, indices in expected.items())


def test_the_medoid_is_nearest_to_all():
    zoo, dataset, _ = hidden_copies()
    far = {name: tensor.clone() for name, tensor in zoo.weights.items()}
    for tensor in far.values():
        tensor[:SNAPSHOTS] += 0.5
    zoo = replace(zoo, networks=zoo.networks.with_weights(far))
    first, medoid = (align_zoo(zoo, config("weight-matching", "l2", kind), dataset) for kind in ("first", "medoid"))
    distances = [squared_distance(a.reference, a.networks)[SNAPSHOTS:].max() for a in (first, medoid)]
    assert distances[0] > 1 > 0.01 > distances[1]


def test_the_mean_is_sought_until_no_permutation_changes(monkeypatch):
    zoo, means = random_zoo(), {}
    for rounds in (1, module.MEAN_ROUNDS, 2 * module.MEAN_ROUNDS):
        monkeypatch.setattr(module, "MEAN_ROUNDS", rounds)
        means[rounds] = module.mean_network(zoo.networks, 1, generator(0, "mean")).flat
    once, *longer = means.values()
    assert torch.equal(*longer)
    assert float((once - longer[0]).abs().max()) > 0.01


@pytest.mark.parametrize("method", ["weight-matching", "sinkhorn"])
def test_a_killed_run_goes_on_and_ends_the_same(method, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "CHUNK", 2)
    zoo, dataset, settings = random_zoo(), task(lambda inputs: (inputs[:, 0] > 0).long()), config(method, "midpoint")
    whole = align_zoo(zoo, settings, dataset)

    def kill(what: str, done: int, parts: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align_zoo(zoo, settings, dataset, kill, KeptParts(tmp_path))
    assert len(list(tmp_path.iterdir())) == 4
    solved = []
    match = module.Aligner.match
    monkeypatch.setattr(module.Aligner, "match", lambda *given: solved.append(1) or match(*given))
    resumed = align_zoo(zoo, settings, dataset, parts=KeptParts(tmp_path))
    assert len(solved) == 2
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)
    assert any(not torch.equal(whole.weights[name], zoo.weights[name]) for name in whole.weights)
