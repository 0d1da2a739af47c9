"""Networks of every kind that symmetries are tested over: small builders, and the table of traced ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from tests.architecture.cases import CASES, NETWORKS, random_weights, traced
from wflib.architecture import Architecture, Weights, cnn, resnet, vit
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations

__all__ = ["BUILT", "KINDS", "NETWORKS", "disguised", "drawn", "equal"]

BUILT: dict[str, Callable[[], Architecture]] = {
    "cnn": partial(cnn, (1, 8, 8), [4, 3], 5),
    "cnn-batch": partial(cnn, (1, 8, 8), [4, 3], 5, norm="batch"),
    "resnet": partial(resnet, (1, 8, 8), [4, 4, 6], 5),
    "vit": partial(vit, (1, 8, 8), 8, [12], 5),
}
KINDS: dict[str, Callable[[], Architecture]] = BUILT | {name: lambda name=name: traced(name)[1] for name in CASES}


def drawn(architecture: Architecture, networks: int = NETWORKS, seed: int = 0) -> Weights:
    """Networks with N(0, 1) weights in float64, others for other seeds."""
    many = random_weights(architecture, networks * (seed + 1))
    return {name: tensor[networks * seed :] for name, tensor in many.items()}


def disguised(architecture: Architecture, weights: Weights, name: str = "hide") -> Weights:
    """Each network in a random order of its neurons."""
    order = random_permutations(architecture, len(next(iter(weights.values()))), generator(0, name))
    return permute(architecture, weights, order)


def equal(a: Weights, b: Weights) -> bool:
    """Whether all numbers are the same."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
