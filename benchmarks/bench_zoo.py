"""A training step of many networks, against a loop over modules with optimizers and against the limit of matrix products.

python -m pytest benchmarks/bench_zoo.py

Ways take turns, so that a machine that slows down slows both; times are the process' own, on one thread.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from wflib.architecture import Architecture, cnn, mlp, resnet, vit
from wflib.architecture.operations import Convolution, Linear
from wflib.compiled import compiler
from wflib.config import ZooConfig
from wflib.networks import batch_losses
from wflib.rng import generator
from wflib.tasks import Split
from wflib.zoo import initialize, train_networks
from wflib.zoo.compiled_training import compiled_gradients

NETWORKS, BATCH, ROUNDS, STEPS = 1000, 64, 5, 5
RECIPE = {
    **{"seed": 0, "network": "mlp", "widths": [1], "activation": "relu", "networks": 2, "held_out": 0.1},
    **{"weight_decay": 0.0, "batch_size": BATCH, "epochs": 10**6, "skip_epochs": 0, "snapshot_every": 1, "init": "normal"},
    **{"init_std": 0.1, "learning_rate": 1e-3, "device": "cpu"},
}


def perceptron() -> nn.Module:
    """30-16-16-2, as for WDBC."""
    return nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def convolutional() -> nn.Module:
    """Two convolutions of four channels each with pooling, on 8 × 8 images."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(16, 10)),
    )


CASES: dict[str, tuple[Architecture, Callable[[], nn.Module], float]] = {
    "perceptrons": (mlp([30, 16, 16, 2]), perceptron, 20),
    "convolutional networks": (cnn((1, 8, 8), [4, 4], 10), convolutional, 4),
}
"""Architecture, the module that it is, and how many times as fast all at once must be."""


def examples_of(architecture: Architecture, count: int) -> Split:
    """Examples without meaning."""
    random = generator(0, "benchmark")
    inputs = torch.randn(count, *architecture.inputs, generator=random)
    return Split(inputs, torch.randint(architecture.groups[-1].size, (count,), generator=random))


def together(architecture: Architecture, networks: int, count: int, steps: int, optimizer: str) -> Callable[[], None]:
    """So many steps of all networks, as a zoo is trained on so many examples."""
    start = initialize(architecture, networks, 0.1, generator(0, "weights"))
    recipe = RECIPE | {"optimizer": optimizer, "momentum": 0.9 if optimizer == "sgd" else 0.0}
    train, config = examples_of(architecture, count), ZooConfig.model_validate(recipe)
    return lambda: train_networks(start, train, config, [steps])


def one_by_one(architecture: Architecture, build: Callable[[], nn.Module]) -> Callable[[], None]:
    """One step of every module."""
    train = examples_of(architecture, BATCH * NETWORKS)
    inputs, targets = train.inputs.view(NETWORKS, BATCH, *architecture.inputs), train.targets.view(NETWORKS, BATCH)
    modules = [build() for _ in range(NETWORKS)]
    optimizers = [torch.optim.Adam(module.parameters()) for module in modules]

    def step() -> None:
        for module, optimizer, x, y in zip(modules, optimizers, inputs, targets, strict=True):
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(module(x), y).backward()
            optimizer.step()

    return step


def rounds(ways: dict[Callable[[], None], int]) -> Iterator[list[float]]:
    """Seconds of one step of each way in turn, which takes so many at a time; the first round is left out."""
    for number in range(ROUNDS + 1):
        seconds = []
        for run, steps in ways.items():
            start = time.process_time()
            run()
            seconds.append((time.process_time() - start) / steps)
        if number:
            yield seconds


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For torch and kernels."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tell(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Say what was found."""
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_all_networks_at_once(name, record_property, capsys):
    """The median over rounds of how many times as long the loop takes."""
    architecture, build, least = CASES[name]
    ours = together(architecture, NETWORKS, 512, STEPS, "adam")
    found = [*rounds({ours: STEPS, one_by_one(architecture, build): 1})]
    ours, loop = (1000 * statistics.median(side) / NETWORKS for side in zip(*found, strict=True))
    ratio = statistics.median(theirs / mine for mine, theirs in found)
    record_property("ratio", ratio)
    tell(capsys, f"{name}: {ours:.4f} ms a network at once, {loop:.3f} ms one by one, {ratio:.1f} times as fast")
    assert ratio > least


LIMITS = {
    "WDBC": (mlp([30, 16, 16, 2]), 1000, 455, 70, "adam", 4),
    "MNIST": (mlp([784, 10, 10]), 20, 60_000, 200, "sgd", 3),
    "digits, convolutional": (cnn((1, 8, 8), [8, 8], 10), 100, 1437, 66, "adam", 5),
    "digits, residual": (resnet((1, 8, 8), [4, 8], 10), 60, 1437, 66, "adam", 5),
    "digits, transformer": (vit((1, 8, 8), 16, [32], 10), 20, 1437, 66, "adam", 5),
    "MNIST, convolutional": (
        cnn((1, 28, 28), [8, 6, 4], 10, "tanh", kernels=[5, 5, 2], pools=[2, 2, 1], padding=False, hidden=[20]),
        *(4, 60_000, 200, "adam", 5),
    ),
}
"""Architecture, networks, examples, steps, optimizer, and how many times the limit a step may take."""
SIDE = 1024


def operations(architecture: Architecture) -> int:
    """Additions and multiplications of a step's maps: forward, to weights, and to all inputs but a network's."""
    maps = [operation for operation in architecture.operations if isinstance(operation, Convolution | Linear)]
    weights = {name: torch.zeros(1, *shape) for name, shape in architecture.shapes}
    values = architecture.run(weights, torch.zeros(1, *architecture.inputs), {operation.output for operation in maps})
    first, *others = (values[operation.output].numel() * weights[operation.weight][0, 0].numel() for operation in maps)
    return 2 * BATCH * (2 * first + 3 * sum(others))


@pytest.mark.skipif(shutil.which(compiler()[0]) is None, reason="no C++ compiler")
@pytest.mark.parametrize("name", LIMITS)
def test_a_step_against_the_limit_of_matrix_products(name, record_property, capsys):
    """The median over rounds of a step's time by that of its products at the rate of large ones; orders are drawn, too."""
    architecture, networks, count, steps, optimizer, most = LIMITS[name]
    left, right = torch.randn(2, SIDE, SIDE)
    out, needed = left @ right, operations(architecture)

    def products() -> None:
        for _ in range(8):
            torch.mm(left, right, out=out)

    trained = together(architecture, networks, count, steps, optimizer)
    found = [(step / networks, product * needed / (2 * SIDE**3)) for step, product in rounds({trained: steps, products: 8})]
    seconds, limit = (statistics.median(side) for side in zip(*found, strict=True))
    ratio = statistics.median(step / least for step, least in found)
    record_property("ratio", ratio)
    tell(
        capsys,
        f"{name}: {1e6 * seconds:.2f} µs for a network and step, {needed / seconds / 1e9:.1f} GFLOP/s, {ratio:.2f} times "
        f"the limit of {1e6 * limit:.2f} µs at {needed / limit / 1e9:.1f} GFLOP/s",
    )
    assert ratio <= most


GRADIENTS = {
    "digits, convolutional": cnn((1, 8, 8), [8, 8], 10, "smooth_relu"),
    "digits, residual": resnet((1, 8, 8), [6, 12], 10, "smooth_relu"),
    "digits, transformer": vit((1, 8, 8), 16, [32], 10),
}


@pytest.mark.skipif(shutil.which(compiler()[0]) is None, reason="no C++ compiler")
@pytest.mark.parametrize("name", GRADIENTS)
def test_what_flows_see_of_the_loss(name, record_property, capsys):
    """The median over rounds of how many times as long torch takes for gradients of 64 networks on 128 examples."""
    architecture = GRADIENTS[name]
    start, train = initialize(architecture, 64, 0.1, generator(0, "weights")), examples_of(architecture, 128)

    def total(flat: torch.Tensor) -> torch.Tensor:
        return batch_losses(architecture, architecture.unflatten(flat), train)[0].sum()

    by_kernels = partial(compiled_gradients, architecture, start.flat, train)
    by_torch = partial(torch.func.grad(total), start.flat)
    found = [*rounds({by_kernels: 1, by_torch: 1})]
    ours, theirs = (1000 * statistics.median(side) for side in zip(*found, strict=True))
    ratio = statistics.median(other / mine for mine, other in found)
    record_property("ratio", ratio)
    tell(
        capsys, f"{name}: gradients of 64 networks in {ours:.1f} ms, by torch in {theirs:.1f} ms, {ratio:.1f} times as fast"
    )
    assert ratio > 2
