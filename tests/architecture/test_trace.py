"""Tracing: what is refused says what, where and what would help; what is recorded is what the module does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import wflib
from tests.architecture.cases import Wired
from wflib.architecture import Architecture, mlp, vit

EXAMPLE = torch.zeros(1, 4, dtype=torch.float64)


def traced(run, example=EXAMPLE, **parts) -> Architecture:
    return Architecture.from_module(Wired(run, **parts).double(), example)


def in_place_through_a_view(m, x):
    y = m.first(x)
    half = y[:, :2]
    half.relu_()
    return m.last(y)


def by_value(m, x):
    return m.first(x) if x[0, 0] else m.last(x)


def by_number_of_examples(m, x):
    return m.first(x).reshape(x.shape[0] * 4)[: x.shape[0] * 2 + 1]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda m, x: torch.fft.fft(m.first(x)).real, r"`fft_fft` in network has no operation.*test_trace.*Write it with"),
        (by_value, "`__bool__`.*depend on values.*Decide by sizes"),
        (in_place_through_a_view, "memory was changed through another.*Avoid changes in place"),
        (lambda m, x: functional.dropout(m.first(x), 0.5, True), "draws random numbers.*evaluation mode"),
        (lambda m, x: functional.linear(x, m.first.weight * 2), "weights that are computed.*parameters as they are"),
        (lambda m, x: functional.batch_norm(m.first(x), None, None, training=True), "statistics of its examples"),
        (lambda m, x: (m.first(x), x), "returns one tensor, got tuple; wrap it"),
        (by_number_of_examples, "depends on the number of examples"),
        (lambda m, x: functional.pad(m.first(x)[None], (1, 1), mode="reflect"), "pads by reflect"),
    ],
)
def test_what_cannot_be_traced_is_refused(run, message):
    parts = {"first": nn.Linear(4, 4), "last": nn.Linear(4, 2)}
    assert traced(lambda m, x: m.last(torch.relu(m.first(x))), **parts).hidden_groups
    with pytest.raises(ValueError, match=f"(?s){message}"):
        traced(run, **parts)


UNKNOWN = [
    nn.ConvTranspose2d(4, 4, 2), nn.InstanceNorm2d(4), nn.PReLU(), nn.GLU(1), nn.Upsample(scale_factor=2),
    nn.PixelShuffle(2), nn.ChannelShuffle(2), nn.LSTM(8, 8),
]  # fmt: skip
KNOWN = [
    nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4), nn.LayerNorm(8), nn.GroupNorm(2, 4), nn.RMSNorm(8), nn.MaxPool2d(2),
    nn.AvgPool2d(2), nn.ELU(), nn.GELU(), nn.Sigmoid(), nn.Hardswish(), nn.ZeroPad2d(1),
]  # fmt: skip


@pytest.mark.parametrize("layer", UNKNOWN, ids=lambda layer: type(layer).__name__)
def test_layers_that_the_page_calls_unknown_are_refused(layer):
    assert f"`{type(layer).__name__}`" in (Path(__file__).parents[2] / "docs/how-to/your-own-architecture.md").read_text()
    example = torch.zeros(1, 4, 8) if isinstance(layer, nn.LSTM) else torch.zeros(1, 4, 8, 8)
    with pytest.raises(ValueError, match="has no operation in wflib"):
        Architecture.from_module(nn.Sequential(nn.Linear(8, 8), layer), example)


@pytest.mark.parametrize("layer", KNOWN, ids=lambda layer: type(layer).__name__)
def test_layers_that_it_calls_known_are_traced(layer):
    assert Architecture.from_module(nn.Sequential(nn.Linear(8, 8), layer), torch.zeros(1, 4, 8, 8)).operations


def test_changes_in_place_are_recorded_in_their_order():
    def run(m, x):
        y = m.first(x)
        kept = y * 2
        y.relu_()
        y += kept
        return m.last(y)

    assert len(traced(run, first=nn.Linear(4, 5), last=nn.Linear(5, 2)).operations) == 5


def test_a_perceptron_is_traced_as_one():
    module = mlp([4, 5, 3]).module().double()
    architecture = Architecture.from_module(module, EXAMPLE, "regression")
    assert [layer.activation for layer in architecture.layers] == ["relu", "identity"]
    assert architecture.task_type == "regression"
    assert [shape for _, shape in architecture.shapes] == [shape for _, shape in mlp([4, 5, 3]).shapes]


def test_modules_keep_their_mode_and_tied_parameters_have_one_name():
    module = Wired(lambda m, x: m.two(torch.tanh(m.one(x))), one=nn.Linear(4, 4), two=nn.Linear(4, 4)).double().train()
    module.two.weight = module.one.weight
    architecture = Architecture.from_module(module, EXAMPLE)
    assert module.training
    assert module.one.training
    assert [name for name, _ in architecture.shapes] == ["one.weight", "one.bias", "two.bias"]
    assert not architecture.hidden_groups  # outputs are hidden neurons: nothing may be exchanged


def test_statistics_are_told_from_weights():
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2)).double()
    architecture = Architecture.from_module(module, torch.zeros(1, 2, 3, 3, dtype=torch.float64))
    assert architecture.statistics == ("1.running_mean", "1.running_var")
    assert set(dict(architecture.shapes)) == set(module.state_dict()) - {"1.num_batches_tracked"}


@pytest.mark.parametrize(
    ("architecture", "between_values", "all_counted"),
    [
        (mlp([4, 3, 3, 2]), 0, True),
        (mlp([4, 3, 3, 2], "identity"), 0, False),
        (vit((1, 4, 4), 4, [5], 3, 2, activation="relu"), 2 * (2**2 - 2), False),
    ],
)
def test_at_least_what_is_called_redundant_leaves_outputs_alone(architecture, between_values, all_counted):
    """By the rank of all outputs' slopes by all parameters."""
    found, random = wflib.symmetries(architecture), torch.Generator().manual_seed(0)
    weights = torch.randn(1, architecture.dimension, generator=random, dtype=torch.float64) * 0.7
    inputs = torch.randn(150, *architecture.inputs, generator=random, dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(
        lambda w: architecture.forward(architecture.unflatten(w), inputs)[0], weights
    )
    free = found.parameters - int(torch.linalg.matrix_rank(slopes.flatten(0, 1).flatten(1), rtol=1e-9))
    counted = found.scalable + found.mixable
    assert found.redundant == counted / found.parameters
    assert free >= counted + between_values  # matrices between values and outputs of each head, but for their scalings
    assert (free == counted) == all_counted


def test_symmetries_are_printed():
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).double()
    found = wflib.symmetries(module, torch.zeros(1, 2, 3, 3, dtype=torch.float64))
    text = str(found)
    for part in ("in each of 1.groups", "0.weight[0]", "1: 4 positive; written by 1.weight, 1.bias, read by 4.weight"):
        assert part in text
    assert f"at least {4 / found.parameters:.2%} redundant" in text
    assert found.redundant == pytest.approx(4 / found.parameters)
    assert found.log_order == pytest.approx(3 * torch.tensor(2.0).log().item())
    assert wflib.symmetries(mlp([3, 5, 2])).scalable == 5
    with pytest.raises(ValueError, match="needs an example"):
        wflib.symmetries(module)
