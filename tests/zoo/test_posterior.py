"""Posterior densities by their definition, chains that draw from them, and zoos of such draws."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp, resnet
from wflib.config import ZooConfig
from wflib.rng import generator
from wflib.tasks import Dataset, Split
from wflib.zoo import (
    Posterior,
    hamiltonian_chains,
    load_zoo,
    minibatches,
    save_zoo,
    stochastic_gradient_chains,
    train_zoo,
)
from wflib.zoo import training as training_module

STD = 0.5
LINE = mlp([1, 1], task_type="regression", bias=False)
X, Y = torch.tensor([[1.0], [2.0], [-1.0], [0.5]]), torch.tensor([[1.0], [1.5], [-2.0], [0.0]])
TRAIN = Split(X, Y)
DATASET = Dataset("line", "regression", 1, TRAIN, TRAIN, TRAIN)
RECIPE = {
    "seed": 0,
    "network": "mlp",
    "widths": [2],
    "activation": "relu",
    "networks": 40,
    "held_out": 0.1,
    "optimizer": "sgd",
    "learning_rate": 0.02,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "batch_size": 4,
    "epochs": 300,
    "skip_epochs": 100,
    "snapshot_every": 20,
    "init": "normal",
    "init_std": STD,
    "device": "cpu",
}


def moments() -> tuple[float, float]:
    """Mean and deviation of the slope's posterior."""
    precision = X.square().sum().item() + STD**-2
    return (X * Y).sum().item() / precision, precision**-0.5


def test_the_density_is_prior_times_likelihood_of_all_examples():
    architecture, random = mlp([3, 4, 2]), generator(0, "density")
    train = Split(torch.randn(9, 3, generator=random), torch.arange(9) % 2)
    std = torch.rand(architecture.dimension, generator=random) + 0.5
    posterior = Posterior(architecture, train, std, temperature=2.0)
    z = posterior.standard_normal(5, random)
    outputs = architecture.forward(architecture.unflatten(z * std), train.inputs)
    prior = torch.distributions.Normal(0.0, std).log_prob(z * std).sum(1)
    likelihood = outputs.log_softmax(-1)[:, torch.arange(9), train.targets].sum(1) / 2
    constant = torch.distributions.Normal(0.0, std).log_prob(torch.zeros(())).sum()
    torch.testing.assert_close(posterior.log_density(z), prior + likelihood - constant)
    parts = [Split(train.inputs[i::3], train.targets[i::3]) for i in range(3)]
    torch.testing.assert_close(
        torch.stack([posterior.log_density(z, part) for part in parts]).mean(0), posterior.log_density(z)
    )


def test_minibatches_are_epochs_without_replacement_and_every_networks_own():
    split = Split(torch.arange(10.0)[:, None], torch.arange(10))
    batches = minibatches(split, 3, 5, generator(0))
    for _ in range(2):
        first, second = next(batches), next(batches)
        assert first.inputs.shape == (3, 5, 1)
        assert torch.equal(first.inputs[..., 0].long(), first.targets)
        for one, other in zip(first.targets, second.targets, strict=True):
            assert sorted([*one.tolist(), *other.tolist()]) == list(range(10))
        assert not torch.equal(first.targets[0], first.targets[1])
    assert next(minibatches(split, 3, 10, generator(0))) is split


@pytest.mark.parametrize("sampler", ["sgld", "hmc"])
def test_a_zoo_of_posterior_draws_has_the_posteriors_moments(sampler, tmp_path):
    changes = {} if sampler == "sgld" else {"networks": 3, "epochs": 100, "skip_epochs": 20, "snapshot_every": 2}
    config = ZooConfig.model_validate(RECIPE | {"sampler": sampler} | changes)
    told = []
    zoo = train_zoo(LINE, DATASET, config, progress=lambda *facts: told.append(facts))
    again = train_zoo(LINE, DATASET, config)
    assert torch.equal(zoo.networks.flat, again.networks.flat)
    chains, draws = (40, 10) if sampler == "sgld" else (3, 40)
    assert (len(zoo), len(zoo.initial), zoo.form) == (chains * draws, chains, "trained")
    every, first = config.snapshot_every, config.skip_epochs + config.snapshot_every
    assert zoo.step[zoo.trajectory == 0].tolist() == list(range(first, config.epochs + 1, every))
    assert zoo.held_out.sum() == draws * (4 if sampler == "sgld" else 1)
    assert zoo.init_std == STD
    assert zoo.metadata["recipe"]["sampler"] == sampler
    assert [epoch for epoch, _, _ in told] == list(range(1, config.epochs + 1))
    assert all(0 < loss < 5 for _, _, loss in told)
    mean, deviation = moments()
    slopes = zoo.networks.flat[:, 0].double()
    assert abs(slopes.mean() - mean) < 0.25 * deviation
    assert slopes.std().item() == pytest.approx(deviation, rel=0.2)
    trained = train_zoo(LINE, DATASET, ZooConfig.model_validate(RECIPE | {"networks": 4}))
    assert trained.networks.flat.std() < 0.3 * deviation  # what the optimizer trains is no posterior
    save_zoo(tmp_path / "zoo.safetensors", zoo)
    assert torch.equal(load_zoo(tmp_path / "zoo.safetensors", "trained").networks.flat, zoo.networks.flat)


def test_chains_run_in_parts_are_as_many_and_differ(monkeypatch):
    monkeypatch.setattr(training_module, "CACHED_ELEMENTS", 64)  # sixteen networks at a time
    config = ZooConfig.model_validate(RECIPE | {"sampler": "sgld", "epochs": 30, "skip_epochs": 10})
    told = []
    zoo = train_zoo(LINE, DATASET, config, progress=lambda *facts: told.append(facts))
    assert len(zoo.networks.flat.unique(dim=0)) == 40
    assert [epoch for epoch, _, _ in told] == list(range(1, 31))


def test_what_has_no_posterior_and_chains_that_diverge_are_refused():
    with pytest.raises(ValueError, match="such with running statistics"):
        Posterior(resnet((1, 8, 8), [2], 2), TRAIN, 0.5)
    with pytest.raises(ValueError, match="expected positive deviations and a positive temperature"):
        Posterior(LINE, TRAIN, 0.5, temperature=0.0)
    with pytest.raises(ValueError, match="sampler: hmc needs init: normal"):
        ZooConfig.model_validate(RECIPE | {"sampler": "hmc", "init": "he"})
    posterior = Posterior(LINE, TRAIN, STD)
    z = posterior.standard_normal(3, generator(0))
    with pytest.raises(ValueError, match="sgld: 3 of 3 chains diverged; lower learning_rate"):
        stochastic_gradient_chains(posterior, "sgld", z, 200, 1, 0, 100.0, 4, generator(0))
    with pytest.raises(ValueError, match="expected method sgld or sghmc, got 'hmc'"):
        stochastic_gradient_chains(posterior, "hmc", z, 200, 1, 0, 0.1, 4, generator(0))


def test_thinned_chains_keep_every_so_many_draws():
    posterior = Posterior(LINE, TRAIN, STD)
    z = posterior.standard_normal(2, generator(0))
    every, all_draws = (
        hamiltonian_chains(posterior, z, count, step, 5, 1.5, generator(1)) for count, step in ((3, 2), (6, 1))
    )
    assert every.z.shape == (2, 3, 1)
    assert torch.equal(every.z, all_draws.z[:, 1::2])


def test_posteriors_of_nothing_and_chains_without_draws_are_refused():
    with pytest.raises(ValueError, match="expected training examples"):
        Posterior(LINE, Split(X[:0], Y[:0]), STD)
    with pytest.raises(ValueError, match=r"expected one deviation or \(1,\), got \(3,\)"):
        Posterior(LINE, TRAIN, torch.ones(3))
    posterior = Posterior(LINE, TRAIN, torch.full((1,), STD))
    start = posterior.standard_normal(2, generator(0))
    arguments = {"every": 2, "learning_rate": 0.01, "batch_size": 4, "generator": generator(0)}
    assert stochastic_gradient_chains(posterior, "sgld", start, 5, warmup=3, **arguments).z.shape == (2, 1, 1)
    with pytest.raises(ValueError, match=r"steps to exceed warmup by every \(2\) at least, got 5 and 4"):
        stochastic_gradient_chains(posterior, "sgld", start, 5, warmup=4, **arguments)
