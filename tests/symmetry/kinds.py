"""Networks of every kind that symmetries are tested over: small builders, and the table of traced ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from tests.architecture.cases import CASES, NETWORKS, Wired, random_weights, traced
from wflib.architecture import Architecture, Weights, cnn, resnet, vit
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations

__all__ = ["BUILT", "KINDS", "NETWORKS", "disguised", "drawn", "equal"]

BUILT: dict[str, Callable[[], Architecture]] = {
    "cnn": partial(cnn, (1, 8, 8), [4, 3], 5),
    "cnn-batch": partial(cnn, (1, 8, 8), [4, 3], 5, norm="batch"),
    "resnet": partial(resnet, (1, 8, 8), [4, 4, 6], 5),
    "vit": partial(vit, (1, 8, 8), 8, [12], 5),
}


def beside_inputs(m, x):
    """A layer that reads neurons and the network's inputs side by side."""
    x = torch.cat([x, functional.relu(m.first(x))], 1)
    return m.last(functional.relu(m.middle(x)))


def groups_twice(m, x):
    """Grouped convolutions whose members stand in one order, and in another after a shuffle."""
    x = functional.relu(m.one(functional.relu(m.stem(x))))
    b, c, h, w = x.shape
    x = x.view(b, 2, c // 2, h, w).flip(2).reshape(b, c, h, w)
    return m.head(functional.relu(m.two(x)).mean((2, 3)))


def traced_module(module: nn.Module, *inputs: int) -> Architecture:
    return Architecture.from_module(module.double().eval(), torch.zeros(1, *inputs, dtype=torch.float64))


KINDS: dict[str, Callable[[], Architecture]] = (
    BUILT
    | {name: lambda name=name: traced(name)[1] for name in CASES}
    | {
        "beside-inputs": lambda: traced_module(
            Wired(beside_inputs, first=nn.Linear(3, 4), middle=nn.Linear(7, 5), last=nn.Linear(5, 2)), 3
        ),
        "groups-twice": lambda: traced_module(
            Wired(
                groups_twice,
                stem=nn.Conv2d(2, 6, 3),
                one=nn.Conv2d(6, 6, 2, groups=2),
                two=nn.Conv2d(6, 8, 2, groups=2),
                head=nn.Linear(8, 3),
            ),
            *(2, 6, 6),
        ),
    }
)


def drawn(architecture: Architecture, networks: int = NETWORKS, seed: int = 0) -> Weights:
    """Networks with N(0, 1) weights in float64, others for other seeds."""
    many = random_weights(architecture, networks * (seed + 1))
    return {name: tensor[networks * seed :] for name, tensor in many.items()}


def disguised(architecture: Architecture, weights: Weights, name: str = "hide") -> Weights:
    """Each network in a random order of its neurons."""
    order = random_permutations(architecture, len(next(iter(weights.values()))), generator(0, name))
    return permute(Networks(architecture, weights), order).weights


def equal(a: Weights, b: Weights) -> bool:
    """Whether all numbers are the same."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
