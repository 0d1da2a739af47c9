"""Steps of training after drawing: none change nothing, some lower the training loss, in whatever form networks come."""

from __future__ import annotations

import pytest
import torch

from tests.symmetry.kinds import BUILT
from wflib.architecture import mlp
from wflib.config import SampleConfig, load_settings
from wflib.flow import Coordinates, Flow
from wflib.models import LEARNING_RATES, FlowModel, best_learning_rate, polish, trained_further
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.symmetry import canonicalize, decanonicalize
from wflib.tasks import Split
from wflib.testing import assert_same_function
from wflib.zoo import adam_steps, initialize

PERCEPTRON = mlp([3, 6, 5, 2])
KINDS = {"perceptron": lambda: PERCEPTRON, **BUILT}
over_kinds = pytest.mark.parametrize("kind", KINDS)


def config(steps: int, **settings) -> SampleConfig:
    chosen = {"polish_learning_rate": "auto"} | settings
    return load_settings(changes=[f"sample.polish_steps={steps}"]).sample.model_copy(update=chosen)


def examples(inputs: tuple[int, ...], count: int = 60, name: str = "train") -> Split:
    """Examples whose class is the sign of their mean."""
    x = torch.randn(count, *inputs, generator=generator(0, "polish", name), dtype=torch.float64)
    return Split(x, (x.flatten(1).mean(1) > 0).long())


def networks_of(kind: str, count: int = 4) -> Networks:
    """Freshly initialized networks in double precision."""
    return initialize(KINDS[kind](), count, 0.5, generator(0, "polish", kind)).to(torch.float64)


def test_no_steps_change_nothing_and_read_nothing():
    start, nothing = networks_of("perceptron"), Split(torch.zeros(0, 3), torch.zeros(0).long())
    unpolished = polish(start, nothing, nothing, config(0))
    assert unpolished.networks is start
    assert (unpolished.learning_rate, unpolished.seconds) == (None, 0)
    with pytest.raises(ValueError, match=r"sample\.polish_steps: 3 needs training examples; choose 0"):
        polish(start, nothing, nothing, config(3))


@over_kinds
@pytest.mark.parametrize("form", ["ordinary", "canonical"])
def test_steps_lower_the_training_loss_and_keep_the_form(kind, form):
    start = networks_of(kind)
    start = canonicalize(start).networks if form == "canonical" else start
    train = examples(start.architecture.inputs)
    # Statistics of a batch norm are those of the examples to begin with, too.
    before = network_losses(trained_further(start, train, 0, 0.01), train)
    done = []
    polished = polish(start, train, examples(start.architecture.inputs, name="validation"), config(10), done.append)
    assert polished.networks.architecture == start.architecture
    assert bool((network_losses(polished.networks, train) < before - 0.01).all())
    assert polished.learning_rate in LEARNING_RATES
    assert polished.seconds > 0
    assert done == [4]


@over_kinds
def test_canonical_networks_take_the_steps_of_the_ordinary_ones_and_stay_on_the_manifold(kind):
    ordinary = networks_of(kind)
    canonical, train = canonicalize(ordinary).networks, examples(ordinary.architecture.inputs)
    start = decanonicalize(canonical)
    moved = trained_further(canonical, train, 5, 0.01)
    (expected,) = adam_steps(start, train, 5, 0.01)
    assert_same_function(expected, moved, train.inputs, 1e-8)
    manifold = Coordinates(canonical.architecture).manifold

    def off(networks: Networks) -> float:
        x = Coordinates(canonical.architecture).encode(networks)
        return (manifold.projx(x) - x).abs().max().item()

    assert off(moved) < 1e-10
    assert off(canonical.with_weights({**canonical.weights, **expected.weights})) > 1e-3  # without canonicalizing again


def test_statistics_of_batch_norms_fit_the_weights_that_were_trained():
    start = networks_of("cnn-batch")
    train = examples(start.architecture.inputs)
    moved = trained_further(start, train, 10, 0.03)
    old = {name: start.weights[name] for name in start.architecture.statistics}
    assert old
    stale = moved.with_weights({**moved.weights, **old})
    assert network_losses(moved, train).mean() < network_losses(stale, train).mean() - 0.05


def test_chunks_do_not_matter():
    start, train = networks_of("perceptron", 7), examples((3,))
    whole, parts = (trained_further(start, train, 5, 0.01, chunk=chunk) for chunk in (256, 3))
    torch.testing.assert_close(parts.weights, whole.weights)


def test_the_rate_is_chosen_on_validation_examples_unless_it_is_given():
    train = examples((3,))
    start = trained_further(networks_of("perceptron", 8), train, 50, 0.03)
    opposite = Split(train.inputs, 1 - train.targets)  # the less is learned, the better
    assert polish(start, train, opposite, config(5)).learning_rate == min(LEARNING_RATES)
    chosen = polish(start, train, train, config(5))
    assert chosen.learning_rate == max(LEARNING_RATES)
    given = polish(start, train, opposite, config(5, polish_learning_rate=0.03))
    assert given.learning_rate == 0.03
    assert torch.equal(given.networks.flat, chosen.networks.flat)
    assert best_learning_rate(start, train, train, 2, [1e200, 0.01]) == 0.01  # a rate that diverges is never best


def test_a_step_sees_examples_of_its_own():
    """The first step is one on the first batch alone; the second sees others; fewer batches than steps are refused."""
    start, train, random = networks_of("perceptron"), examples((3,)), generator(0, "batches")
    batches = torch.stack([torch.randperm(60, generator=random)[:10] for _ in range(2)])
    moved, once = (trained_further(start, train, steps, 0.01, batches).flat for steps in (2, 1))
    first = Split(train.inputs[batches[0]], train.targets[batches[0]])
    torch.testing.assert_close(once, trained_further(start, first, 1, 0.01).flat)
    assert not torch.allclose(moved, trained_further(start, first, 2, 0.01).flat, atol=1e-4)
    everything = torch.arange(60).expand(2, -1)
    assert torch.equal(trained_further(start, train, 2, 0.01, everything).flat, trained_further(start, train, 2, 0.01).flat)
    with pytest.raises(ValueError, match="a batch for each of 3 steps, got 2"):
        trained_further(start, train, 3, 0.01, batches)


def test_seeds_choose_the_examples():
    start, train = networks_of("perceptron"), examples((3,))
    few = {"polish_examples": 10, "polish_learning_rate": 0.01}
    first, again, other = (polish(start, train, train, config(3, seed=s, **few)).networks.flat for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    everything = {"polish_examples": 60, "polish_learning_rate": 0.01}
    first, other = (polish(start, train, train, config(3, seed=s, **everything)).networks.flat for s in (0, 1))
    torch.testing.assert_close(first, other)


def test_steps_that_run_to_infinity_are_an_error():
    start, train = networks_of("perceptron"), examples((3,))
    with pytest.raises(ValueError, match=r"lower sample\.polish_learning_rate"):
        polish(start, train, train, config(3, polish_learning_rate=1e300))


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_a_flow_draws_polished_networks(geometry):
    settings = load_settings(changes=["velocity.dimension=8", "velocity.layers=1", f"flow.geometry={geometry}"])
    architecture = PERCEPTRON if geometry == "euclidean" else PERCEPTRON.canonical_form()
    velocity = settings.velocity.model_copy(update={"gradient_examples": 0})
    flow = Flow(settings.flow, velocity, Coordinates(architecture), 0.5).eval()
    train = Split(*(part.float() if part.is_floating_point() else part for part in vars(examples((3,))).values()))

    def drawn(steps: int, *parts: Split) -> Networks:
        return FlowModel(flow, config(steps), *parts).draw(6, generator(0, "draw"))

    plain, polished = drawn(0), drawn(5, train, train)
    assert torch.equal(drawn(0, train, train).flat, plain.flat)
    assert polished.architecture == architecture
    assert bool((network_losses(polished, train) < network_losses(plain, train)).all())
    expected = polish(plain, train, train, config(5)).networks
    assert torch.equal(polished.flat, expected.flat)
    with pytest.raises(ValueError, match="needs the task's training and validation examples"):
        drawn(5, train)
