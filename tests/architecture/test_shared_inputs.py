"""Inputs that all networks see: the same outputs, and gradients, as with copies for every network."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad, vmap

from wflib.architecture import cnn, mlp
from wflib.architecture.operations import convolution, linear, patches
from wflib.architecture.operations.base import is_shared
from wflib.rng import generator

NETWORKS = {"mlp": mlp([200, 5, 2], "tanh"), "cnn": cnn((1, 5, 5), [3], 2, "tanh")}


def by_autograd(loss, inputs):
    inputs = inputs.detach().requires_grad_()
    return torch.autograd.grad(loss(inputs), inputs)[0]


def by_transform(loss, inputs):
    return grad(loss)(inputs)


def inside_another(loss, inputs):
    return grad(lambda x: grad(lambda factor: factor * loss(x))(torch.ones((), dtype=x.dtype)))(inputs)


def of_a_batch(loss, inputs):
    """Rows by ``vmap``, which hides what is differentiated."""
    rows = torch.stack([inputs[:1], 2 * inputs[:1]]).expand(-1, len(inputs), *inputs.shape[1:])
    return grad(lambda x: vmap(loss)(x).sum())(rows if inputs.stride(0) == 0 else rows.contiguous())


@pytest.mark.parametrize("way", [by_autograd, by_transform, inside_another, of_a_batch])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_its_own_gradient_at_shared_inputs(name, way, monkeypatch):
    architecture, random = NETWORKS[name], generator(0, "shared")
    weights = architecture.unflatten(torch.randn(3, architecture.dimension, generator=random, dtype=torch.float64))
    inputs = torch.randn(1, 4, *architecture.inputs, generator=random, dtype=torch.float64)
    inputs = inputs.expand(3, *inputs.shape[1:])

    def loss(x):
        return architecture.forward(weights, x).square().sum()

    torch.testing.assert_close(loss(inputs), loss(inputs.contiguous()))
    expected = way(loss, inputs.contiguous())
    torch.testing.assert_close(way(loss, inputs), expected)
    for module in (linear, convolution, patches):
        monkeypatch.setattr(module, "is_shared", lambda x: len(x) > 1 and x.stride(0) == 0)
    assert (way(loss, inputs) - expected).abs().max() > 1e-2


def test_shared_inputs_are_known_where_only_weights_have_gradients():
    inputs, seen = torch.zeros(1, 4).expand(3, -1), []
    grad(lambda weights: seen.append(is_shared(inputs)) or weights.sum())(torch.ones(3))
    vmap(lambda weights: seen.append(is_shared(inputs.expand(3, -1))) or weights)(torch.ones(3))
    assert seen == [True, True]
    assert not is_shared(inputs.contiguous())
    assert not is_shared(inputs[:1])
