"""Flow training: resuming is exact, seeds decide, every geometry and loss runs, files keep the flow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wflib.architecture import mlp
from wflib.config import FlowConfig, VelocityConfig
from wflib.flow import Coordinates, Flow, FlowTrainer, input_basis, load_flow, save_flow
from wflib.flow import training as training_module
from wflib.networks import Networks
from wflib.rng import generator
from wflib.storage import ArtifactError
from wflib.symmetry import canonicalize
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo

GEOMETRIES = ("euclidean", "normalized", "geometric")
ORDINARY = mlp([30, 4, 4, 2])
STD = 0.3


@pytest.fixture(scope="module")
def task() -> Dataset:
    random = generator(0, "task")

    def split(count: int) -> Split:
        inputs = torch.randn(count, 30, generator=random)
        return Split(inputs, (inputs[:, 0] > 0).long())

    return Dataset("toy", "classification", 2, split(40), split(10), split(10))


@pytest.fixture(scope="module")
def small_zoos() -> dict[bool, Zoo]:
    """Canonical or not → twelve networks of twelve runs, two of them held out."""
    start = STD * torch.randn(12, ORDINARY.dimension, generator=generator(0, "start"))
    end = 0.9 * start + 0.2 + 0.1 * torch.randn(start.shape, generator=generator(0, "end"))
    runs = torch.arange(12)
    initial, networks = (Networks.from_flat(ORDINARY, flat) for flat in (start, end))
    ordinary = Zoo(networks, runs, runs, runs >= 10, "aligned", initial)
    result = canonicalize(networks)
    canonical = replace(ordinary, networks=result.networks, record=result.record, form="canonical")
    return {False: ordinary, True: canonical}


@pytest.fixture
def make_trainer(small_zoos, training_config, task):
    """(geometry, folder, settings of training) → a trainer of a fresh flow."""

    def make(geometry: str = "euclidean", folder=None, basis=None, **settings) -> FlowTrainer:
        zoo = small_zoos[geometry != "euclidean"]
        torch.manual_seed(0)
        flow = Flow(
            FlowConfig(
                geometry=geometry,
                coupling="initialization",
                time_distribution="beta",
                path_noise=0.0,
                renewal=0.0,
                prediction="end-point",
                condition="none",
            ),
            VelocityConfig(
                kind="neuron-tokens",
                dimension=8,
                edge_dimension=4,
                layers=1,
                heads=2,
                basis="none" if basis is None else "data",
                directions=0,
                gradient_examples=0,
                identities=False,
            ),
            Coordinates(zoo.architecture, basis),
            STD,
        )
        return FlowTrainer(flow, zoo, training_config(**settings), task.train, folder)

    return make


def state(trainer: FlowTrainer) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in trainer.flow.state_dict().values()])


def rows(trainer: FlowTrainer) -> list[tuple[float, ...]]:
    """The history but its seconds; NaN, which equals nothing, as a word."""
    keys = ("iteration", "loss", "validation_loss", "learning_rate")
    return [tuple(str(row[key]) for key in keys) for row in trainer.history]


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
@pytest.mark.parametrize("stop", [8, 10])
@pytest.mark.parametrize("loss", ["standardized", "gauss-newton"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_stopped_and_resumed_run_ends_as_an_unbroken_one(make_trainer, tmp_path, geometry, stop, loss, optimizer):
    settings = {"loss": loss, "optimizer": optimizer}
    unbroken, without = make_trainer(geometry, **settings), []
    unbroken.run(lambda iteration, *_: without.append(iteration))
    assert without == list(range(1, 13))
    folder = tmp_path / "run"
    make_trainer(geometry, folder, **settings).run(stop_at=stop)
    assert (folder / "state.pt").is_file()
    resumed, seen = make_trainer(geometry, folder, **settings), []
    assert not torch.equal(state(resumed), state(unbroken))
    resumed.run(lambda iteration, *_: seen.append(iteration))
    assert seen == [9, 10, 11, 12]  # the last checkpoint is of iteration 8
    assert torch.equal(state(resumed), state(unbroken))
    assert rows(resumed) == rows(unbroken)
    assert resumed.iteration == 12
    resumed.discard_checkpoints()
    assert not folder.exists()


def test_a_lost_random_state_would_be_noticed(make_trainer, tmp_path):
    unbroken = make_trainer()
    unbroken.run()
    make_trainer(folder=tmp_path).run(stop_at=8)
    damaged = torch.load(tmp_path / "state.pt", weights_only=True)
    damaged["random"] = generator(5, "another").get_state()
    torch.save(damaged, tmp_path / "state.pt")
    resumed = make_trainer(folder=tmp_path)
    resumed.run()
    assert not torch.equal(state(resumed), state(unbroken))


def test_seeds_decide(make_trainer):
    trainers = [make_trainer(seed=seed) for seed in (0, 0, 1)]
    for trainer in trainers:
        trainer.run()
    first, again, other = trainers
    assert torch.equal(state(first), state(again))
    assert rows(first) == rows(again)
    assert not torch.equal(state(first), state(other))
    assert rows(first) != rows(other)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("loss", ["standardized", "function", "gauss-newton", "mean-squared"])
def test_every_geometry_and_loss_runs(make_trainer, geometry, loss):
    trainer = make_trainer(geometry, loss=loss)
    before = state(trainer)
    trainer.run()
    assert not torch.equal(state(trainer), before)
    assert torch.isfinite(state(trainer)).all()
    assert [row["iteration"] for row in trainer.history] == [6, 12]
    assert all(0 < row["loss"] < 1e3 and 0 < row["validation_loss"] < 1e3 for row in trainer.history)
    if loss == "function":
        assert trainer.loss.weight.mean().item() == pytest.approx(1, abs=1e-5)
        assert trainer.loss.weight.min() >= 0.1


@pytest.mark.parametrize("loss", ["function", "gauss-newton"])
def test_losses_in_function_space_need_inputs(make_flow, training_config, loss):
    with pytest.raises(ValueError, match="training inputs"):
        FlowTrainer(*make_flow(), training_config(loss=loss), None)


def test_the_gauss_newton_loss_needs_its_own_draw(make_trainer):
    trainer = make_trainer(loss="gauss-newton")
    with pytest.raises(ValueError, match="noise and examples"):
        trainer.loss(replace(trainer.validation, noise=None))


def test_held_out_networks_are_never_drawn(make_trainer):
    trainer = make_trainer()
    assert len(trainer.pairs.x_1) == 10
    assert trainer.pairs.zoo.trajectory.max() == 9


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_files_keep_the_flow(make_trainer, task, tmp_path, geometry):
    trainer = make_trainer(geometry, basis=input_basis(task.train.inputs)[0])
    flow = trainer.run()
    save_flow(tmp_path / "flow.safetensors", flow)
    loaded = load_flow(tmp_path / "flow.safetensors")
    x, t = flow.prior.sample(5, generator(0, "prior")), torch.linspace(0, 0.9, 5)
    with torch.no_grad():
        for ours, theirs in zip(loaded.predict(x, t), flow.predict(x, t), strict=True):
            assert torch.equal(ours, theirs)
        assert not torch.allclose(make_trainer(geometry).flow.predict(x, t)[0], flow.predict(x, t)[0])
    assert loaded.config == flow.config
    assert loaded.velocity_config == flow.velocity_config
    assert loaded.architecture == flow.architecture
    (tmp_path / "flow.safetensors").write_bytes(b"no flow")
    with pytest.raises(ArtifactError, match="train-flow"):
        load_flow(tmp_path / "flow.safetensors")


def test_a_loss_that_is_no_number_ends_the_run(make_trainer, tmp_path):
    trainer = make_trainer(folder=tmp_path)
    trainer.pairs.x_1[:] = torch.nan
    with pytest.raises(ValueError, match=r"loss is nan at iteration 1; lower training\.learning_rate"):
        trainer.run()
    assert not (tmp_path / "state.pt").exists()


def test_layers_are_compiled_if_asked(make_trainer, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    make_trainer()
    assert compiled == []
    trainer = make_trainer(compile=True)
    assert compiled == list(trainer.flow.network.layers)
    assert not set(compiled) & set(trainer.averaged.modules())


@pytest.mark.parametrize(("precision", "expected"), [("float32", True), ("bfloat16", False)])
def test_kernels_are_only_built_for_the_precision_they_are_for(make_trainer, monkeypatch, precision, expected):
    asked = []
    monkeypatch.setattr(training_module, "compile_parts", lambda network, kernels: asked.append(kernels))
    make_trainer(compile=True, precision=precision)
    assert asked == [expected]


@pytest.mark.parametrize("changes", [{"loss": "function"}, {"loss": "gauss-newton"}, {"condition": "loss"}])
def test_zoos_in_double_precision_train_as_in_single(changes, make_flow, training_config, dataset):
    losses, condition = [], {name: changes[name] for name in changes if name == "condition"}
    for dtype in (torch.float32, torch.float64):
        flow, zoo = make_flow(**condition)
        zoo = replace(zoo, networks=zoo.networks.to(dtype))
        config = training_config(iterations=2, **{name: changes[name] for name in changes if name == "loss"})
        losses.append(FlowTrainer(flow, zoo, config, dataset.train).step())
    assert losses[0] == losses[1]
