"""A training step of many networks at once against a loop over modules, each with its own optimizer.

python -m pytest benchmarks/bench_zoo.py

Ways take turns, so that a machine that slows down slows both; times are the process' own.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from wflib.architecture import Architecture, cnn, mlp
from wflib.networks import network_losses
from wflib.rng import generator
from wflib.tasks import Split
from wflib.zoo import initialize
from wflib.zoo.training import networks_at_once

NETWORKS, EXAMPLES, ROUNDS, STEPS = 1000, 64, 5, 5


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


def batches(architecture: Architecture) -> tuple[Tensor, Tensor]:
    """Examples of its own for each network."""
    random = generator(0, "benchmark")
    inputs = torch.randn(NETWORKS, EXAMPLES, *architecture.inputs, generator=random)
    return inputs, torch.randint(architecture.groups[-1].size, (NETWORKS, EXAMPLES), generator=random)


def together(architecture: Architecture) -> Callable[[], None]:
    """One step of all networks, in parts as train_zoo takes them."""
    inputs, targets = batches(architecture)
    at_once = networks_at_once(architecture, EXAMPLES)
    drawn = initialize(architecture, NETWORKS, 0.1, generator(0, "weights")).split(at_once)
    parts = []
    for part, x, y in zip(drawn, inputs.split(at_once), targets.split(at_once), strict=True):
        some = part.map(lambda tensor: tensor.clone().requires_grad_())
        parts.append((some, torch.optim.Adam(some.weights.values()), Split(x, y)))

    def step() -> None:
        for some, optimizer, split in parts:
            optimizer.zero_grad(set_to_none=True)
            network_losses(some, split).sum().backward()
            optimizer.step()

    return step


def one_by_one(architecture: Architecture, build: Callable[[], nn.Module]) -> Callable[[], None]:
    """One step of every module."""
    inputs, targets = batches(architecture)
    modules = [build() for _ in range(NETWORKS)]
    optimizers = [torch.optim.Adam(module.parameters()) for module in modules]

    def step() -> None:
        for module, optimizer, x, y in zip(modules, optimizers, inputs, targets, strict=True):
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(module(x), y).backward()
            optimizer.step()

    return step


def rounds(ways: dict[Callable[[], None], int]) -> Iterator[list[float]]:
    """Seconds of one step of each way in turn, the mean of so many; the first round is left out."""
    for number in range(ROUNDS + 1):
        seconds = []
        for step, steps in ways.items():
            start = time.process_time()
            for _ in range(steps):
                step()
            seconds.append((time.process_time() - start) / steps)
        if number:
            yield seconds


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_all_networks_at_once(name, record_property, capsys):
    """The median over rounds of how many times as long the loop takes."""
    architecture, build, least = CASES[name]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [*rounds({together(architecture): STEPS, one_by_one(architecture, build): 1})]
    finally:
        torch.set_num_threads(threads)
    ours, loop = (1000 * statistics.median(side) / NETWORKS for side in zip(*found, strict=True))
    ratio = statistics.median(theirs / mine for mine, theirs in found)
    record_property("ratio", ratio)
    with capsys.disabled():
        text = f"{name}: {ours:.3f} ms a network at once, {loop:.3f} ms one by one, {ratio:.1f} times as fast"
        sys.stdout.write(f"\n{text}\n")
    assert ratio > least
