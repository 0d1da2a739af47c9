"""R̂ and effective sample sizes: independent draws are told from chains that have not met and from slow ones."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import chain_diagnostics, diagnose_networks
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations


def autoregressive(rho: float, chains: int = 4, draws: int = 2000) -> torch.Tensor:
    """x_t = ρ x_{t−1} + √(1 − ρ²) ε, whose draws are worth (1 − ρ) / (1 + ρ) of independent ones."""
    noise = torch.randn(chains, draws, generator=generator(0, "noise"), dtype=torch.float64)
    x = [noise[:, 0]]
    for step in range(1, draws):
        x.append(rho * x[-1] + (1 - rho**2) ** 0.5 * noise[:, step])
    return torch.stack(x, 1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_effective_size_of_an_autoregression_is_the_closed_form(rho):
    found = chain_diagnostics(autoregressive(rho))
    assert found.ess_bulk == pytest.approx(8000 * (1 - rho) / (1 + rho), rel=0.12)
    assert (found.quantities, found.draws) == (1, 8000)
    assert found.r_hat < 1.01


def test_the_worst_quantity_counts():
    values = torch.stack([autoregressive(0.0), autoregressive(0.8)], -1)
    assert chain_diagnostics(values).ess_bulk == chain_diagnostics(values[..., 1]).ess_bulk


def test_chains_apart_or_still_do_not_pass():
    values = autoregressive(0.0)
    apart = values.clone()
    apart[0] += 1
    assert chain_diagnostics(apart).r_hat > 1.05
    wider = values.clone()
    wider[0] *= 3  # with the same mean
    assert chain_diagnostics(wider).r_hat > 1.05
    still = torch.arange(4.0)[:, None].expand(4, 100)
    assert chain_diagnostics(still).r_hat > 1e6
    same = chain_diagnostics(torch.ones(4, 100))
    assert (same.r_hat, same.quantities) == (1.0, 0)


def test_predictions_of_permuted_chains_agree_where_weights_do_not():
    architecture = mlp([3, 6, 2])
    base = Networks.from_flat(architecture, torch.randn(1, architecture.dimension, generator=generator(0, "base")))
    near = base.map(lambda t: t + 0.05 * torch.randn(800, *t.shape[1:], generator=generator(0, str(t.shape))))
    orders = random_permutations(architecture, 4, generator(1, "orders"))
    moved = permute(near, {name: order.repeat_interleave(200, 0) for name, order in orders.items()})
    inputs = torch.randn(5, 3, generator=generator(0, "inputs"))
    found = diagnose_networks(moved, 4, inputs)
    assert (found.quantities, found.draws) == (5, 800)
    assert found.r_hat < 1.02
    assert chain_diagnostics(moved.flat.unflatten(0, (4, -1))).r_hat > 2


def test_too_few_chains_or_draws_and_what_is_not_finite_are_errors():
    for values, complaint in (
        (torch.zeros(1, 100), "two chains and four draws at least"),
        (torch.zeros(4, 3), "two chains and four draws at least"),
        (torch.full((2, 8), torch.nan), "found NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=complaint):
            chain_diagnostics(values)
    networks = Networks.from_flat(mlp([3, 6, 2]), torch.zeros(7, 38))
    with pytest.raises(ValueError, match="as many networks of each of 4 chains, got 7"):
        diagnose_networks(networks, 4, torch.zeros(5, 3))
