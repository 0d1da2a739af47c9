"""Training a zoo at once is training each network alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.cases import TOLERANCE, random_inputs, random_networks
from wflib.architecture import Architecture, mlp
from wflib.config import ZooConfig
from wflib.networks import batch_losses, network_losses
from wflib.rng import generator, permutations, seed_of
from wflib.storage import KeptParts
from wflib.symmetry import canonicalize
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo, initialize, train_networks, train_zoo
from wflib.zoo import training as training_module

RECIPE = {
    "seed": 3,
    "network": "mlp",
    "widths": [5],
    "activation": "relu",
    "networks": 4,
    "held_out": 0.25,
    "optimizer": "adam",
    "learning_rate": 0.02,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "batch_size": 8,
    "epochs": 4,
    "skip_epochs": 1,
    "snapshot_every": 2,
    "init": "normal",
    "init_std": 0.3,
    "device": "cpu",
}


def recipe(**changes) -> ZooConfig:
    return ZooConfig.model_validate(RECIPE | changes)


def dataset(task_type: str = "classification", examples: int = 27) -> Dataset:
    """Three features; the class is the sign of a nonlinear function, the value is that function."""
    inputs = torch.randn(examples, 3, generator=generator(0, "data"))
    values = (inputs[:, :1] * inputs[:, 1:2] + inputs[:, 2:]).tanh()
    split = Split(inputs, (values[:, 0] > 0).long() if task_type == "classification" else values)
    return Dataset("toy", task_type, 2 if task_type == "classification" else 1, split, split, split)


def architecture_for(data: Dataset, activation: str = "relu", hidden: tuple[int, ...] = (5,)) -> Architecture:
    return mlp([3, *hidden, data.outputs], activation, data.task_type)


def train_alone(architecture: Architecture, data: Dataset, config: ZooConfig, zoo: Zoo, network: int, batches_of: int):
    """One network with torch.nn and torch.optim, from the zoo's initialization; weights at every snapshot."""
    module = architecture.module()
    module.load_state_dict({name: tensor[network] for name, tensor in zoo.initial.weights.items()})
    options = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "adam":
        optimizer = torch.optim.Adam(module.parameters(), **options)
    else:
        optimizer = torch.optim.SGD(module.parameters(), momentum=config.momentum, **options)
    snapshots, step = {}, 0
    examples = len(data.train.inputs)
    for epoch in range(config.epochs):
        (order,) = permutations(seed_of(config.seed, "zoo", "shuffle", epoch), torch.tensor([batches_of]), examples)
        for chosen in order.split(config.batch_size)[: examples // config.batch_size]:
            outputs, targets = module(data.train.inputs[chosen]), data.train.targets[chosen]
            classify = data.task_type == "classification"
            loss = nn.CrossEntropyLoss()(outputs, targets) if classify else 0.5 * nn.MSELoss()(outputs, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            snapshots[step] = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    return snapshots


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam"},
        {"optimizer": "adam", "weight_decay": 0.1},
        {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
        {"optimizer": "sgd", "learning_rate": 0.2},
    ],
    ids=["adam", "adam-decay", "sgd-momentum-decay", "sgd"],
)
@pytest.mark.parametrize("task_type", ["classification", "regression"])
@pytest.mark.parametrize(("activation", "hidden"), [("relu", (5,)), ("tanh", (4, 3))])
def test_a_network_in_a_zoo_is_a_network_alone(changes, task_type, activation, hidden):
    data, config = dataset(task_type), recipe(networks=3, epochs=3, **changes)
    architecture = architecture_for(data, activation, hidden)
    zoo = train_zoo(architecture, data, config)
    for network in range(config.networks):
        alone = train_alone(architecture, data, config, zoo, network, batches_of=network)
        rows = torch.nonzero(zoo.trajectory == network)[:, 0]
        assert len(rows) == 3
        for row in rows.tolist():
            for name, tensor in zoo.weights.items():
                torch.testing.assert_close(tensor[row], alone[int(zoo.step[row])][name], rtol=1e-5, atol=1e-5)
    others = train_alone(architecture, data, config, zoo, network, batches_of=0)
    last = others[int(zoo.step[-1])]
    assert max(float((tensor[-1] - last[name]).abs().max()) for name, tensor in zoo.weights.items()) > 1e-3


def test_snapshots_are_taken_when_the_recipe_says():
    zoo = train_zoo(architecture_for(dataset()), dataset(), recipe())
    # 27 examples in batches of 8 are 3 iterations an epoch: 3 skipped, then 9, one snapshot every 2.
    assert zoo.step.view(4, -1).tolist() == [[5, 7, 9, 11]] * 4
    assert zoo.trajectory.tolist() == [run for run in range(4) for _ in range(4)]
    assert not torch.equal(zoo.networks.flat[0], zoo.networks.flat[1])
    everything = train_zoo(architecture_for(dataset()), dataset(), recipe(skip_epochs=0, snapshot_every=1))
    assert torch.equal(everything[everything.step == 7].networks.flat, zoo[zoo.step == 7].networks.flat)
    assert not torch.equal(everything[everything.step == 8].networks.flat, zoo[zoo.step == 7].networks.flat)


@pytest.mark.parametrize("at_once", [1, 3])
def test_networks_end_the_same_however_many_are_trained_at_once(at_once, monkeypatch):
    data, config, sizes = dataset(), recipe(networks=8), []

    def counted(architecture, weights, split, momentum):
        sizes.append(len(split.inputs))
        return batch_losses(architecture, weights, split, momentum)

    monkeypatch.setattr(training_module.CompiledTrainer, "can_train", lambda *_: False)
    means = []
    together = train_zoo(architecture_for(data), data, config, progress=lambda *row: means.append(row))
    monkeypatch.setattr(training_module, "CACHED_ELEMENTS", at_once * 8 * 3)  # batches of eight examples, three features
    monkeypatch.setattr(training_module, "batch_losses", counted)
    told = []
    parts = train_zoo(architecture_for(data), data, config, progress=lambda *row: told.append(row))
    assert set(sizes) == {1: {1}, 3: {3, 2}}[at_once]
    assert (parts.networks.flat - together.networks.flat).abs().max() < 1e-5
    assert torch.equal(parts.step, together.step)
    assert torch.equal(parts.trajectory, together.trajectory)
    assert [done for done, *_ in told] == pytest.approx([4 * part / len(told) for part in range(1, len(told) + 1)])
    sizes = torch.tensor({1: [1] * 8, 3: [3, 3, 2]}[at_once])
    losses = torch.tensor([loss for *_, loss in told]).view(len(sizes), 4)  # of each group, epoch by epoch
    assert (sizes[:, None] * losses).sum(0).div(8).tolist() == pytest.approx([loss for *_, loss in means], rel=1e-5)


def test_a_batch_larger_than_the_data_is_all_of_it():
    zoo = train_zoo(architecture_for(dataset()), dataset(), recipe(batch_size=100, snapshot_every=1))
    assert zoo.step.view(4, -1).tolist() == [[2, 3, 4]] * 4


def test_the_seed_decides_everything():
    first, again, other = (train_zoo(architecture_for(dataset()), dataset(), recipe(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first.networks.flat, again.networks.flat)
    assert not torch.allclose(first.networks.flat, other.networks.flat, atol=0.01)


def test_networks_start_and_end_differently():
    zoo = train_zoo(architecture_for(dataset()), dataset(), recipe())
    for flat in (zoo.initial.flat, zoo.last_snapshots.networks.flat):
        distances = torch.cdist(flat, flat) + 10 * torch.eye(4)
        assert float(distances.min()) > 0.1


@pytest.mark.parametrize(
    ("networks", "share", "expected"), [(4, 0.25, 1), (4, 0.5, 2), (2, 0.01, 1), (3, 0.99, 2), (10, 0.3, 3)]
)
def test_whole_trajectories_are_held_out_one_at_least_and_never_all(networks, share, expected):
    zoo = train_zoo(architecture_for(dataset()), dataset(), recipe(networks=networks, held_out=share, epochs=2))
    assert zoo.trajectory[zoo.held_out].unique().tolist() == list(range(networks - expected, networks))
    assert set(zoo.training_part.trajectory.tolist()).isdisjoint(zoo.held_out_part.trajectory.tolist())
    assert len(zoo.training_part) + len(zoo.held_out_part) == len(zoo)


def test_initial_weights_are_the_prior():
    architecture = architecture_for(dataset())
    zoo = train_zoo(architecture, dataset(), recipe(networks=50, init_std=0.3))
    flat = zoo.initial.flat
    assert float(flat.std()) == pytest.approx(0.3, rel=0.05)
    assert float(flat.mean()) == pytest.approx(0, abs=0.02)
    assert torch.equal(flat, initialize(architecture, 50, 0.3, generator(3, "zoo", "init")).flat)
    assert not torch.equal(flat, initialize(architecture, 50, 0.3, generator(4, "zoo", "init")).flat)
    assert torch.equal(2 * flat, initialize(architecture, 50, 0.6, generator(3, "zoo", "init")).flat)


def test_training_learns():
    data = dataset(examples=200)
    zoo = train_zoo(architecture_for(data), data, recipe(epochs=10))
    before = network_losses(zoo.initial, data.train)
    after = network_losses(zoo.last_snapshots.networks, data.train)
    assert bool((after < before - 0.1).all())


@pytest.mark.parametrize("task_type", ["classification", "regression"])
def test_losses_are_those_of_torch(task_type):
    architecture = mlp([3, 5, 4], task_type=task_type)
    networks, inputs = random_networks(architecture), random_inputs(architecture)
    classify = task_type == "classification"
    shared = torch.arange(7) % 4 if classify else torch.linspace(-1, 1, 28, dtype=torch.float64).view(7, 4)
    losses = network_losses(networks, Split(inputs, shared))
    own = network_losses(networks, Split(inputs.expand(3, -1, -1), torch.stack([shared, shared, shared.flip(0)])))
    for index, outputs in enumerate(networks.forward(inputs)):
        for found, targets in ((losses, shared), (own, shared.flip(0) if index == 2 else shared)):
            loss = (
                nn.functional.cross_entropy(outputs, targets) if classify else 0.5 * nn.functional.mse_loss(outputs, targets)
            )
            assert float(found[index]) == pytest.approx(float(loss), abs=TOLERANCE)
    assert abs(float(losses[2] - own[2])) > 1e-3


def test_progress_is_told_as_networks_end_an_epoch(monkeypatch):
    told, data, config = [], dataset(), recipe(networks=5)
    train_zoo(architecture_for(data), data, config, progress=lambda *args: told.append(args))
    assert [line[:2] for line in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[-1][2] < told[0][2]
    monkeypatch.setattr(training_module, "CACHED_ELEMENTS", 2 * 8 * 3)  # two networks, batches of eight, three features
    parts = []
    train_zoo(architecture_for(data), data, config, progress=lambda *args: parts.append(args))
    assert [done for done, *_ in parts] == pytest.approx([third / 3 for third in range(1, 13)])
    first, second, third = (parts[group][2] for group in (0, 4, 8))  # two networks each, the last of one, after one epoch
    assert (2 * first + 2 * second + third) / 5 == pytest.approx(told[0][2])


def test_a_killed_run_goes_on_and_ends_the_same(monkeypatch, tmp_path):
    data, config, ran = dataset(), recipe(networks=5), []
    monkeypatch.setattr(training_module, "CACHED_ELEMENTS", 2 * 8 * 3)  # two networks, batches of eight, three features
    whole = train_zoo(architecture_for(data), data, config)

    def kill(done: float, epochs: int, loss: float) -> None:
        ran.append(done)
        if len(ran) == 10:  # in the third group's second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_zoo(architecture_for(data), data, config, progress=kill, parts=KeptParts(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-2.safetensors", "2-4.safetensors"]
    resumed = train_zoo(architecture_for(data), data, config, progress=kill, parts=KeptParts(tmp_path))
    assert ran[10:] == pytest.approx([third / 3 for third in range(9, 13)])
    assert torch.equal(resumed.networks.flat, whole.networks.flat)
    monkeypatch.setattr(training_module, "CACHED_ELEMENTS", 10 * 8 * 3)
    train_zoo(architecture_for(data), data, config, parts=KeptParts(tmp_path / "at once"))
    assert not (tmp_path / "at once").exists()


def test_networks_that_diverged_are_not_kept(monkeypatch, tmp_path):
    data, config = dataset("regression"), recipe(networks=4, optimizer="sgd", learning_rate=1e18)
    monkeypatch.setattr(training_module, "CACHED_ELEMENTS", 2 * 8 * 3)
    with pytest.raises(ValueError, match=r"4 of 4 networks diverged"):
        train_zoo(architecture_for(data), data, config, parts=KeptParts(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_diverged_network_is_an_error():
    with pytest.raises(ValueError, match=r"of 4 networks diverged; lower zoo\.learning_rate"):
        train_zoo(
            architecture_for(dataset("regression")), dataset("regression"), recipe(optimizer="sgd", learning_rate=1e18)
        )


def test_a_recipe_without_snapshots_is_refused_before_training():
    told = []
    with pytest.raises(ValueError, match=r"9 iterations .* zoo\.snapshot_every is 10"):
        train_zoo(
            architecture_for(dataset()), dataset(), recipe(snapshot_every=10), progress=lambda *args: told.append(args)
        )
    assert told == []
    assert len(train_zoo(architecture_for(dataset()), dataset(), recipe(snapshot_every=9))) == 4


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd", "momentum": 0.9}, {"batch_size": 100}])
def test_training_from_given_weights_is_what_the_zoo_does_from_its_own(changes):
    data, config = dataset(), recipe(**changes)
    zoo = train_zoo(architecture_for(data), data, config)
    steps = sorted(set(zoo.step.tolist()))
    flat = train_networks(zoo.initial, data.train, config, steps)
    assert torch.equal(flat.flatten(0, 1), zoo.networks.flat)
    other = train_networks(zoo.initial, data.train, config.model_copy(update={"seed": 5}), steps)
    assert changes.get("batch_size") == 100 or not torch.equal(other, flat)
    elsewhere = train_networks(zoo.last_snapshots.networks, data.train, config, steps)
    assert not torch.allclose(elsewhere, flat)


def test_kept_steps_do_not_change_the_way_and_the_first_may_be_the_start():
    data, config = dataset(), recipe()
    start = train_zoo(architecture_for(data), data, config).initial
    several, last = train_networks(start, data.train, config, [0, 1, 5]), train_networks(start, data.train, config, [5])
    assert torch.equal(several[:, 0], start.flat)
    assert torch.equal(several[:, 2], last[:, 0])
    assert not torch.equal(several[:, 1], start.flat)
    assert torch.equal(train_networks(start, data.train, config, [0])[:, 0], start.flat)


@pytest.mark.parametrize("steps", [[], [3, 2], [2, 2], [-1], [10_000]])
def test_steps_that_do_not_rise_or_are_too_many_are_refused(steps):
    data, config = dataset(), recipe()
    start = train_zoo(architecture_for(data), data, config).initial
    with pytest.raises(ValueError, match="expected rising steps from 0 to"):
        train_networks(start, data.train, config, steps)
    with pytest.raises(ValueError, match="expected ordinary networks"):
        train_networks(canonicalize(start).networks, data.train, config, [1])
