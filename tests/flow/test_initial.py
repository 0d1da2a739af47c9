"""Initial weights of any distribution become draws from the prior; what cannot is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from wflib.architecture import mlp
from wflib.config import load_settings
from wflib.flow import Coordinates, FlowTrainer, PairSource, flow_for_zoo, sample
from wflib.flow.initial import differs_between_networks, initialization_of, is_normal, normal_scores, standard_initial
from wflib.networks import Networks
from wflib.rng import generator
from wflib.zoo import Zoo, canonical_zoo, initialize, zoo_from_networks

STD = 0.3
ARCHITECTURE = mlp([6, 5, 4, 2])
RUNS = 2_000


def uniform(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(shape, generator=generator(0, "uniform", *shape))


def drawn(draw: Callable[[str, torch.Tensor], torch.Tensor], runs: int = RUNS) -> dict:
    """Initial weights: of each tensor's name and N(0, 1) draws of its shape."""
    flat = torch.randn(runs, ARCHITECTURE.dimension, generator=generator(0, "drawn"))
    return {name: draw(name, tensor) for name, tensor in ARCHITECTURE.unflatten(flat).items()}


def default(name: str, normal: torch.Tensor) -> torch.Tensor:
    """PyTorch's: uniform within 1/√fan_in, biases too."""
    source = {"linear1": 6, "linear2": 5, "linear3": 4}[name.split(".")[0]]
    return (2 * uniform(tuple(normal.shape)) - 1) / math.sqrt(source)


def he(name: str, normal: torch.Tensor) -> torch.Tensor:
    """Normal weights with variance 2 / fan_in, biases zero."""
    return torch.zeros_like(normal) if name.endswith("bias") else normal * math.sqrt(2 / normal.shape[-1])


KINDS = {
    "PyTorch": default,
    "He": he,
    "twice": lambda name, normal: 2 * STD * normal,
    "an eighth": lambda name, normal: STD / 8 * normal,
    "shifted": lambda name, normal: STD * (normal + 2),
    "heavy tails": lambda name, normal: normal.abs().pow(2) * normal,
    "sparse": lambda name, normal: normal * (uniform(tuple(normal.shape)) < 0.2),
}


def zoo_of(initial: dict, init_std: float | None = STD) -> Zoo:
    trained = Networks(ARCHITECTURE, {name: tensor + 0.1 for name, tensor in initial.items()})
    began, each = Networks(ARCHITECTURE, initial), torch.arange(len(trained))  # copies or not
    return zoo_from_networks(trained, each, initial=began, init_std=init_std, held_out=0.2)


def settings(geometry: str, *changes: str):
    return load_settings(
        changes=[
            *(f"flow.geometry={geometry}", "flow.coupling=initialization", "velocity.dimension=8", "velocity.layers=1"),
            *("velocity.heads=2", "velocity.gradient_examples=0", "training.iterations=2", "training.batch_size=32"),
            *("training.loss=standardized", "training.precision=float32", "training.compile=false", *changes),
        ]
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_starts_are_distributed_as_the_prior(kind, geometry, dataset):
    zoo = zoo_of(drawn(KINDS[kind]))
    zoo = canonical_zoo(zoo) if geometry != "euclidean" else zoo
    flow = flow_for_zoo(settings(geometry), zoo, dataset.train)
    x_0 = PairSource(flow, zoo).draw(6_000, generator(0, "pairs"))[0]
    prior = flow.prior.sample(6_000, generator(1, "prior"))
    scale = prior.std(0)
    assert ((x_0.mean(0) - prior.mean(0)) / scale).abs().max() < 0.12
    assert (x_0.std(0) / scale - 1).abs().max() < 0.12
    levels = torch.tensor([0.02, 0.25, 0.75, 0.98])
    for where in flow.architecture.slices.values():
        ours, theirs = (x[:, where].flatten()[:100_000].quantile(levels) for x in (x_0, prior))
        assert ((ours - theirs).abs() / scale[where].mean()).max() < 0.15
    if geometry == "euclidean":  # as they are, over one deviation, they are no draws
        plain = zoo.initial.flat
        off = (plain.std(0) / plain.std() - 1).abs().max() + (plain.mean(0) / plain.std()).abs().max()
        kurtosis = (plain / plain.std()).pow(4).mean()
        assert off > 0.2 or abs(kurtosis - 3) > 0.5 or kind in ("twice", "an eighth")


def test_the_pipelines_own_initial_weights_are_taken_as_they_are():
    for std in (0.1, STD, 1.0):
        initial = initialize(ARCHITECTURE, 500, std, generator(0, "init")).weights
        found = standard_initial(zoo_of(initial, std), std)
        assert all(torch.equal(found.networks.weights[name], tensor) for name, tensor in initial.items())
        assert (found.std, found.fresh) == (std, frozenset())
        assert initialization_of(zoo_of(initial, std), Coordinates(ARCHITECTURE)) == (std, None)
        wrong = standard_initial(zoo_of(initial, std), 1.5 * std)
        assert wrong.std == 1.0
        assert not torch.equal(wrong.networks.weights["linear1.weight"], initial["linear1.weight"])


def test_pairs_of_the_pipelines_own_zoo_are_what_they_were(zoo, make_flow):
    flow, _ = make_flow(coupling="initialization")
    source, random = PairSource(flow, zoo), generator(0, "pairs")
    chosen, x_0, _ = source.draw_chosen(50, generator(0, "pairs"))
    torch.randint(len(zoo), (50,), generator=random)
    torch.randn(x_0.shape, generator=random)
    assert torch.equal(x_0, 0.5 * (zoo.initial_of(chosen).flat / 0.5))


@pytest.mark.parametrize("count", [3, 20, 2_000])
def test_normal_draws_pass_and_others_do_not(count):
    passes = []
    for seed in range(40):
        normal = STD * torch.randn(count, 8, 5, generator=generator(seed, "normal"))
        passes.append(is_normal(normal, STD) and differs_between_networks(normal))
    assert all(passes)
    normal = STD * torch.randn(2_000, 8, 5, generator=generator(0, "normal"))
    others = [1.1 * normal, normal + 0.1 * STD, STD * math.sqrt(12) * (uniform((2_000, 8, 5)) - 0.5), 0 * normal]
    assert not any(is_normal(other, STD) for other in others)


def test_one_draw_for_all_is_no_draw_of_their_own():
    own = torch.randn(50, 8, 5, generator=generator(0, "own"))
    shared = own[:1].expand_as(own)
    assert differs_between_networks(own)
    assert differs_between_networks(own + 3)
    for same in (shared, shared + 0.01 * own, torch.zeros_like(own), torch.full_like(own, 0.1), own[:1]):
        assert not differs_between_networks(same)


def test_normal_scores_keep_the_order_and_break_ties_evenly():
    values = torch.rand(40, 50, generator=generator(0, "values")).pow(3)
    scores = normal_scores(values, generator(0, "ties"))
    assert torch.equal(values.flatten().argsort(), scores.flatten().argsort())
    assert is_normal(scores, 1.0)
    assert not is_normal(values / values.std(), 1.0)
    tied = normal_scores(torch.zeros(40, 50), generator(0, "ties"))
    assert tied.mean(1).abs().max() < 0.6  # in the order given, the first row would hold the lowest scores


def test_biases_that_begin_at_zero_are_drawn_anew(dataset):
    zoo = zoo_of(drawn(he))
    flow = flow_for_zoo(settings("euclidean"), zoo, dataset.train)
    source = PairSource(flow, zoo)
    assert standard_initial(zoo, flow.initialization).fresh == {"linear1.bias", "linear2.bias", "linear3.bias"}
    first, again = (flow.architecture.unflatten(source.draw(50, generator(0, "pairs"))[0]) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["linear2.bias"].std().item() == pytest.approx(flow.initialization["linear2.bias"][1], rel=0.15)
    assert not torch.equal(first["linear2.bias"][0], first["linear2.bias"][1])


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_one_initialization_for_all_is_refused(dataset, noise):
    initial = drawn(lambda name, normal: STD * (normal[:1].expand_as(normal) + noise * normal), 50)
    zoo = zoo_of(initial)
    with pytest.raises(ValueError, match=r"(?s)found 50 of nearly the same: linear1\.weight deviates by .*independent"):
        FlowTrainer(flow_for_zoo(settings("euclidean"), zoo, dataset.train), zoo, settings("euclidean").training)
    independent = settings("euclidean", "flow.coupling=independent")
    trainer = FlowTrainer(flow_for_zoo(independent, zoo, dataset.train), zoo, independent.training)
    assert math.isfinite(trainer.step())


def orthogonal(runs: int) -> dict:
    """Normal weights, but for a first layer of orthonormal rows with the prior's deviation."""
    initial = drawn(lambda name, normal: STD * normal, runs)
    square = torch.randn(runs, 6, 6, generator=generator(0, "square"))
    rotation, upper = torch.linalg.qr(square)
    uniformly = rotation * upper.diagonal(dim1=1, dim2=2).sign()[:, None]  # as torch.nn.init.orthogonal_ draws them
    return initial | {"linear1.weight": STD * math.sqrt(6) * uniformly[:, :5]}


OTHER_PRIORS = {
    "orthogonal rows": (orthogonal, "linear1.weight with entries that depend on each other"),
    "columns of different deviations": (
        lambda runs: drawn(lambda name, normal: STD * normal * torch.linspace(0.5, 2, normal.shape[-1]), runs),
        "linear1.weight with an entry that deviates by",
    ),
    "one network with noise": (
        lambda runs: drawn(lambda name, normal: STD * (normal + 0.6 * normal[:1]), runs),
        "linear1.weight with an entry whose mean over networks is",
    ),
    "networks of different scales": (
        lambda runs: drawn(
            lambda name, normal: STD * normal * (0.5 + uniform((runs,))).view(-1, *[1] * (normal.ndim - 1)), runs
        ),
        "linear1.weight with entries that depend on each other",
    ),
}


@pytest.mark.parametrize("kind", OTHER_PRIORS)
@pytest.mark.parametrize("runs", [150, 2_000])
@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_initial_weights_of_another_prior_are_refused(kind, runs, geometry, dataset):
    draw, complaint = OTHER_PRIORS[kind]
    zoo = zoo_of(draw(runs))
    zoo = canonical_zoo(zoo) if geometry != "euclidean" else zoo
    flow = flow_for_zoo(settings(geometry), zoo, dataset.train)
    with pytest.raises(ValueError, match=rf"distributed as the prior.*{complaint}.*choose flow\.coupling: independent"):
        PairSource(flow, zoo)


@pytest.mark.parametrize("runs", [2, 3, 8, 30, 150])
def test_initial_weights_of_few_networks_are_not_refused_by_chance(runs):
    for seed in range(200):
        flat = STD * torch.randn(runs, ARCHITECTURE.dimension, generator=generator(seed, "few"))
        zoo = zoo_of(ARCHITECTURE.unflatten(flat))
        standard_initial(zoo, STD)
        twice = zoo_of({name: tensor.repeat_interleave(2, 0) for name, tensor in zoo.initial.weights.items()})
        standard_initial(twice, STD)


def test_the_prior_comes_from_what_is_known(dataset):
    initial, flat = drawn(lambda name, normal: STD * normal), Coordinates(ARCHITECTURE)
    for declared, expected in ((STD, (STD, None)), (8 * STD, (STD, "initial weights")), (None, (STD, "initial weights"))):
        std, source = initialization_of(zoo_of(initial, declared), flat)
        assert (std == pytest.approx(expected[0], rel=0.02), source) == (True, expected[1])
        flow = flow_for_zoo(settings("euclidean"), zoo_of(initial, declared), dataset.train)
        assert (flow.initialization, flow.metadata.get("initialization_from")) == (std, source)
    nameless = replace(zoo_of(initial, None), initial=None)
    assert initialization_of(replace(nameless, metadata={"init_std": 0.7}), flat) == (0.7, None)


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_priors_of_unknown_beginnings_have_the_zoos_moments_tensor_by_tensor(dataset, geometry):
    zoo = zoo_of(drawn(lambda name, normal: (1 + len(name) % 3) * STD * normal + 0.1), None)
    zoo = replace(zoo, initial=None)
    zoo = zoo if geometry == "euclidean" else canonical_zoo(zoo)
    flow = flow_for_zoo(settings(geometry, "flow.coupling=independent"), zoo, dataset.train)
    assert flow.metadata["initialization_from"] == "weights"
    drawn_weights = flow.architecture.unflatten(flow.prior.sample(4000, generator(0, "prior")))
    flat = {name for part in flow.geometry.manifold.parts if not part.sphere for name in part.tensors}
    expected = flow.coordinates.chart.unflatten(flow.coordinates.encode(zoo.networks))
    compared = [name for name in expected if "weights" in flat or name in flat]
    assert compared
    for name in compared:
        assert drawn_weights[name].std().item() == pytest.approx(expected[name].std().item(), rel=0.1)
        assert abs(drawn_weights[name].mean() - expected[name].mean()) < 0.1 * expected[name].std()


def test_priors_of_other_distributions_have_the_moments_of_initial_weights(dataset):
    # PyTorch's default: uniform, a deviation of each tensor's own; biases that begin at zero say nothing.
    bound = {"linear1.weight": 0.9, "linear2.weight": 0.3, "linear3.weight": 0.2}
    initial = drawn(lambda name, normal: bound.get(name, 0.0) * torch.special.erf(normal / 2**0.5))
    zoo = zoo_of(initial, None)
    found, source = initialization_of(zoo, Coordinates(ARCHITECTURE))
    assert source == "initial weights"
    for name, value in bound.items():
        assert found[name] == (pytest.approx(0, abs=0.02), pytest.approx(value / 3**0.5, rel=0.05))
    assert found["linear1.bias"][0] == pytest.approx(zoo.weights["linear1.bias"].mean().item(), rel=1e-3)


def test_a_wrong_declaration_changes_nothing(dataset):
    found = []
    for declared in (2 * STD, 8 * STD, None):
        torch.manual_seed(0)
        zoo = zoo_of(drawn(lambda name, normal: STD * normal, 200), declared)
        trainer = FlowTrainer(flow_for_zoo(settings("euclidean"), zoo, dataset.train), zoo, settings("euclidean").training)
        found.append(sample(trainer.run(), 4, 2, generator(0, "s")))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
