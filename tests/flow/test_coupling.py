"""Couplings: assignments are bijective and cheapest, and x_0 keeps the prior's marginal whatever it is paired with."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import torch

from tests.cases import incoming
from wflib.architecture import mlp
from wflib.flow import PairSource, build_geometry, squared_path_length
from wflib.flow.coupling import match_neurons, optimal_assignment
from wflib.manifold import flat_manifold, weight_manifold
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute
from wflib.zoo import Zoo

FLAT = mlp([3, 4, 2])
STD = 0.5


def batches(name: str, seed: int):
    """A geometry, and two batches of six in it."""
    manifold = flat_manifold(FLAT) if name == "euclidean" else weight_manifold(FLAT.canonical_form("weights"))
    random = generator(seed, "batches")
    sides = (manifold.projx(torch.randn(6, manifold.n_elements, generator=random, dtype=torch.float64)) for _ in range(2))
    return build_geometry(name, manifold), *sides


@pytest.mark.parametrize("name", ["euclidean", "geometric"])
@pytest.mark.parametrize("seed", range(4))
def test_assignments_are_bijective_and_cheapest(name, seed):
    geometry, x_0, x_1 = batches(name, seed)
    chosen = optimal_assignment(geometry, x_0, x_1)
    assert sorted(chosen.tolist()) == list(range(6))
    cost, rows = geometry.squared_distances(x_1, x_0), torch.arange(6)
    costs = [cost[rows, torch.tensor(order)].sum().item() for order in permutations(range(6))]
    found = cost[rows, chosen].sum().item()
    assert found == pytest.approx(min(costs), rel=1e-12)
    assert found <= cost.diagonal().sum().item()
    assert found < 0.999 * max(costs)


@pytest.mark.parametrize("name", ["euclidean", "geometric"])
def test_a_shuffled_copy_is_put_back(name):
    geometry, x, _ = batches(name, 0)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert torch.equal(x[order][optimal_assignment(geometry, x[order], x)], x)


def test_sides_of_different_size_are_an_error():
    geometry, x_0, x_1 = batches("euclidean", 0)
    with pytest.raises(ValueError, match="Shape mismatch"):
        optimal_assignment(geometry, x_0[:4], x_1)


@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
def test_initialization_starts_where_the_network_started(make_flow, geometry):
    flow, zoo = make_flow(geometry, coupling="initialization")
    x_0, x_1 = PairSource(flow, zoo).draw(40, generator(0, "pairs"))
    index = torch.cdist(x_1, flow.coordinates.encode(zoo.networks)).argmin(1)
    initial = zoo.initial[zoo.trajectory[index]]
    moved = permute(initial, {name: p[index] for name, p in zoo.permutations.items()})
    if geometry == "euclidean":
        assert torch.allclose(moved.flat, x_0, atol=1e-6)
        assert not torch.allclose(initial.flat, x_0, atol=1e-2)
        return
    first, expected, unmoved = (
        torch.nn.functional.normalize(incoming(flow.architecture.layers[0], weights, flow.architecture.norm), dim=-1)
        for weights in (flow.architecture.unflatten(x_0), moved.weights, initial.weights)
    )
    assert torch.allclose(first, expected, atol=1e-5)
    assert not torch.allclose(first, unmoved, atol=1e-2)


def many_starts(zoo: Zoo, runs: int) -> Zoo:
    """The zoo as if it had one network for each of many independent initializations."""
    architecture, index = zoo.initial.architecture, torch.arange(runs) % len(zoo)
    flat = STD * torch.randn(runs, architecture.dimension, generator=generator(0, "initial"))
    return replace(
        zoo[index],
        trajectory=torch.arange(runs),
        held_out=torch.zeros(runs, dtype=torch.bool),
        initial=Networks.from_flat(architecture, flat),
    )


@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
@pytest.mark.parametrize("coupling", ["independent", "ot", "initialization"])
def test_every_coupling_keeps_the_prior(make_flow, geometry, coupling):
    flow, zoo = make_flow(geometry, coupling=coupling)
    source, random = PairSource(flow, many_starts(zoo, 12_000)), generator(0, "pairs")
    batch = 6_000 if coupling != "ot" else 100
    x_0 = torch.cat([source.draw(batch, random)[0] for _ in range(6_000 // batch)])
    prior = flow.prior.sample(6_000, generator(1, "prior"))
    scale = prior.std(0)
    assert ((x_0.mean(0) - prior.mean(0)) / scale).abs().max() < 0.1
    assert (x_0.std(0) / scale - 1).abs().max() < 0.06
    assert (flow.geometry.manifold.projx(x_0) - x_0).abs().max() < 1e-6
    trained = flow.coordinates.encode(zoo.networks)
    assert ((trained.mean(0) - prior.mean(0)) / scale).abs().max() > 0.1  # which the zoo itself would not pass
    if geometry != "euclidean":
        for layer in flow.architecture.layers[:-1]:
            norms = incoming(layer, flow.architecture.unflatten(x_0), flow.architecture.norm).norm(dim=-1)
            assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5)


def test_independent_pairs_are_draws_from_prior_and_zoo(make_flow):
    flow, zoo = make_flow()
    x_0, x_1 = PairSource(flow, zoo).draw(30, generator(0, "pairs"))
    nearest = torch.cdist(x_1, zoo.networks.flat).argmin(1)
    assert torch.equal(zoo.networks.flat[nearest], x_1)
    random = generator(0, "pairs")
    torch.randint(len(zoo), (30,), generator=random)
    assert torch.equal(x_0, flow.prior.sample(30, random))


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_matching_neurons_shortens_paths_and_only_permutes(make_flow, geometry):
    flow, zoo = make_flow(geometry)
    x_0, x_1 = PairSource(flow, zoo).draw(60, generator(0, "pairs"))
    x_0 = x_0[optimal_assignment(flow.geometry, x_0, x_1)]
    moved = match_neurons(flow.geometry, flow.architecture, x_0, x_1, generator(0, "match"))
    before, after = (flow.geometry.squared_distances(side, x_1).diagonal() for side in (x_0, moved))
    assert bool((after <= before).all())
    assert float(after.mean()) < 0.98 * float(before.mean())
    assert torch.allclose(x_0.sort(1).values, moved.sort(1).values)
    found, start = (flow.architecture.unflatten(side) for side in (moved, x_0))
    inputs = torch.randn(9, 5, generator=generator(0, "inputs"))
    assert torch.allclose(flow.architecture.forward(found, inputs), flow.architecture.forward(start, inputs), atol=1e-4)
    back = match_neurons(flow.geometry, flow.architecture, moved, x_0, generator(0, "match"))
    assert float((back - x_0).abs().max(1).values.median()) < 1e-6


def test_equivariant_transport_keeps_the_prior_modulo_permutations(make_flow):
    flow, zoo = make_flow(coupling="equivariant-ot")
    random, source = generator(0, "pairs"), PairSource(flow, zoo)
    x_0 = torch.cat([source.draw(100, random)[0] for _ in range(40)])
    prior = flow.prior.sample(4_000, generator(1, "prior"))

    def pooled(x):
        return flow.architecture.unflatten(x)["linear1.weight"].flatten(0, 1)

    assert (pooled(x_0).mean(0) - pooled(prior).mean(0)).abs().max() < 0.03
    assert (pooled(x_0).std(0) / pooled(prior).std(0) - 1).abs().max() < 0.06
    # Neurons one by one are no draws from the prior: paired with one network only, they take its order.
    alone = PairSource(flow, zoo[torch.zeros(20, dtype=torch.long)])
    x_0 = torch.cat([alone.draw(100, random)[0] for _ in range(10)])
    assert (x_0.mean(0) / STD).abs().max() > 0.3
    with pytest.raises(ValueError, match=r"velocity\.identities"):
        make_flow(coupling="equivariant-ot", identities=True)


def test_unknown_initial_weights_are_an_error(make_flow):
    flow, zoo = make_flow(coupling="initialization")
    nameless = replace(zoo, initial=None)
    with pytest.raises(ValueError, match="independent or ot"):
        PairSource(flow, nameless)
    PairSource(make_flow(coupling="ot")[0], nameless)


@pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])
def test_path_lengths_fall_with_better_couplings(make_flow, geometry):
    lengths = {}
    for coupling in ("independent", "ot", "equivariant-ot"):
        flow, zoo = make_flow(geometry, coupling=coupling)
        lengths[coupling] = squared_path_length(PairSource(flow, zoo), 32, 0)
    assert lengths["equivariant-ot"] < 0.99 * lengths["ot"]
    assert lengths["ot"] < 0.99 * lengths["independent"]
    flow, zoo = make_flow(geometry)
    assert squared_path_length(PairSource(flow, zoo), 32, 0) == lengths["independent"]
    assert squared_path_length(PairSource(flow, zoo), 32, 1) != lengths["independent"]


def test_path_length_is_the_mean_squared_distance(make_flow):
    flow, zoo = make_flow()
    found = squared_path_length(PairSource(flow, zoo), 500, 0)
    exact = (STD**2 + zoo.networks.flat.square().mean(0)).sum().item()  # independent: the variance of x_0, and E x_1²
    assert found == pytest.approx(exact, rel=0.02)
    curved, canonical = make_flow("geometric")
    x_0, x_1 = PairSource(curved, canonical).draw(40, generator(0, "pairs"))
    lengths = curved.geometry.squared_distances(x_0, x_1).diagonal()
    torch.testing.assert_close(lengths, curved.geometry.manifold.dist(x_0, x_1).square(), rtol=1e-4, atol=1e-4)
