"""Networks trained by compiled kernels are those that torch trains."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.test_training import architecture_for, dataset, recipe, train_alone
from wflib.activation import ACTIVATIONS
from wflib.architecture import Architecture, cnn, mlp, resnet, vit
from wflib.compiled import NoKernels, compiler
from wflib.networks import Networks
from wflib.rng import generator, permutations
from wflib.tasks import Split
from wflib.zoo import compiled_training, initialize, train_networks, train_zoo
from wflib.zoo import training as training_module
from wflib.zoo.compiled_training import KERNELS, CompiledTrainer, build_kernels, source_for

needs_compiler = pytest.mark.skipif(shutil.which(compiler()[0]) is None, reason="no C++ compiler")


class Branching(nn.Module):
    """One value read three times, once by itself twice; norms without parameters and of features, a mean by pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(1, eps=1e-3), nn.Conv2d(1, 1, 3, padding=1)
        self.bare, self.linear1 = nn.BatchNorm2d(1, affine=False), nn.Linear(1, 5)
        self.norm1, self.linear2 = nn.BatchNorm1d(5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y = torch.tanh(self.conv(y)) + (y + y)
        y = functional.adaptive_avg_pool2d(self.bare(y) + x, 1).flatten(1)
        return self.linear2(functional.gelu(self.norm1(self.linear1(y))))


class Tokens(nn.Module):
    """Torch's own block of a transformer, whose norms come first and whose positions are learned, over an image's pixels."""

    def __init__(self, features: int = 6, heads: int = 2, tokens: int = 15) -> None:
        super().__init__()
        self.patches, self.positions = nn.Conv2d(1, features, 1), nn.Parameter(torch.randn(tokens, features))
        self.norm1, self.norm2 = nn.LayerNorm(features, elementwise_affine=False), nn.LayerNorm(features, eps=1e-3)
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)
        self.wide, self.narrow = nn.Linear(features, 9), nn.Linear(9, features, bias=False)
        self.head = nn.Linear(features, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.positions + self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.narrow(functional.silu(self.wide(self.norm2(x))))
        return self.head(x.mean(1))


RECIPES = {
    "adam": {"optimizer": "adam"},
    "adam-decay": {"optimizer": "adam", "weight_decay": 0.1},
    "sgd-momentum-decay": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1},
}
STEPS = [1, 2, 7, 24]


def examples(inputs: tuple[int, ...], outputs: int, task_type: str) -> Split:
    """63 of them: three batches of 20, and three that no epoch sees."""
    random = generator(1, "examples")
    inputs = torch.randn(63, *inputs, generator=random)
    if task_type == "regression":
        return Split(inputs, torch.randn(63, outputs, generator=random))
    return Split(inputs, torch.randint(outputs, (63,), generator=random))


def started(architecture: Architecture, networks: int = 3) -> Networks:
    return initialize(architecture, networks, 0.3, generator(2, "weights"))


def refuse(*_: object) -> None:
    pytest.fail("the other way was taken")


@pytest.fixture
def both(monkeypatch) -> Callable[..., tuple[Tensor, Tensor]]:
    """Trained by kernels, and by torch, perhaps in float64, whose rounding moves nothing over an activation's kink."""

    def trained(start, train, *others, precise: bool = False) -> tuple[Tensor, Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr(training_module.BatchedTrainer, "run", refuse)
            by_kernels = train_networks(start, train, *others)
        if precise:
            targets = train.targets.double() if train.targets.is_floating_point() else train.targets
            start, train = start.map(Tensor.double), Split(train.inputs.double(), targets)
        with monkeypatch.context() as patch:
            patch.setattr(CompiledTrainer, "run", refuse)
            patch.setattr(CompiledTrainer, "can_train", lambda *_: False)
            return by_kernels, train_networks(start, train, *others)

    return trained


def small(network: str, activation: str = "relu", task_type: str = "classification") -> Architecture:
    """A network of a kind that kernels know."""
    if network == "perceptron":
        return mlp([7, 18, 5, 3], activation, task_type)
    if network == "residual":
        return resnet((2, 6, 5), [3, 4], 3, activation, task_type)
    if network == "transformer":
        return vit((2, 6, 4), 6, [5, 7], 3, 2, 3, activation, task_type)
    return cnn((2, 6, 5), [5, 3], 3, activation, pools=[2, 1], hidden=[4], task_type=task_type)


def felt(architecture: Architecture) -> Tensor:
    """Weights that losses feel: not keys' biases, which move a query's logits alike, so that Adam follows rounding."""
    found = torch.ones(architecture.dimension, dtype=torch.bool)
    for name, where in architecture.slices.items():
        if name.endswith("in_proj_bias"):
            third = (where.stop - where.start) // 3
            found[where.start + third : where.start + 2 * third] = False
    return found


NETWORKS = ["perceptron", "convolutional", "residual", "transformer"]


@needs_compiler
@pytest.mark.parametrize("task_type", ["classification", "regression"])
@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_kernels_train_as_torch_does(network, activation, changes, task_type, both):
    architecture = small(network, activation, task_type)
    start, train = started(architecture), examples(architecture.inputs, 3, task_type)
    config, means = recipe(batch_size=20, epochs=8, **changes), []
    found, expected = both(start, train, config, STEPS, lambda *row: means.append(row[2]), precise=True)
    some = felt(architecture)
    torch.testing.assert_close(found[..., some], expected[..., some], rtol=1e-4, atol=1e-4)  # Adam makes much of rounding
    assert means[:8] == pytest.approx(means[8:], rel=1e-4)
    assert (expected[:, -1] - start.flat).abs().max() > 0.01


@needs_compiler
@pytest.mark.parametrize(
    "changed", [{"weight_decay": 0.02}, {"momentum": 0.8}, {"learning_rate": 0.021}, {"batch_size": 21}, {"seed": 4}]
)
@pytest.mark.parametrize("network", NETWORKS)
def test_another_recipe_is_seen(network, changed, both):
    """What the comparison above would say if kernels followed another recipe."""
    start = started(small(network))
    train = examples(start.architecture.inputs, 3, "classification")
    right = recipe(batch_size=20, epochs=8, optimizer="sgd", momentum=0.9, weight_decay=0.01)
    (found, _), (_, expected) = (both(start, train, right.model_copy(update=some), STEPS) for some in (changed, {}))
    assert (found - expected).abs().max() > 1e-3


@needs_compiler
@pytest.mark.parametrize(
    "architecture",
    [
        mlp([5, 2]),
        mlp([1, 1, 1, 2], "tanh"),
        mlp([300, 70, 33, 17], bias=False),
        mlp([3, 4, 5, 6, 7, 8, 2], "silu"),
        Architecture.from_module(
            nn.Sequential(nn.Linear(9, 40), nn.Tanh(), nn.Linear(40, 3, bias=False), nn.Softsign()), torch.zeros(1, 9)
        ),
        cnn((1, 5, 5), [1], 2, kernels=1, pools=1),
        cnn((3, 17, 15), [13, 2, 11], 17, "tanh", kernels=[5, 3, 2], pools=[2, 1, 2], hidden=[9, 20], padding=False),
        Architecture.from_module(
            nn.Sequential(
                *(nn.Conv2d(2, 6, (2, 3), (1, 2), (2, 1), bias=False), nn.LeakyReLU(), nn.MaxPool2d((3, 2)), nn.Flatten()),
                *(nn.Linear(54, 7, bias=False), nn.GELU(), nn.Linear(7, 2), nn.Tanh()),
            ),
            torch.zeros(1, 2, 7, 12),
        ),
        cnn((1, 7, 6), [9, 4], 2, norm="batch", pools=[2, 1], head="mean"),
        resnet((3, 9, 8), [2, 2, 3], 2, "tanh"),
        Architecture.from_module(Branching(), torch.zeros(2, 1, 5, 4)),
        vit((3, 9, 6), 5, [11], 2, 3, 1, "tanh"),
        vit((1, 2, 2), 8, [3, 4], 2, 2, 8),
        Architecture.from_module(Tokens(), torch.zeros(1, 1, 3, 5)),
    ],
    ids=[
        *("linear", "narrow", "wide", "deep", "activation last", "one channel", "rests", "strides, activation first"),
        *("batch norms", "residual blocks", "branches", "one head", "one token", "torch's attention"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 20, 100])
def test_any_shape_is_trained(architecture, batch_size, both):
    train = examples(architecture.inputs, 2, architecture.task_type)
    # Not Adam, whose first steps are as large for gradients that are nothing but rounding as for others.
    start, config = started(architecture), recipe(batch_size=batch_size, epochs=20, optimizer="sgd", momentum=0.9)
    found, expected = both(start, train, config, [3, 12])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (expected[:, -1] - start.flat).abs().max() > 0.01


@needs_compiler
def test_a_network_alone_with_another_optimizer_object_agrees(monkeypatch):
    """Torch's own module, loss and optimizer: neither way of ours."""
    monkeypatch.setattr(training_module.BatchedTrainer, "run", refuse)
    data, config = dataset(), recipe(epochs=6, weight_decay=0.1)
    architecture = architecture_for(data, "gelu", (18, 6))
    zoo = train_zoo(architecture, data, config)
    for network in range(config.networks):
        alone = train_alone(architecture, data, config, zoo, network, batches_of=network)[int(zoo.step[-1])]
        for name, tensor in zoo.last_snapshots.weights.items():
            torch.testing.assert_close(tensor[network], alone[name], rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("network", NETWORKS)
def test_threads_groups_and_repetition_change_no_bit(network, monkeypatch):
    start, config = started(small(network), 5), recipe(batch_size=20)
    train = examples(start.architecture.inputs, 3, "classification")
    once, again = (train_networks(start, train, config, STEPS[:3]) for _ in range(2))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        shared = train_networks(start, train, config, STEPS[:3])
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(training_module, "CACHED_ELEMENTS", 2 * 20 * 7)
    grouped = train_networks(start, train, config, STEPS[:3])
    assert all(torch.equal(once, other) for other in (again, shared, grouped))
    alone = train_networks(start[:1], train, config, STEPS[:3])
    assert torch.equal(alone, once[:1])


@needs_compiler
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 5000])
@pytest.mark.parametrize("kernels", KERNELS)
def test_orders_of_examples_are_those_of_the_other_way(kernels, length):
    orders, seed = torch.zeros(4, length, dtype=torch.int64), 2**63 - 12345
    counts = (ctypes.c_int64(count) for count in (4, 7, length, seed))
    build_kernels(kernels).draw_orders(*counts, ctypes.c_void_p(orders.data_ptr()))
    assert torch.equal(orders, permutations(seed, torch.arange(7, 11), length))


@pytest.mark.parametrize(("task_type", "activation"), [("classification", "relu"), ("regression", "tanh")])
@pytest.mark.parametrize("by_kernels", [pytest.param(True, marks=needs_compiler), False])
def test_a_diverged_network_is_an_error_either_way(task_type, activation, by_kernels, monkeypatch):
    monkeypatch.setattr(training_module.BatchedTrainer if by_kernels else CompiledTrainer, "run", refuse)
    if not by_kernels:
        monkeypatch.setattr(CompiledTrainer, "can_train", lambda *_: False)
    start, train = started(mlp([7, 18, 3], activation, task_type)), examples((7,), 3, task_type)
    config = recipe(optimizer="sgd", learning_rate=1e30, batch_size=20)
    with pytest.raises(ValueError, match=r"3 of 3 networks diverged"):
        train_networks(start, train, config, [12])


@needs_compiler
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_network_leaves_others_as_they_are(network, value, monkeypatch):
    start, ends = started(small(network)), []
    train, config = examples(start.architecture.inputs, 3, "classification"), recipe(batch_size=20)
    expected = train_networks(start, train, config, STEPS[:3])
    flat = start.flat.clone()
    flat[1, 4] = value
    monkeypatch.setattr(training_module, "put_together", ends.append)
    with pytest.raises(ValueError, match=r"1 of 3 networks diverged"):
        train_networks(Networks.from_flat(start.architecture, flat), train, config, STEPS[:3])
    assert torch.equal(ends[0][::2], expected[::2])


@needs_compiler
def test_what_is_no_number_passes_pooling():
    """Of a window's two values the second overflows, so that its softsign is ∞ / ∞."""
    convolution = nn.Conv2d(1, 1, 1, bias=False)
    module = nn.Sequential(convolution, nn.Softsign(), nn.MaxPool2d((1, 2)), nn.Flatten(), nn.Linear(1, 2))
    architecture = Architecture.from_module(module, torch.zeros(1, 1, 1, 2))
    train = Split(torch.tensor([0.0, 2.0]).expand(8, 1, 1, 2), torch.zeros(8, dtype=torch.int64))
    start = Networks.from_flat(architecture, torch.tensor([[3e38, 1.0, 1.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"1 of 1 networks diverged"):
        train_networks(start, train, recipe(epochs=2), [1])


@needs_compiler
@pytest.mark.parametrize(
    "architecture",
    [
        mlp([1, 1, 1, 2]),
        Architecture.from_module(
            nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1, 2)),
            torch.zeros(1, 1, 1, 1),
        ),
    ],
    ids=KERNELS,
)
def test_relu_stops_infinite_gradients(architecture, both):
    """2e20 · 1e25 reaches a unit that says zero: torch trains on, as where a learning rate has all but killed a network."""
    train = Split(torch.ones(3, *architecture.inputs), torch.ones(3, dtype=torch.int64))
    start = Networks.from_flat(architecture, torch.tensor([[-1.0, 0.0, 1e25, 1.0, 1e20, -1e20, 0.0, 0.0]]))
    torch.testing.assert_close(*both(start, train, recipe(batch_size=3, epochs=2, optimizer="sgd"), [1, 2]))


@needs_compiler
@pytest.mark.parametrize("activation", ["gelu", "silu", "smooth_relu"])
def test_far_below_zero_derivatives_are_zero(activation, both):
    """At -1e10, where 2e30 comes back: e^-87 · 1e10 of that would be no rounding."""
    train = Split(torch.ones(3, 1), torch.ones(3, dtype=torch.int64))
    start = Networks.from_flat(mlp([1, 1, 1, 2], activation), torch.tensor([[-1e10, 0, 1e11, 1, 1e19, -1e19, 0, 0]]))
    torch.testing.assert_close(*both(start, train, recipe(batch_size=3, epochs=2, optimizer="sgd"), [1]))


@needs_compiler
def test_no_example_is_computed_that_is_not_in_the_batch(both):
    """Batches of 3 leave vectors incomplete; zeros in their rests would overflow, and spoil gradients."""
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(1, 2))
    architecture = Architecture.from_module(module, torch.zeros(1, 1, 1, 1))
    train = Split(torch.ones(3, 1, 1, 1), torch.tensor([0, 1, 0]))
    start = Networks.from_flat(architecture, torch.tensor([[-2e38, 2e38, 2.0, 1.0, 1.0, 0.0, 0.0]]))
    torch.testing.assert_close(*both(start, train, recipe(batch_size=3, epochs=2, optimizer="sgd"), [1]))


@needs_compiler
@pytest.mark.parametrize(("kernel", "kernels"), [(6, "images.cpp"), (5, None), ((6, 5), None)])
def test_outputs_may_be_channels_at_one_position(kernel, kernels, both):
    """Those at several are no channels: kernels would take a few of them for all."""
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, kernel), nn.Flatten())
    architecture = Architecture.from_module(module, torch.zeros(1, 1, 6, 6))
    start, outputs = started(architecture), architecture.groups[-1].size
    train = examples((1, 6, 6), outputs, "classification")
    assert source_for(architecture, start.flat, train) == kernels
    if kernels:
        torch.testing.assert_close(*both(start, train, recipe(batch_size=20, optimizer="sgd"), [3]))


@pytest.mark.parametrize(("command", "said"), [("no-such-compiler", "was not found"), ("false", "cannot compile")])
def test_without_a_compiler_torch_trains_and_says_so(command, said, monkeypatch, tmp_path):
    start, train, config = started(mlp([7, 18, 3])), examples((7,), 3, "classification"), recipe(batch_size=20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", command)
    monkeypatch.setattr(CompiledTrainer, "run", refuse)
    build_kernels.cache_clear()
    try:
        with pytest.warns(UserWarning, match=rf"Training without kernels.*{command}.* {said}") as told:
            flat = train_networks(start, train, config, [0, 12])
    finally:
        build_kernels.cache_clear()
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert (flat[:, 1] - flat[:, 0]).abs().max() > 0.01


def test_a_compiler_that_fails_is_asked_once(monkeypatch):
    """A flow takes gradients at every step, and they come by torch where there are no kernels."""
    asked, data = [], examples((1, 4, 4), 2, "classification")

    def fail(source):
        asked.append(source.name)
        raise NoKernels("cannot compile")

    monkeypatch.setattr(compiled_training, "library", fail)
    build_kernels.cache_clear()
    try:
        start = started(cnn((1, 4, 4), [2], 2))
        for _ in range(3):
            assert compiled_training.compiled_gradients(start.architecture, start.flat, data) is None
            assert compiled_training.compiled_steps(start, data, [1], 0.1, torch.zeros(1, 1, dtype=torch.int64)) is None
    finally:
        build_kernels.cache_clear()
    assert asked == ["images.cpp"]
