"""Models reproduce the moments they promise, and only those; all are used alike and see neither held-out nor test data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wflib.architecture import mlp
from wflib.config import Section, SettingsError, load_settings
from wflib.models import METHODS, CoordinateModel, check_methods, load_model, method_settings
from wflib.models.average import Average
from wflib.models.gaussian import DiagonalGaussian, FullGaussian, LowRankGaussian, PrincipalComponents
from wflib.models.kernel_density import KernelDensity
from wflib.models.noise import Memorizer, TrainingNoise
from wflib.models.training import FewSteps, TrainedAnew
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.storage import ArtifactError
from wflib.tasks import TASKS, Dataset, Split
from wflib.zoo import Zoo, canonical_zoo, train_zoo

ARCHITECTURE = mlp([2, 2, 2])  # 12 coordinates


def points(name: str, count: int = 40) -> Split:
    """Two separable clouds."""
    random = generator(0, "points", name)
    targets = torch.arange(count) % 2
    return Split(torch.randn(count, 2, generator=random) + 3 * targets[:, None], targets)


BAYESIAN = {
    "swag": {"runs": 2, "iterates": 4, "every": 1, "rank": 2},
    "mc-dropout": {"runs": 2},
    "mean-field": {"runs": 2, "steps": 3},
    "laplace-last-layer": {"runs": 2, "steps": 3},
    "sgld": {"chains": 2, "steps": 4, "warmup": 1, "every": 1},
    "sghmc": {"chains": 2, "steps": 4, "warmup": 1, "every": 1},
    "hmc": {"chains": 2, "warmup": 2, "draws": 3},
}
QUICK = BAYESIAN | {
    "gaussian-mixture": {"clusters": 2},
    "flat-flow": {"width": 16, "steps": 50, "solver_steps": 5},
    "latent-diffusion": {
        "width": 16,
        "latent": 4,
        "autoencoder_steps": 50,
        "steps": 50,
        "diffusion_steps": 20,
        "beta": (0.01, 0.6),
    },
    "hyper-representation": {"token": 4, "latent": 2, "width": 16, "layers": 1, "steps": 50},
}
"""Settings of methods whose own take longer than a test of what all have in common should."""
LOOK_AT_NO_NETWORKS = {"few-steps", "trained-anew", *BAYESIAN}

TASK = Dataset("clouds", "classification", 2, points("train"), points("validation"), points("test"))


def zoo_of(flat: torch.Tensor) -> Zoo:
    """Networks with the recipe of a quick training."""
    count = len(flat)
    nothing = torch.zeros(count, dtype=torch.bool)
    recipe = load_settings(changes=["zoo.epochs=4", "zoo.skip_epochs=1", "zoo.snapshot_every=1", "zoo.batch_size=20"]).zoo
    metadata = {"recipe": recipe.model_dump(mode="json"), "init_std": 0.5}
    networks = Networks.from_flat(ARCHITECTURE, flat)
    return Zoo(networks, torch.arange(count), torch.ones(count).long(), nothing, "aligned", metadata=metadata)


@pytest.fixture
def correlated() -> Zoo:
    """Six networks in twelve dimensions: correlated, and of rank five only."""
    return zoo_of(torch.randn(6, 12, generator=generator(0, "zoo")) + torch.arange(12))


def quickly_fitted(name: str, zoo: Zoo, task: Dataset = TASK) -> CoordinateModel:
    """A model with settings with which a test of its interface is quick."""
    return METHODS[name].fit(zoo, task, METHODS[name].Settings(**QUICK.get(name, {})))


def drawn(method, zoo, count, seed="draw", **settings) -> torch.Tensor:
    model = method.fit(zoo, TASK, method.Settings(**settings), generator(0, "fit"))
    return model.draw(count, generator(0, seed)).flat.double()


def test_full_gaussian_reproduces_mean_and_covariance_and_the_diagonal_one_only_variances(correlated):
    target, count = correlated.networks.flat.double().T.cov(), 40_000
    full, diagonal = (drawn(method, correlated, count) for method in (FullGaussian, DiagonalGaussian))
    assert (full.T.cov() - target).abs().max() < 0.1
    for x in (full, diagonal):
        torch.testing.assert_close(x.mean(0), correlated.networks.flat.double().mean(0), atol=0.05, rtol=0)
        torch.testing.assert_close(x.var(0), target.diagonal(), atol=0.05, rtol=0.05)
    off_diagonal = diagonal.T.cov() - diagonal.T.cov().diagonal().diag()
    assert off_diagonal.abs().max() < 0.1
    assert (diagonal.T.cov() - target).abs().max() > 0.5


def test_a_low_rank_gaussian_keeps_all_variances_and_leading_covariances_and_pca_only_the_latter(correlated):
    target, count = correlated.networks.flat.double().T.cov(), 40_000
    values, vectors = torch.linalg.eigh(target)
    leading = vectors[:, -2:] @ values[-2:].diag() @ vectors[:, -2:].T
    low_rank, span = (drawn(method, correlated, count, rank=2) for method in (LowRankGaussian, PrincipalComponents))
    torch.testing.assert_close(low_rank.var(0), target.diagonal(), atol=0.05, rtol=0.05)
    mixed = low_rank.T.cov() - leading
    assert (mixed - mixed.diagonal().diag()).abs().max() < 0.1
    assert (span.T.cov() - leading).abs().max() < 0.1
    assert torch.linalg.matrix_rank(span - span.mean(0), rtol=1e-5) == 2
    assert (span.var(0) - target.diagonal()).abs().max() > 0.3
    everything = drawn(LowRankGaussian, correlated, count, rank=50)  # more than there are
    assert (everything.T.cov() - target).abs().max() < 0.1


def test_full_gaussian_stays_in_the_span_of_the_zoo_and_the_diagonal_one_leaves_it(correlated):
    flat = correlated.networks.flat.double()
    directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:5]

    def outside(x: torch.Tensor) -> float:
        offset = x - flat.mean(0)
        return (offset - offset @ directions.T @ directions).abs().max().item()

    assert outside(drawn(FullGaussian, correlated, 20)) < 1e-5
    assert outside(drawn(DiagonalGaussian, correlated, 20)) > 0.5


def test_noise_has_the_promised_deviation_in_every_tensor_around_training_networks():
    random = generator(1, "zoo")
    sizes = torch.tensor([where.stop - where.start for where in ARCHITECTURE.slices.values()])
    scales = (10.0 ** torch.arange(len(sizes))).repeat_interleave(sizes)
    # Coordinates far apart from each other must not count as spread of the zoo.
    zoo = zoo_of(torch.randn(400, 12, generator=random) * scales + 100 * torch.arange(12) * scales)
    x, flat = drawn(TrainingNoise, zoo, 4000, noise=0.01), zoo.networks.flat.double()
    nearest = torch.cdist(x / scales, flat / scales).min(1).indices
    for index, (name, where) in enumerate(ARCHITECTURE.slices.items()):
        deviation = (x[:, where] - flat[nearest][:, where]).std().item()
        assert deviation == pytest.approx(0.01 * 10.0**index, rel=0.1), name
    assert len(nearest.unique()) > 390


def test_without_noise_and_from_memory_come_copies(correlated):
    for x in (drawn(TrainingNoise, correlated, 10, noise=0.0), drawn(Memorizer, correlated, 10)):
        assert torch.cdist(x, correlated.networks.flat.double()).min(1).values.max() < 1e-5
    assert torch.cdist(drawn(TrainingNoise, correlated, 10), correlated.networks.flat.double()).min(1).values.min() > 1e-3


def test_averages_are_of_all_or_of_as_many_as_asked_for(correlated):
    flat = correlated.networks.flat.double()
    torch.testing.assert_close(drawn(Average, correlated, 5), flat.mean(0, keepdim=True), atol=1e-5, rtol=0)
    pairs = torch.stack([(flat[i] + flat[j]) / 2 for i in range(6) for j in range(i)])
    x = drawn(Average, correlated, 200, networks=2)
    assert torch.cdist(x, pairs).min(1).values.max() < 1e-5
    assert len(torch.cdist(x, pairs).argmin(1).unique()) == len(pairs)
    with pytest.raises(ValueError, match="at most the zoo's 6, got 7"):
        drawn(Average, correlated, 3, networks=7)


def test_kernels_sit_on_the_best_networks_in_the_span():
    zoo = zoo_of(torch.randn(30, 12, generator=generator(3, "zoo")))
    flat, losses = zoo.networks.flat.double(), network_losses(zoo.networks, TASK.validation)
    x = drawn(KernelDensity, zoo, 500, rank=50, bandwidth=1e-6, best=0.2)
    nearest = torch.cdist(x, flat).min(1)
    assert nearest.values.max() < 1e-4
    assert set(nearest.indices.unique().tolist()) == set(losses.argsort()[:6].tolist())
    wide = drawn(KernelDensity, zoo, 4000, rank=50, bandwidth=2.0)  # variance (1 + h²) of the zoo's, up to the divisor
    ratio = wide.var(0).sum() / flat.var(0).sum()
    assert ratio == pytest.approx(29 / 30 + 4, rel=0.05)


def test_few_steps_and_training_anew_solve_the_task_that_the_zoo_does_not(correlated):
    before = network_losses(correlated.networks, TASK.test).mean()
    for method, bar in ((FewSteps, 0.5), (TrainedAnew, 0.69)):
        settings = {"recipe": recipe_that_learns()} if method is TrainedAnew else {}
        model = method.fit(correlated, TASK, method.Settings(**settings), generator(0, "fit"))
        after = network_losses(model.draw(50, generator(0, "draw")), TASK.test).mean()
        assert after < bar < before
    untrained = FewSteps.fit(correlated, TASK, FewSteps.Settings(steps=0)).draw(50, generator(0, "draw"))
    assert network_losses(untrained, TASK.test).mean() > 0.5


def recipe_that_learns():
    changes = ["epochs=30", "skip_epochs=20", "snapshot_every=5", "learning_rate=0.03", "batch_size=20"]
    return load_settings(changes=[f"zoo.{change}" for change in changes]).zoo


def test_training_anew_draws_what_train_zoo_trains():
    recipe = recipe_that_learns().model_copy(update={"networks": 64})
    zoo = train_zoo(ARCHITECTURE, TASK, recipe)
    model = TrainedAnew.fit(zoo, TASK)
    assert model.settings.recipe == recipe
    losses = network_losses(model.draw(64, generator(0, "draw")), TASK.train)
    theirs = network_losses(zoo.last_snapshots.networks, TASK.train)
    assert losses.median() < 2 * theirs.median() + 0.05
    with pytest.raises(ValueError, match="does not say how it was trained"):
        TrainedAnew.fit(replace(zoo, metadata={}), TASK)


@pytest.mark.parametrize("name", METHODS)
def test_all_are_used_alike_keep_shapes_and_repeat_with_the_seed(name, correlated, tmp_path):
    model = quickly_fitted(name, correlated)
    first, again, other = (model.draw(7, generator(seed, name)) for seed in (0, 0, 1))
    assert first.architecture == ARCHITECTURE
    assert first.flat.shape == (1 if name == "average" else 7, 12)
    assert torch.equal(first.flat, again.flat)
    assert torch.equal(first.flat, other.flat) == (name == "average")
    model.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert torch.equal(loaded.draw(7, generator(0, name)).flat, first.flat)
    assert (loaded.settings, loaded.metadata) == (model.settings, {"task": "clouds"})
    with pytest.raises(ValueError, match="at least one network to draw, got 0"):
        model.draw(0, generator(0))


@pytest.mark.parametrize("name", METHODS)
def test_every_draw_lies_on_the_zoos_manifold(name, correlated):
    zoo = canonical_zoo(correlated)
    x = quickly_fitted(name, zoo).draw(7, generator(0, name))
    assert x.architecture == zoo.architecture

    def off_the_spheres(networks: Networks) -> float:
        rows = torch.cat([networks.weights["linear1.weight"], networks.weights["linear1.bias"][..., None]], -1)
        return (rows.norm(dim=-1) - 1).abs().max().item()

    assert off_the_spheres(x) < 1e-5
    if name == "average":  # what the mean is by itself
        assert off_the_spheres(zoo.networks.map(lambda tensor: tensor.mean(0, keepdim=True))) > 0.05


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("data", [torch.float32, torch.float64])
def test_draws_have_the_zoos_precision_whatever_the_datas_is(name, data, correlated, tmp_path):
    double = replace(correlated, networks=correlated.networks.to(torch.float64))
    parts = {part: Split(points(part).inputs.to(data), points(part).targets) for part in ("train", "validation", "test")}
    model = quickly_fitted(name, double, replace(TASK, **parts))
    drawn = model.draw(3, generator(0, name))
    assert drawn.dtype == torch.float64
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors").draw(3, generator(0, name))
    torch.testing.assert_close(again.flat, drawn.flat, rtol=1e-12, atol=1e-12)  # layouts in memory may round otherwise


@pytest.mark.parametrize("name", METHODS)
def test_neither_held_out_networks_nor_test_examples_are_read(name, correlated):
    held_out = torch.arange(6) >= 4
    zoo = replace(correlated, held_out=held_out)
    poisoned = {key: torch.where(held_out.view(-1, *(1 for _ in t.shape[1:])), t + 100, t) for key, t in zoo.weights.items()}
    other = replace(zoo, networks=zoo.networks.with_weights(poisoned))
    nothing = replace(TASK, test=Split(torch.full((40, 2), torch.nan), TASK.test.targets))
    first, second = (quickly_fitted(name, *args).draw(5, generator(0)) for args in ((zoo, TASK), (other, nothing)))
    assert torch.equal(first.flat, second.flat)
    assert METHODS[name].learns_from_networks == (name not in LOOK_AT_NO_NETWORKS)
    if METHODS[name].learns_from_networks:
        poisoned = quickly_fitted(name, replace(other, held_out=~held_out)).draw(5, generator(0))
        assert not torch.equal(first.flat, poisoned.flat)


@pytest.mark.parametrize("name", METHODS)
def test_zoos_too_small_to_fit_and_settings_of_another_are_errors(name, correlated):
    fewest = METHODS[name].fewest
    with pytest.raises(ValueError, match=rf"{name}: expected at least (one network|two networks) to learn from"):
        METHODS[name].fit(correlated[: fewest - 1], TASK)
    with pytest.raises(ValueError, match=f"{name}: expected settings"):
        METHODS[name].fit(correlated, TASK, load_settings().align)


@pytest.mark.parametrize("name", METHODS)
def test_without_examples_weights_alone_are_learned_from_and_nothing_else_is(name, correlated):
    nothing = TASKS["none"]().for_networks(ARCHITECTURE, "test")
    if name in {*LOOK_AT_NO_NETWORKS, "hyper-representation"}:
        with pytest.raises(ValueError, match=f"^{name}: expected a task with examples, .* got the task none; choose"):
            quickly_fitted(name, correlated, nothing)
    else:
        fitted = [quickly_fitted(name, correlated, task) for task in (nothing, TASK)]
        assert torch.equal(*(model.draw(3, generator(0, name)).flat for model in fitted))


@pytest.mark.parametrize("method", [KernelDensity, METHODS["hyper-representation"]])
def test_without_examples_none_is_the_best(method, correlated):
    nothing, settings = TASKS["none"]().for_networks(ARCHITECTURE, "test"), QUICK.get(method.name, {})
    everyone = method.fit(correlated, nothing, method.Settings(**settings | {"best": 1.0}))
    assert len(everyone.draw(3, generator(0))) == 3
    with pytest.raises(ValueError, match="expected a task with examples"):
        method.fit(correlated, nothing, method.Settings(**settings | {"best": 0.5}))


def test_settings_name_the_method_the_key_and_what_is_allowed():
    assert method_settings({"training-noise": {"noise": 0.2}}, "training-noise") == TrainingNoise.Settings(noise=0.2)
    assert method_settings({}, "average") == Average.Settings()
    with pytest.raises(SettingsError, match=r"low \(0.6\) must not be above high \(0.5\)"):
        method_settings({"interpolation": {"low": 0.6}}, "interpolation")
    with pytest.raises(SettingsError, match="models: gaussian: no such model; allowed: average"):
        method_settings({}, "gaussian")
    with pytest.raises(
        SettingsError, match=r"models.training-noise: noise: .*greater than or equal to 0, got -1; allowed: noise"
    ):
        method_settings({"training-noise": {"noise": -1}}, "training-noise")
    for change, complaint in (
        ("sample.from=gaussian", "sample.from: gaussian: no such model; allowed: flow, average"),
        ("evaluate.models=[flow]", "evaluate.models: flow: no such model; allowed: average"),
        ("models.few-steps={size: 3}", "models.few-steps: size: Extra inputs"),
        ("models.nothing={}", "models: nothing: no such model"),
        ("models.few-steps={learning_rates: [-1]}", "models.few-steps: learning_rates.0: .*greater than 0"),
        ("models.few-steps={learning_rates: [.nan]}", "models.few-steps: learning_rates.0: "),
        ("models.sgld={steps: 1, warmup: 5}", r"models.sgld: Value error, steps \(1\) must exceed warmup \(5\)"),
        ("models.hmc={trajectory: .inf}", "models.hmc: trajectory: .*finite"),
    ):
        with pytest.raises(SettingsError, match=complaint):
            check_methods(load_settings(changes=[change]))
    check_methods(load_settings(changes=["sample.from=few-steps", "models.few-steps={steps: 3}"]))


def test_a_file_of_another_method_or_of_none_is_refused(correlated, tmp_path):
    path = tmp_path / "model.safetensors"
    model = DiagonalGaussian.fit(correlated, TASK)
    for damaged, complaint in (
        (type("Unknown", (DiagonalGaussian,), {"name": "unknown"}), "expected a model of one of .* found 'unknown'"),
        (
            type("Other", (DiagonalGaussian,), {"name": "training-noise", "Settings": Broken}),
            "not a model of training-noise",
        ),
    ):
        damaged(model.space, damaged.Settings(), model.state, {}).save(path)
        with pytest.raises(ArtifactError, match=complaint):
            load_model(path)


class Broken(Section):
    """Settings that no method has."""

    colour: str = "green"
