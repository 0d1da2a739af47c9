"""Which functions and networks have derivatives that jump, against derivatives on a fine grid."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wflib.architecture import Architecture, cnn, kinks, mlp, resnet, vit, with_activations
from wflib.architecture.operations import KINDS
from wflib.architecture.operations.elementwise import FUNCTIONS, KINKED, Elementwise

POLES = {"log", "sqrt", "rsqrt", "reciprocal"}
SETTINGS = {"power": [(("exponent", 3),)], "clamp": [(("min", -1.0),), (("max", 2.5),)]}
SETTINGS |= {"elu": [(), (("alpha", 0.4),), (("alpha", 1.0),)], "celu": [(), (("alpha", 0.4),)]}
SETTINGS |= {"softplus": [(), (("beta", 3.0),), (("threshold", 2.0),)], "leaky_relu": [(), (("negative_slope", 0.3),)]}
CASES = [(name, settings) for name in FUNCTIONS for settings in SETTINGS.get(name, [()])]


def largest_jump(operation: Elementwise) -> float:
    """The largest difference between derivatives at neighbours of a grid, in which those of smooth functions vanish."""
    x = torch.arange(1 if operation.function in POLES else -4, 7, 2e-5, dtype=torch.float64).add_(1e-6).requires_grad_()
    (slope,) = torch.autograd.grad(operation.run({}, [x], 1).sum(), x)
    return slope.diff().abs().max().item()


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_functions_with_a_kink_are_those_whose_derivatives_jump(name, settings):
    operation = Elementwise("out", ("input",), name, settings)
    jump = largest_jump(operation)
    assert jump < 0.03 or jump > 0.1
    assert (operation.kink == name) == (jump > 0.1)
    assert operation.kink in (None, name)


def test_no_function_is_forgotten():
    assert set(FUNCTIONS) >= KINKED
    assert {name for name, _ in CASES} == set(FUNCTIONS)
    others = {kind for kind, operation in KINDS.items() if operation.kink is not KINDS["linear"].kink}
    assert others == {"elementwise", "pool"}


def test_networks_name_the_operations_that_jump():
    assert kinks(mlp([3, 4, 2])) == ("hidden1:relu (relu)",)
    assert kinks(with_activations(mlp([3, 4, 2]), {"relu": "smooth_relu"})) == ()
    assert kinks(cnn((1, 6, 6), [3, 4], 2, "tanh", pools=[2, 1])) == ("pool1 (max_pool)",)
    assert kinks(vit((1, 4, 4), 4, [5], 2)) == ()
    assert all("relu" in name for name in kinks(resnet((1, 4, 4), [3, 4], 2)))


def test_what_happens_to_inputs_alone_does_not_count():
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.layer(x.abs()).clamp(min=0.0))

    found = kinks(Architecture.from_module(Beside(), torch.zeros(2, 3)))
    assert len(found) == 1
    assert found[0].endswith("(clamp)")
