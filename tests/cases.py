"""The table of architectures that laws are tested over, and double-precision zoos of random networks."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from wflib.activation import ACTIVATIONS
from wflib.architecture import Architecture, Layer, Weights, mlp
from wflib.networks import Networks
from wflib.rng import generator

TOLERANCE = 1e-10
HIDDEN = [5, 4, 6, 3, 4, 5]

ARCHITECTURES: dict[str, Architecture] = {
    f"{depth}-{activation}-{task}-{'bias' if bias else 'nobias'}": mlp([3, *HIDDEN[:depth], 2], activation, task, bias)
    for depth, activation, task, bias in product(range(1, 7), ACTIVATIONS, ("classification", "regression"), (True, False))
}
"""One to six hidden groups, every activation, both kinds of task, with and without biases."""

LINEAR: dict[str, Architecture] = {
    f"linear-{task}": mlp([3, 2], task_type=task) for task in ("classification", "regression")
}
"""No hidden group at all."""


def random_weights(architecture: Architecture, networks: int = 3, seed: int = 0) -> Weights:
    """Networks with N(0, 1) weights in float64."""
    flat = torch.randn(networks, architecture.dimension, generator=generator(seed, "weights"), dtype=torch.float64)
    return architecture.unflatten(flat)


def random_networks(architecture: Architecture, networks: int = 3, seed: int = 0) -> Networks:
    """As :func:`random_weights` draws them."""
    return Networks(architecture, random_weights(architecture, networks, seed))


def random_inputs(architecture: Architecture, examples: int = 7) -> Tensor:
    """Examples with N(0, 1) features in float64."""
    features = architecture.groups[0].size
    return torch.randn(examples, features, generator=generator(0, "inputs"), dtype=torch.float64)


def largest_difference(networks: Networks, others: Networks) -> float:
    """Largest difference between the outputs of two zoos, relative to the size of outputs where that exceeds one."""
    inputs = random_inputs(networks.architecture)
    first, second = networks.forward(inputs), others.forward(inputs)
    return float(((first - second).abs() / first.abs().clamp_min(1)).max())


def incoming_layer(architecture: Architecture, group: str) -> Layer:
    """The layer of a perceptron that computes a group."""
    return next(layer for layer in architecture.layers if layer.target == group)


def incoming(layer: Layer, weights: Weights, norm: str) -> Tensor:
    """What enters each neuron of a perceptron's layer and counts for its norm, (networks, neurons, fan-in or one more)."""
    if norm == "weights" or layer.bias is None:
        return weights[layer.weight]
    return torch.cat([weights[layer.weight], weights[layer.bias].unsqueeze(-1)], -1)


def copy_of(weights: Weights) -> Weights:
    """The same numbers in other memory."""
    return {name: tensor.clone() for name, tensor in weights.items()}
