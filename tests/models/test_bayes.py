"""Bayesian models draw from the posterior: closed forms of linear regression, and what must differ from them does."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from wflib.architecture import cnn, mlp
from wflib.config import EXTRAS, MissingExtra, extra_module, load_settings
from wflib.evaluation import chain_diagnostics
from wflib.flow import Coordinates
from wflib.models import METHODS
from wflib.models.bayes import prior_deviations
from wflib.models.dropout import Dropout, with_dropped_neurons
from wflib.models.swag import Swag
from wflib.networks import Networks, network_losses
from wflib.rng import generator, global_numbers_from
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo, canonical_zoo

STD = 0.5
LINE = mlp([2, 1], task_type="regression")
SETTINGS = {
    "hmc": {"chains": 2, "warmup": 40, "draws": 300},
    "sgld": {"chains": 128, "steps": 500, "warmup": 200, "every": 20, "learning_rate": 0.01, "batch_size": 100},
    "sghmc": {
        "chains": 128,
        "steps": 400,
        "warmup": 100,
        "every": 20,
        "learning_rate": 0.05,
        "friction": 4.0,
        "batch_size": 100,
    },
    "mean-field": {"steps": 800, "runs": 2, "learning_rate": 0.02},
    "laplace-last-layer": {"runs": 2, "steps": 400, "learning_rate": 0.05},
}
"""Method → settings that are right to a few per cent within seconds."""
TOLERANCE = {"hmc": 0.15, "sgld": 0.2, "sghmc": 0.2, "mean-field": 0.1, "laplace-last-layer": 0.05}
"""How far means may be off, in posterior deviations, and variances relatively."""


def regression(count: int = 12) -> Dataset:
    random = generator(0, "regression")
    inputs = torch.randn(count, 2, generator=random) @ torch.tensor([[1.0, 0.6], [0.0, 0.8]])
    split = Split(inputs, inputs @ torch.tensor([[1.0], [-0.5]]) + torch.randn(count, 1, generator=random))
    return Dataset("line", "regression", 1, split, split, split)


def zoo_of(architecture, networks: int = 3, metadata=None) -> Zoo:
    flat = torch.randn(networks, architecture.dimension, generator=generator(0, "zoo"))
    numbers = torch.arange(networks)
    metadata = {"init_std": STD} if metadata is None else metadata
    return Zoo(
        Networks.from_flat(architecture, flat), numbers, numbers, torch.zeros(networks).bool(), "aligned", metadata=metadata
    )


def exact(dataset: Dataset, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and precision of the weights and the bias of a line, N((XᵀX/T + I/σ²)⁻¹ Xᵀy/T, ·⁻¹)."""
    x = torch.cat([dataset.train.inputs, torch.ones(len(dataset.train.inputs), 1)], 1).double()
    precision = x.T @ x / temperature + torch.eye(3, dtype=torch.float64) / STD**2
    return torch.linalg.solve(precision, x.T @ dataset.train.targets.double() / temperature)[:, 0], precision


def errors(drawn: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> float:
    """The largest error of a mean, in deviations, and of a variance, relatively."""
    shift = ((drawn.mean(0) - mean) / variance.sqrt()).abs().max()
    return max(shift.item(), (drawn.var(0) / variance - 1).abs().max().item())


@pytest.mark.parametrize("name", SETTINGS)
def test_the_posterior_of_a_line_is_the_closed_form_at_its_temperature_and_no_other(name):
    dataset, zoo, method = regression(), zoo_of(LINE), METHODS[name]
    model = method.fit(zoo, dataset, method.Settings(temperature=3.0, **SETTINGS[name]), generator(0, "fit"))
    drawn = model.draw(20_000, generator(0, "draw")).flat.double()
    for temperature in (3.0, 1.0):
        mean, precision = exact(dataset, temperature)
        # Independent Gaussians nearest in KL(q ‖ p) have the conditional variances, all others the marginal ones.
        variance = 1 / precision.diagonal() if name == "mean-field" else precision.inverse().diagonal()
        assert (errors(drawn, mean, variance) < TOLERANCE[name]) == (temperature == 3.0)
    if name == "laplace-last-layer":
        mean, precision = exact(dataset, 3.0)
        torch.testing.assert_close(drawn.T.cov(), precision.inverse(), atol=0.01, rtol=0.05)


@pytest.mark.parametrize("outputs", [1, 4, 7])
def test_the_curvature_is_a_sum_over_examples_however_they_are_parted(outputs, monkeypatch):
    architecture, random = mlp([2, 3, 2]), generator(0, "classes")
    split = Split(torch.randn(9, 2, generator=random), torch.arange(9) % 2)
    dataset, settings = Dataset("two", "classification", 2, split, split, split), SETTINGS["laplace-last-layer"]

    def fitted(task: Dataset):
        chosen = METHODS["laplace-last-layer"].Settings(**settings)
        return METHODS["laplace-last-layer"].fit(zoo_of(architecture), task, chosen, generator(0, "fit")).state

    whole = fitted(dataset)
    monkeypatch.setattr("wflib.models.laplace.OUTPUTS", outputs)
    parted = fitted(dataset)
    torch.testing.assert_close(parted["factor"], whole["factor"])
    assert parted["mean"].equal(whole["mean"])


@pytest.mark.parametrize("name", ["hmc", "laplace-last-layer"])
def test_without_evidence_the_prior_is_left_and_it_is_the_one_asked_for(name):
    settings = METHODS[name].Settings(prior_std=0.2, temperature=1e9, **SETTINGS[name])
    drawn = METHODS[name].fit(zoo_of(LINE), regression(), settings, generator(0, "fit")).draw(20_000, generator(0, "draw"))
    variance = torch.full((3,), 0.04, dtype=torch.float64)
    assert errors(drawn.flat.double(), torch.zeros(3).double(), variance) < 0.15
    assert errors(drawn.flat.double(), torch.zeros(3).double(), variance * (STD / 0.2) ** 2) > 0.5


def test_hamiltonian_chains_of_a_logistic_posterior_agree_with_quadrature():
    architecture = mlp([1, 2], bias=False)
    x, y = torch.tensor([[-1.0], [0.5], [1.0], [2.0], [-0.5]]), torch.tensor([0, 1, 0, 1, 0])
    split = Split(x, y)
    dataset = Dataset("one", "classification", 2, split, split, split)
    settings = METHODS["hmc"].Settings(chains=4, warmup=40, draws=150)
    model = METHODS["hmc"].fit(zoo_of(architecture), dataset, settings, generator(0, "fit"))
    slope = (model.state["chains"] @ torch.tensor([-1.0, 1.0])).double()  # of the log-odds; its prior is N(0, 2 σ²)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    signs = (2 * y - 1).double() * x[:, 0].double()
    log_density = -grid.square() / (4 * STD**2) + torch.nn.functional.logsigmoid(grid[:, None] * signs).sum(1)
    weights = log_density.softmax(0)
    mean = (weights * grid).sum()
    deviation = (weights * (grid - mean).square()).sum().sqrt()
    found = chain_diagnostics(slope)
    assert found.r_hat < 1.03
    assert abs(slope.mean() - mean) < 4 * deviation / found.ess_bulk**0.5
    assert slope.std().item() == pytest.approx(deviation.item(), rel=0.1)
    assert abs(mean) > 8 * deviation / found.ess_bulk**0.5  # the prior's mean is told apart
    assert 0.5 < model.state["acceptance"].min() <= 1
    assert model.state["divergences"].tolist() == [0] * 4


def test_the_priors_deviation_is_the_declared_one_or_what_initial_weights_have():
    architecture = mlp([2, 3, 2])
    space = Coordinates(architecture)
    assert prior_deviations(zoo_of(architecture), space) == STD
    measured = prior_deviations(zoo := zoo_of(architecture, metadata={}), space)
    where = architecture.slices["linear1.weight"]
    assert measured[where].unique().item() == pytest.approx(zoo.networks.flat[:, where].square().mean().sqrt().item())
    canonical = canonical_zoo(zoo_of(architecture, metadata={}))
    again = prior_deviations(canonical, Coordinates(canonical.architecture))
    assert again.shape == (architecture.dimension,)  # of ordinary networks
    assert again[architecture.slices["linear2.weight"]].min() > 0
    with pytest.raises(ValueError, match="positive deviations"):
        METHODS["hmc"].fit(zoo_of(architecture), regression(), METHODS["hmc"].Settings.model_construct(prior_std=0.0))


def test_networks_without_what_a_method_needs_are_refused():
    convolutions = zoo_of(cnn((1, 8, 8), [2], 2), metadata={"init_std": STD, "recipe": recipe().model_dump(mode="json")})
    images = Split(torch.zeros(4, 1, 8, 8), torch.zeros(4).long())
    dataset = Dataset("images", "classification", 2, images, images, images)
    with pytest.raises(ValueError, match="mc-dropout: expected a perceptron"):
        Dropout.fit(convolutions, dataset)
    with pytest.raises(ValueError, match="mc-dropout: expected hidden neurons"):
        Dropout.fit(zoo_of(LINE, metadata=convolutions.metadata), regression())
    with pytest.raises(ValueError, match=r"the zoo does not say how it was trained; give models\.swag\.recipe"):
        Swag.fit(zoo_of(LINE), regression())


def recipe(**changes):
    chosen = {"epochs": 6, "skip_epochs": 5, "snapshot_every": 1, "batch_size": 12} | changes
    return load_settings(changes=[f"zoo.{key}={value}" for key, value in chosen.items()]).zoo


def test_swag_has_the_moments_of_gradient_descents_iterates():
    dataset = regression()
    settings = Swag.Settings(recipe=recipe(), runs=2, learning_rate=0.1, iterates=5, every=3, rank=4)
    model = Swag.fit(zoo_of(LINE), dataset, settings, generator(0, "fit"))
    trained = Swag.trained(LINE, dataset.train, settings.recipe, 2, generator(0, "fit")).last_snapshots.networks
    weights, iterates = trained.flat.clone(), []
    for step in range(1, 16):
        weights.requires_grad_()
        (slope,) = torch.autograd.grad(network_losses(Networks.from_flat(LINE, weights), dataset.train).sum(), weights)
        weights = (weights - 0.1 * slope).detach()
        if step % 3 == 0:
            iterates.append(weights.double())
    iterates = torch.stack(iterates, 1)
    torch.testing.assert_close(model.state["mean"].double(), iterates.mean(1), atol=1e-5, rtol=0)
    deviation = model.state["deviation"].double() * 2**0.5
    torch.testing.assert_close(deviation, iterates.std(1, correction=0), atol=1e-4, rtol=1e-3)
    running = iterates.cumsum(1) / torch.arange(1, 6)[:, None]
    torch.testing.assert_close(model.state["factor"].double() * 6**0.5, (iterates - running)[:, 1:], atol=1e-5, rtol=0)


def test_swag_draws_have_half_the_diagonal_and_half_the_low_rank_covariance():
    settings = Swag.Settings(recipe=recipe(), runs=1, learning_rate=0.3, iterates=4, every=1, rank=3)
    model = Swag.fit(zoo_of(LINE), regression(), settings, generator(0, "fit"))
    model.state["deviation"][:] = torch.tensor([0.1, 0.2, 0.3])
    model.state["factor"][:] = torch.randn(1, 3, 3, generator=generator(0, "factor"))
    drawn = model.draw(40_000, generator(0, "draw")).flat.double()
    deviation, factor = model.state["deviation"][0].double(), model.state["factor"][0].double()
    low_rank = factor.T @ factor
    torch.testing.assert_close(drawn.T.cov(), deviation.square().diag() + low_rank, atol=0.02, rtol=0.03)
    assert (drawn.T.cov() - deviation.square().diag()).abs().max() > 0.2


def test_a_draw_by_dropout_is_a_network_whose_dropped_neurons_say_nothing():
    architecture = mlp([3, 5, 4, 2])
    networks = Networks.from_flat(architecture, torch.randn(64, architecture.dimension, generator=generator(0, "n")))
    dropped = networks.with_weights(with_dropped_neurons(networks, 0.25, generator(0, "mask")))
    inputs = torch.randn(7, 3, generator=generator(0, "inputs"))
    value = inputs.expand(64, -1, -1)
    for place, layer in enumerate(architecture.layers):
        if place:
            ratio = dropped.weights[layer.weight] / networks.weights[layer.weight]
            mask = ratio[:, 0]  # of the neurons that this layer reads
            assert torch.allclose(ratio, mask[:, None].expand_as(ratio))
            assert torch.allclose(mask[mask != 0], torch.tensor(4 / 3))
            assert 0.15 < (mask == 0).double().mean() < 0.35
            value = value * mask[:, None]
        value = value @ networks.weights[layer.weight].mT + networks.weights[layer.bias][:, None]
        value = value.relu() if layer.activation == "relu" else value
    torch.testing.assert_close(dropped.forward(inputs), value, atol=1e-4, rtol=1e-4)
    assert (dropped.forward(inputs) - networks.forward(inputs)).abs().max() > 0.1


def test_dropout_without_a_rate_draws_the_trained_networks_and_with_one_neither():
    dataset = regression()
    zoo = zoo_of(mlp([2, 3, 1], task_type="regression"))
    for rate in (0.0, 0.5):
        settings = Dropout.Settings(recipe=recipe(epochs=40, learning_rate=0.05), runs=2, rate=rate)
        model = Dropout.fit(zoo, dataset, settings, generator(0, "fit"))
        trained = Networks.from_flat(zoo.architecture, model.state["trained"])
        distance = torch.cdist(model.draw(20, generator(0, "draw")).flat, trained.flat).amin(1).max()
        assert (distance < 1e-5) == (rate == 0)
    first = network_losses(zoo_of(zoo.architecture).networks, dataset.train).mean()
    assert network_losses(trained, dataset.train).mean() < 0.8 * first


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    for name in {*EXTRAS, *(name for name in sys.modules if name.partition(".")[0] in EXTRAS)}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"hmc needs pyro, which is not installed: pip install 'wflib\[bayes\]'"):
        METHODS["hmc"].fit(zoo_of(LINE), regression())
    with pytest.raises(MissingExtra, match=r"mean-field needs torchopt"):
        METHODS["mean-field"].fit(zoo_of(LINE), regression())
    with pytest.raises(MissingExtra, match=r"chain_diagnostics needs arviz_stats"):
        chain_diagnostics(torch.randn(2, 10))


def test_an_installed_package_that_lacks_one_of_its_own_says_so_itself(monkeypatch, tmp_path):
    (tmp_path / "torchopt_like").mkdir()
    (tmp_path / "torchopt_like" / "__init__.py").write_text("import no_such_package_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EXTRAS, "torchopt_like", "bayes")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all") as found:
        extra_module("torchopt_like", "a test")
    assert not isinstance(found.value, MissingExtra)


def test_all_else_works_without_the_extra():
    packages = ", ".join(f"'{package}'" for package in EXTRAS)
    code = (
        f"import sys\nfor package in [{packages}]: sys.modules[package] = None\n"
        "import wflib.models, wflib.evaluation\n"
        "print(len(wflib.models.METHODS))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == (str(len(METHODS)), 0), done.stderr


def test_global_numbers_follow_the_generator_and_leave_the_others_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    inside = []
    for seed in (0, 0, 1):
        with global_numbers_from(generator(seed)):
            inside.append(torch.rand(2))
    assert torch.equal(inside[0], inside[1])
    assert not torch.equal(inside[0], inside[2])
    assert torch.equal(torch.rand(2), expected)
