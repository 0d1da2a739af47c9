"""Paths that follow training: corners, velocities, times, what they are learned from, and what does not go with them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.flow.test_every_kind import settings as tiny
from wflib.config import ZooConfig
from wflib.flow import FlowTrainer, Guidance, PairSource, TaskLoss, diffusion_of, flow_for_zoo, sample
from wflib.flow.paths import TrainingPaths
from wflib.rng import generator
from wflib.symmetry import permute, pool, random_permutations, squared_distance
from wflib.tasks import Dataset
from wflib.zoo import Zoo, ZooWriter, align_zoo, canonical_zoo, load_zoo, open_zoo, save_zoo, train_zoo
from wflib.zoo import base as zoo_base
from wflib.zoo.sources import read, write

GEOMETRIES = ("euclidean", "normalized", "geometric")
EARLY = 3


def settings(geometry: str, *changes: str):
    bent = ("flow.path=training", "zoo.early_snapshots=3", "flow.prediction=velocity", "flow.coupling=initialization")
    return tiny(geometry, *bent, "velocity.gradient_examples=32", "align.restarts=1", *changes)


@pytest.fixture(scope="module")
def recipe(zoo) -> ZooConfig:
    return ZooConfig(**zoo.metadata["recipe"], early_snapshots=EARLY)


@pytest.fixture(scope="module")
def trained(zoo, dataset, recipe) -> Zoo:
    return train_zoo(zoo.architecture, dataset, recipe)


@pytest.fixture(scope="module")
def zoos(trained, dataset) -> dict[str, Zoo]:
    aligned = align_zoo(trained, settings("euclidean").align, dataset)
    canonical = canonical_zoo(aligned)
    return {"euclidean": aligned, "normalized": canonical, "geometric": canonical}


def pairs_and_paths(geometry: str, zoos: dict[str, Zoo], dataset: Dataset):
    """Trajectories, x_0 and x_1 of twelve pairs, and the paths between them, fitted."""
    zoo = zoos[geometry]
    flow = flow_for_zoo(settings(geometry), zoo, dataset.train)
    chosen, x_0, x_1 = PairSource(flow, zoo.training_part).draw_chosen(12, generator(0, "pairs"))
    runs, paths = zoo.training_part.trajectory[chosen], TrainingPaths(flow, zoo)
    paths.fit(runs, x_0, x_1)
    return runs, x_0, x_1, paths


def test_a_zoo_keeps_what_lies_on_the_way_apart(trained, zoo):
    assert len(trained) == len(zoo) + EARLY * 20
    assert torch.unique(trained.early_part.step).tolist() == [2, 4, 6]
    assert trained.metadata["first_step"] == 8
    assert set(trained.training_part.step.tolist()) == set(trained.held_out_part.step.tolist()) == {8, 12, 16}
    assert len(trained.training_part) + len(trained.held_out_part) == len(zoo)
    there = trained.select(~trained.is_early).networks.flat
    unaligned = permute(
        zoo.networks, {name: indices.argsort(-1) for name, indices in zoo.permutations.items()}
    ).flat  # the fixture's zoo has been permuted
    assert torch.equal(there, unaligned)
    assert "early_snapshots" not in trained.metadata["recipe"]
    assert len(zoo.early_part) == 0


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_keeps_them_too(trained, folder, tmp_path):
    path = tmp_path / "trained.safetensors"
    if folder:
        with ZooWriter(path, 30) as writer:
            writer.append(trained.networks)
            writer.append_initial_of(trained)
            writer.finish("trained", trained.trajectory, trained.step, trained.held_out, metadata=trained.metadata)
    else:
        save_zoo(path, trained)
    again = load_zoo(path, "trained")
    assert torch.equal(again.early_part.networks.flat, trained.early_part.networks.flat)
    assert torch.equal(again.training_part.networks.flat, trained.training_part.networks.flat)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_paths_go_through_a_runs_snapshots(geometry, zoos, dataset):
    runs, x_0, x_1, paths = pairs_and_paths(geometry, zoos, dataset)
    times = paths.times
    assert times[0] == 0
    assert times[-1] == 1
    assert (times.diff() > 0).all()
    early = zoos[geometry].early_part
    for number in range(EARLY):
        rows = [int(((early.trajectory == run) & (early.step == 2 * (number + 1))).nonzero()) for run in runs]
        expected = paths.flow.coordinates.encode(early.networks[torch.tensor(rows)])
        x_t, _ = paths.at(runs, x_0, x_1, times[number + 1].expand(12))
        assert torch.allclose(x_t, expected, atol=1e-5)
        before, _ = paths.at(runs, x_0, x_1, (times[number + 1] - 1e-4).expand(12))
        assert torch.allclose(before, expected, atol=1e-2)
    assert torch.allclose(paths.at(runs, x_0, x_1, torch.zeros(12))[0], x_0, atol=1e-5)
    assert torch.allclose(paths.at(runs, x_0, x_1, torch.full((12,), 0.99999))[0], x_1, atol=1e-2)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_velocities_are_derivatives_of_paths(geometry, zoos, dataset):
    runs, x_0, x_1, paths = pairs_and_paths(geometry, zoos, dataset)
    x_0, x_1, step = x_0.double(), x_1.double(), 1e-5
    paths.corners, paths.times = paths.corners.double(), paths.times.double()
    middles = (paths.times[1:] + paths.times[:-1]) / 2
    for t in middles:
        here, ahead, behind = (t.add(change).expand(12) for change in (0.0, step, -step))
        _, displacement = paths.at(runs, x_0, x_1, here)
        measured = (paths.at(runs, x_0, x_1, ahead)[0] - paths.at(runs, x_0, x_1, behind)[0]) / (2 * step)
        assert torch.allclose(displacement / (1 - t), measured, rtol=1e-5, atol=1e-6)


def test_times_are_lengths(zoos, dataset):
    runs, x_0, x_1, paths = pairs_and_paths("euclidean", zoos, dataset)
    corners = [x_0, *(paths.corner(runs, torch.full((12,), number)) for number in range(EARLY)), x_1]
    lengths = torch.stack([(after - before).norm(dim=1).mean() for before, after in pairwise(corners)])
    assert torch.allclose(paths.times[1:], lengths.cumsum(0) / lengths.sum())


def test_snapshots_are_in_the_order_of_their_network(zoos, dataset, trained):
    """Neighbours on a path are near each other; with neurons in the order of training they are not."""
    runs, _, x_1, paths = pairs_and_paths("euclidean", zoos, dataset)
    last = paths.corner(runs, torch.full((12,), EARLY - 1))
    scattered = permute(trained.networks, random_permutations(trained.architecture, len(trained), generator(1, "scatter")))
    other = TrainingPaths(paths.flow, replace(zoos["euclidean"], networks=scattered))
    assert (x_1 - last).norm(dim=1).mean() < 0.5 * (x_1 - other.corner(runs, torch.full((12,), EARLY - 1))).norm(
        dim=1
    ).mean()
    reference = zoos["euclidean"].reference
    assert (
        squared_distance(reference, zoos["euclidean"].early_part.networks).mean()
        < squared_distance(reference, trained.early_part.networks).mean()
    )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_larger_zoos_are_read_from_disk(geometry, zoos, dataset, tmp_path, monkeypatch):
    form = "aligned" if geometry == "euclidean" else "canonical"
    save_zoo(tmp_path / "zoo.safetensors", zoos[geometry])
    runs, x_0, x_1, paths = pairs_and_paths(geometry, zoos, dataset)
    monkeypatch.setattr(zoo_base, "IN_MEMORY", 1000)
    stored = TrainingPaths(paths.flow, open_zoo(tmp_path / "zoo.safetensors", form))
    stored.times = paths.times
    assert stored.corners is None
    t = torch.linspace(0, 0.95, 12)
    for here, there in zip(paths.at(runs, x_0, x_1, t), stored.at(runs, x_0, x_1, t), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_flow_learns_them(geometry, zoos, dataset):
    config = settings(geometry, "training.iterations=60", "training.learning_rate=0.003")
    trainer = FlowTrainer(
        flow_for_zoo(config, zoos[geometry], dataset.train), zoos[geometry], config.training, dataset.train
    )
    before = trainer.validation_loss()
    flow = trainer.run()
    assert trainer.validation_loss() < 0.99 * before
    assert torch.isfinite(sample(flow, 4, 4, generator(0, "draws"))).all()
    straight = trainer.flow.geometry.displacement(trainer.validation.x_t, trainer.validation.x_1)
    assert not torch.allclose(trainer.validation.displacement, straight, atol=1e-2)


def test_what_does_not_go_with_them(zoos, zoo, dataset, recipe):
    with pytest.raises(ValueError, match=r"path: training needs prediction: velocity .*got end-point and 0\.0"):
        settings("euclidean", "flow.prediction=end-point")
    for change, remedy in {
        "zoo.early_snapshots=0": "choose 10",
        "training.loss=gauss-newton": "choose function",
    }.items():
        with pytest.raises(ValueError, match=rf"flow\.path: training does not go with .*{remedy}"):
            settings("euclidean", change)
    with pytest.raises(ValueError, match=r"sample\.diffusion: 0\.1 needs .*flow\.path: straight"):
        settings("euclidean", "sample.solver=euler", "sample.diffusion=0.1")
    with pytest.raises(ValueError, match=r"sample\.guidance_point: end-point \(choose x_t\)"):
        settings("euclidean", "sample.guidance_point=end-point")
    with pytest.raises(ValueError, match=r"and path_noise: 0, got velocity and 0\.1"):
        settings("euclidean", "flow.path_noise=0.1")
    with pytest.raises(ValueError, match=r"early_snapshots \(3\) need sampler: optimizer, got sgld"):
        ZooConfig(**{**recipe.model_dump(), "sampler": "sgld"})
    with pytest.raises(
        ValueError, match=r"zoo\.early_snapshots: 8 are more than the 7 iterations before the first snapshot"
    ):
        train_zoo(zoo.architecture, dataset, recipe.model_copy(update={"early_snapshots": 8}))
    flow = flow_for_zoo(settings("euclidean"), zoos["euclidean"], dataset.train)
    with pytest.raises(
        ValueError, match=r"expected as many early snapshots of every run, one at least, found none; set zoo"
    ):
        TrainingPaths(flow, zoo)
    uneven = zoos["euclidean"][torch.arange(len(zoos["euclidean"])) > 0]
    with pytest.raises(ValueError, match="found 2 to 3"):
        TrainingPaths(flow, uneven)
    with pytest.raises(ValueError, match=r"point end-point needs paths towards it, and flow\.path is training"):
        Guidance(flow, TaskLoss(dataset.train, 8, generator(0, "guidance")), 0.1, point="end-point")
    independent = flow_for_zoo(settings("euclidean", "flow.coupling=independent"), zoos["euclidean"], dataset.train)
    with pytest.raises(ValueError, match=r"with flow\.path: training x_t given x_1 is not Gaussian"):
        diffusion_of(independent, 0.1, generator(0, "noise"))
    with pytest.raises(ValueError, match="metadata first_step expected the step from which on"):
        replace(zoo, metadata={**zoo.metadata, "first_step": "8"})


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_what_the_network_is_to_predict_has_the_size_of_one(geometry, zoos, dataset):
    """Errors over o(t) of a network that adds nothing, pool by pool; of straight paths' o(t) some are far from one."""
    config = settings(geometry, "training.batch_size=512", "velocity.gradient_examples=0")
    flow = flow_for_zoo(config, zoos[geometry], dataset.train)
    trainer = FlowTrainer(flow, zoos[geometry], config.training, dataset.train)
    index, batch = flow.preconditioner.index, trainer.draw(trainer.pairs, 4096, generator(1, "batch"))

    def sizes() -> torch.Tensor:
        model, _, scale = flow.regress(batch.x_t, batch.t, None, None)
        missed = (batch.displacement - flow.geometry.tangent(batch.x_t, model - batch.x_t)) / scale
        return pool(missed.square().mean(0), index).sqrt()

    assert torch.allclose(sizes(), torch.ones(int(index.max()) + 1), atol=0.25)
    flow.preconditioner.stretch.fill_(1)
    assert (sizes() > 1.2).any()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_one_huge_weight_sets_neither_pace_nor_scale(geometry, zoos, dataset):
    zoo, config = zoos[geometry], settings(geometry, "training.batch_size=512", "velocity.gradient_examples=0")

    def fitted(changed: Zoo) -> FlowTrainer:
        flow = flow_for_zoo(config, zoo, dataset.train)
        return FlowTrainer(flow, changed, config.training, dataset.train)

    weights = {name: tensor.clone() for name, tensor in zoo.weights.items()}
    row = int(zoo.is_early.nonzero()[1])
    weights["linear3.bias"][row] = 1e3
    plain, other = fitted(zoo), fitted(replace(zoo, networks=zoo.networks.with_weights(weights)))
    assert (other.paths.times - plain.paths.times).abs().max() < 0.2  # without a bound the path is two sides of one half
    assert (other.flow.preconditioner.stretch / plain.flow.preconditioner.stretch).max() < 200  # and this is 20,000


def test_early_snapshots_are_networks_for_nobody(trained, dataset, tmp_path):
    count = len(trained) - EARLY * 20
    save_zoo(tmp_path / "zoo.safetensors", trained)
    assert len(read(tmp_path / "zoo.safetensors").zoo()) == count
    for format, more in {"modelzoo": {}, "state-dicts": {"activation": "relu"}}.items():
        write(tmp_path / format, trained, format)
        assert len(read(tmp_path / format, **more).zoo()) == count
    run = trained.trajectory == 0
    lost = trained[~run | trained.is_early]  # the first run has early ones alone
    reference = align_zoo(lost, settings("euclidean", "align.method=none").align, dataset).reference
    assert torch.equal(reference.flat, trained[(trained.trajectory == 1) & (trained.step == 16)].networks.flat)
    with pytest.raises(ValueError, match=r"expected a zoo with networks, found none"):
        trained[trained.is_early].require_both_parts("train-flow")
