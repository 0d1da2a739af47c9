"""Products with patches are convolutions, in every order of memory, with their derivatives; pooling follows."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from wflib.architecture.operations import Convolution, Pool
from wflib.architecture.operations import convolution as convolution_module
from wflib.architecture.operations.patches import patch_convolution
from wflib.rng import generator

NETWORKS, EXAMPLES, CHANNELS, OUTPUTS = 3, 4, 2, 5
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}
SETTINGS = {
    "plain": ((3, 3), (1, 1), (0, 0), (1, 1)),
    "padded": ((3, 3), (1, 1), (1, 1), (1, 1)),
    "strided": ((3, 3), (2, 2), (1, 1), (1, 1)),
    "dilated": ((2, 2), (1, 1), (1, 1), (2, 2)),
    "one": ((1, 1), (1, 1), (0, 0), (1, 1)),
    "tiles": ((2, 2), (2, 2), (0, 0), (1, 1)),
    "uneven": ((3, 2), (2, 3), (2, 0), (1, 2)),
    "wide": ((5, 5), (1, 1), (4, 4), (1, 1)),
}
ORDERS = {"rows": (0, 1, 2, 3, 4), "examples first": (1, 0, 2, 3, 4), "examples last": (0, 2, 3, 4, 1)}


def draw(*shape: int, name: str) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, name), dtype=torch.float64).requires_grad_()


def ordered(x: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """The same numbers in another order in memory."""
    return x.permute(order).contiguous().permute([order.index(axis) for axis in range(x.ndim)])


def parts(kernel: tuple[int, int]):
    x = draw(NETWORKS, EXAMPLES, CHANNELS, 7, 6, name="x")
    return x, draw(NETWORKS, OUTPUTS, CHANNELS, *kernel, name="w"), draw(NETWORKS, OUTPUTS, name="b")


def alone(x, weight, bias, settings):
    """Network by network."""
    biases = bias if bias is not None else [None] * len(x)
    return torch.stack([functional.conv2d(*network, *settings) for network in zip(x, weight, biases, strict=True)])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_those_of_convolutions(name, order, biased):
    kernel, *settings = SETTINGS[name]
    x, weight, bias = parts(kernel)
    bias = bias if biased else None
    given = [tensor for tensor in (x, weight, bias) if tensor is not None]
    found = patch_convolution(ordered(x, ORDERS[order]), weight, bias, *settings)
    expected = alone(x, weight, bias, settings)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    probe = draw(*expected.shape, name="probe").detach()
    ours, theirs = (torch.autograd.grad(outputs, given, probe) for outputs in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)
    assert not torch.allclose(found, alone(x, weight.flip(-1, -2), bias, settings)) or name == "one"


@pytest.mark.parametrize("name", ["strided", "dilated"])
def test_higher_and_batched_derivatives_are_those_of_convolutions(name):
    kernel, *settings = SETTINGS[name]
    x, weight, bias = (tensor.detach() for tensor in parts(kernel))
    tangent, several = draw(*x.shape, name="tangent").detach(), torch.stack([x, 2 * x, x + 1])

    def ours(x):
        return patch_convolution(x, weight, bias, *settings).tanh().square().sum()

    def theirs(x):
        return alone(x, weight, bias, settings).tanh().square().sum()

    def along(function):
        return torch.func.jvp(torch.func.grad(function), (x,), (tangent,))[1]

    torch.testing.assert_close(along(ours), along(theirs), **TOLERANCE)
    for function in (lambda f: f, torch.func.grad):
        found, expected = (torch.func.vmap(function(f))(several) for f in (ours, theirs))
        torch.testing.assert_close(found, expected, **TOLERANCE)
    double, other = (torch.func.grad(lambda x, f=f: torch.func.grad(f)(x).square().sum())(x) for f in (ours, theirs))
    torch.testing.assert_close(double, other, **TOLERANCE)


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
@pytest.mark.parametrize("order", ORDERS)
def test_pooling_is_the_same_in_every_order(name, order):
    x = draw(NETWORKS, EXAMPLES, CHANNELS, 7, 6, name="x")
    found = Pool("y", ("x",), name, (("kernel_size", 2),)).run({}, [ordered(x, ORDERS[order])], EXAMPLES)
    expected = torch.stack([getattr(functional, f"{name}2d")(network, 2) for network in x])
    assert torch.equal(found, expected)
    probe = draw(*expected.shape, name="probe").detach()
    torch.testing.assert_close(*(torch.autograd.grad(y, x, probe)[0] for y in (found, expected)), **TOLERANCE)


def test_few_channels_are_multiplied_and_many_convolved(monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return patch_convolution(*arguments)

    monkeypatch.setattr(convolution_module, "patch_convolution", counted)
    operation = Convolution("y", ("x",), "w", None, (1, 1), (1, 1), (1, 1))
    for networks, channels, side, expected in ((3, 1, 8, 1), (3, 16, 8, 0), (1, 1, 8, 0), (3, 1, 200, 0)):
        x, weight = draw(networks, EXAMPLES, channels, side, side, name="x"), draw(networks, 2, channels, 3, 3, name="w")
        found = operation.run({"w": weight}, [x], EXAMPLES)
        torch.testing.assert_close(found, alone(x, weight, None, ((1, 1), (1, 1), (1, 1))), **TOLERANCE)
        assert len(calls) == expected
        calls.clear()
