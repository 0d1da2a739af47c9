"""Models that train networks learn distributions that untrained ones do not have, and leave global random numbers alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tests.models.test_models import QUICK, TASK, quickly_fitted, zoo_of
from wflib.config import SettingsError
from wflib.models import METHODS, method_settings
from wflib.models.flat_flow import FlatFlow
from wflib.models.hyper_representation import HyperRepresentation
from wflib.models.latent_diffusion import LatentDiffusion, signal_shares
from wflib.models.neural import TrainingSettings, build, restore, standardization, tensors_of, train
from wflib.networks import network_losses
from wflib.rng import generator
from wflib.zoo import Zoo

NEURAL = ("flat-flow", "latent-diffusion", "hyper-representation")
SHARE = 0.3
CENTRES = (torch.zeros(12), torch.linspace(3, 5, 12))


def two_clusters(count: int) -> Zoo:
    """Networks of N(0, 0.4² I), and by a share of 0.3 of another such Gaussian far away."""
    second = (torch.arange(count) < SHARE * count)[:, None]
    noise = 0.4 * torch.randn(count, 12, generator=generator(0, "clusters"))
    return zoo_of(noise + torch.where(second, CENTRES[1], CENTRES[0]))


def misses(model) -> list[str]:
    """What 1,000 draws have otherwise than the two clusters: shares, centres, deviations, or points between the two."""
    x = model.draw(1000, generator(0, "draw")).flat
    second = torch.cdist(x, torch.stack(CENTRES)).argmin(1) == 1
    wrong = [] if abs(second.float().mean().item() - SHARE) < 0.06 else ["share"]
    for part, centre in ((x[~second], CENTRES[0]), (x[second], CENTRES[1])):
        if len(part) < 10:
            return [*wrong, "empty"]
        wrong += ["centre"] if (part.mean(0) - centre).abs().max() > 0.2 else []
        wrong += [] if 0.25 < part.std(0).mean() < 0.55 else ["deviation"]
        wrong += ["between"] if ((part - centre).norm(dim=1) > 3).float().mean() > 0.05 else []
    return wrong


FLOW = {"width": 64, "layers": 2, "steps": 1000, "batch_size": 128, "learning_rate": 3e-3, "solver_steps": 10}
DIFFUSION = {"width": 64, "latent": 12, "autoencoder_steps": 600, "steps": 3000, "learning_rate": 3e-3, "ema_decay": 0.99}
CLUSTERS = {
    "flat-flow": (FlatFlow, FLOW),
    "flat-flow, components": (FlatFlow, FLOW | {"components": 12, "steps": 2000}),
    "latent-diffusion": (LatentDiffusion, DIFFUSION | {"batch_size": 128, "diffusion_steps": 100, "beta": (1e-3, 0.2)}),
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_two_clusters_come_back_with_their_shares_centres_and_deviations_once_trained(name):
    method, settings = CLUSTERS[name]
    zoo = two_clusters(1000)
    assert misses(method.fit(zoo, TASK, method.Settings(**settings), generator(0, "fit"))) == []
    assert misses(method.fit(zoo, TASK, method.Settings(**settings | {"steps": 0}), generator(0, "fit"))) != []


def test_without_an_autoencoder_the_diffusion_draws_nothing_of_the_zoo():
    settings = CLUSTERS["latent-diffusion"][1] | {"autoencoder_steps": 0}
    assert misses(LatentDiffusion.fit(two_clusters(1000), TASK, LatentDiffusion.Settings(**settings))) != []


def test_flat_flows_have_so_many_components_as_the_zoo_and_draw_in_their_span():
    zoo = zoo_of(torch.randn(6, 12, generator=generator(0, "zoo")))
    for components, expected in ((3, 3), (99, 5)):
        settings = FlatFlow.Settings(**QUICK["flat-flow"], components=components)
        x = FlatFlow.fit(zoo, TASK, settings).draw(50, generator(0)).flat.double()
        assert torch.linalg.matrix_rank(x - zoo.networks.flat.double().mean(0), rtol=1e-4) == expected
    x = quickly_fitted("flat-flow", zoo).draw(50, generator(0)).flat.double()
    assert torch.linalg.matrix_rank(x - zoo.networks.flat.double().mean(0), rtol=1e-4) == 12


def test_flat_flows_start_where_they_are_told_to():
    """Untrained and in one step of Euler, draws are as far apart as starting points, in units of weights."""
    zoo = zoo_of(3 * torch.randn(50, 12, generator=generator(0, "zoo")))
    for source, apart in ((0.0, 3.0), (0.01, 0.01)):
        for components in (0, 12):
            chosen = {"steps": 0, "solver": "euler", "solver_steps": 1, "source": source, "components": components}
            settings = FlatFlow.Settings(**QUICK["flat-flow"] | chosen)
            found = FlatFlow.fit(zoo, TASK, settings).draw(200, generator(0)).flat.std(0).mean().item()
            assert found == pytest.approx(apart, rel=0.3)
    with pytest.raises(ValidationError, match="source"):
        FlatFlow.Settings(source=-1)


def test_a_diffusion_runs_from_almost_the_data_to_almost_noise_alone():
    beta, share = signal_shares(1000, 1e-4, 0.02, torch.zeros(1))
    assert (beta[0].item(), beta[-1].item()) == (pytest.approx(1e-4), pytest.approx(0.02))
    assert share[0].item() == pytest.approx(1 - 1e-4)
    assert share[499].item() == pytest.approx(torch.exp(torch.log1p(-beta[:500].double()).sum()).item(), rel=1e-4)
    assert share[-1] < 1e-4


def correlated_networks() -> Zoo:
    """Networks on a plane in weight space, which few latents can hold."""
    random = generator(3, "plane")
    return zoo_of(torch.randn(60, 2, generator=random) @ torch.randn(2, 12, generator=random))


REPRESENTATION = {"token": 5, "latent": 2, "width": 32, "layers": 1, "steps": 800, "learning_rate": 3e-3}
REPRESENTATION |= {"batch_size": 32, "independent": "networks"}


def test_a_hyper_representation_reconstructs_its_networks_and_draws_around_the_best():
    zoo = correlated_networks()
    flat, losses = zoo.networks.flat, network_losses(zoo.networks, TASK.validation)
    best = set(losses.argsort()[:18].tolist())
    spread = torch.cdist(flat, flat).median()

    def fitted(**settings) -> HyperRepresentation:
        chosen = HyperRepresentation.Settings(**REPRESENTATION | settings)
        return HyperRepresentation.fit(zoo, TASK, chosen, generator(0, "fit"))

    def draws(model: HyperRepresentation, width: float) -> Tensor:
        return replace(model, state={**model.state, "width": width * model.state["width"]}).draw(300, generator(0)).flat

    # Almost no width: draws are reconstructions of the best 30 %, all of them.
    model = fitted()
    exact = torch.cdist(draws(model, 1e-6), flat).min(1)
    assert exact.values.max() < 0.15 * spread
    assert set(exact.indices.tolist()) == best
    near = torch.cdist(draws(model, 1.0), flat[sorted(best)]).min(1).values.median()
    assert exact.values.median() < near < 0.5 * spread
    assert torch.cdist(draws(fitted(steps=0), 1e-6), flat).min(1).values.max() > 0.15 * spread
    of_all = set(torch.cdist(draws(fitted(best=1.0, steps=300), 1e-6), flat).argmin(1).tolist())
    assert of_all - best


@pytest.mark.parametrize(("independent", "expected"), [("networks", 1), ("tokens", 3), ("dimensions", 6)])
def test_latents_are_drawn_of_a_network_a_token_or_a_dimension_at_a_time(independent, expected, monkeypatch):
    settings = {**QUICK["hyper-representation"], "bandwidth": 1e-6, "independent": independent}
    model = HyperRepresentation.fit(correlated_networks(), TASK, HyperRepresentation.Settings(**settings))
    seen = []

    class Seen:
        def decode(self, z: Tensor) -> Tensor:
            seen.append(z)
            return torch.zeros(len(z), 12)

    monkeypatch.setattr("wflib.models.hyper_representation.restore", lambda *_: Seen())
    model.draw(200, generator(0))
    anchors = (seen[0][:, None] - model.state["latents"]).abs().argmin(1)  # (draws, tokens, latents of a token)
    distinct = [len(one.unique()) for one in anchors]
    assert max(distinct) == expected
    within = max(len(one.unique()) for one in anchors.flatten(0, 1))
    assert within == (2 if independent == "dimensions" else 1)


def test_a_diffusion_that_does_not_end_in_noise_is_refused():
    with pytest.raises(
        SettingsError, match=r"diffusion_steps \(200\) and beta \(0.0001, 0.02\) end at ᾱ_T = 0.13, expected 0.01"
    ):
        method_settings({"latent-diffusion": {"diffusion_steps": 200}}, "latent-diffusion")


def test_a_hyper_representation_refuses_heads_that_do_not_share_its_width():
    with pytest.raises(
        SettingsError, match=r"models.hyper-representation: .*width \(10\) must be a multiple of heads \(4\)"
    ):
        method_settings({"hyper-representation": {"width": 10}}, "hyper-representation")


@pytest.mark.parametrize("name", NEURAL)
def test_global_random_numbers_neither_change_nor_matter(name):
    zoo = zoo_of(torch.randn(6, 12, generator=generator(0, "zoo")))
    draws = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        draws.append(quickly_fitted(name, zoo).draw(5, generator(0)).flat)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(*draws)
    other = METHODS[name].fit(zoo, TASK, METHODS[name].Settings(**QUICK[name]), generator(1, "fit"))
    assert not torch.equal(other.draw(5, generator(0)).flat, draws[0])


@pytest.mark.parametrize("name", NEURAL)
def test_precision_is_the_zoos(name):
    zoo = zoo_of(torch.randn(6, 12, generator=generator(0, "zoo"), dtype=torch.float64))
    model = quickly_fitted(name, zoo)
    assert {tensor.dtype for tensor in model.state.values()} == {torch.float64}
    assert model.draw(3, generator(0)).flat.dtype == torch.float64


def test_coordinates_that_all_networks_share_stay_what_they_are_in_a_latent_diffusion():
    flat = torch.randn(6, 12, generator=generator(0, "zoo"))
    flat[:, 10:] = torch.tensor([3.3, 0.0])  # the biases of the output
    x = quickly_fitted("latent-diffusion", zoo_of(flat)).draw(20, generator(0)).flat
    torch.testing.assert_close(x[:, 10:], flat[:1, 10:].expand(20, 2), atol=1e-4, rtol=0)


def test_training_minimizes_a_loss_averages_parameters_and_says_when_it_diverges():
    def regression(steps: int, ema_decay: float = 0.0, rate: float = 0.1) -> Tensor:
        x = torch.randn(64, 1, generator=generator(0, "x"))
        network = build(lambda: nn.Linear(1, 1), x, generator(0, "init"))
        settings = TrainingSettings(steps=steps, batch_size=16, learning_rate=rate)
        train(network, lambda x: (network(x) - 2 * x).square().mean(), x, steps, settings, generator(0), ema_decay)
        return network.weight.detach().squeeze()

    assert regression(200) == pytest.approx(2, abs=1e-2)
    start = regression(0)
    assert regression(0, 0.9) == start
    assert abs(start - 2) > 0.1
    assert start < regression(5, 0.99) < regression(5)
    with pytest.raises(ValueError, match=r"learning_rate: 1e\+30: the loss is .* after 9 steps; lower it"):
        regression(9, rate=1e30)


def test_a_network_comes_back_from_a_state_among_others():
    like = torch.zeros(1)
    network = build(lambda: nn.Linear(3, 2), like, generator(0))
    state = (
        {"mean": like} | tensors_of(network, "one") | tensors_of(build(lambda: nn.Linear(4, 2), like, generator(1)), "other")
    )
    found = restore(lambda: nn.Linear(3, 2), state, "one")
    assert torch.equal(found.weight, network.weight)
    with pytest.raises(RuntimeError, match="size mismatch"):
        restore(lambda: nn.Linear(3, 2), state, "other")


def test_what_does_not_vary_is_divided_by_little():
    x = torch.randn(50, 3, generator=generator(0)) * torch.tensor([1.0, 2.0, 0.0])
    mean, deviation = standardization(x)
    torch.testing.assert_close(deviation[:2], x.std(0)[:2])
    assert 0 < deviation[2] < 1e-5
    assert torch.isfinite((x - mean) / deviation).all()
    assert standardization(torch.zeros(3, 2))[1].min() > 0
