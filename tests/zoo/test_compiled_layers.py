"""Which networks compiled kernels train, and which are left to torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.test_compiled_training import examples, needs_compiler
from wflib.architecture import Architecture, cnn, mlp
from wflib.networks import Networks, batch_losses
from wflib.tasks import Split
from wflib.zoo.compiled_layers import image_layers
from wflib.zoo.compiled_training import compiled_gradients, source_for


def test_what_kernels_do_not_know_is_left_to_torch():
    architecture, train = mlp([7, 18, 3]), examples((7,), 3, "classification")
    weights, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    assert source_for(architecture, weights, train) == "perceptrons.cpp"
    refused = [
        (architecture, double, train),
        (architecture, weights, Split(train.inputs.double(), train.targets)),
        (architecture, weights, Split(train.inputs[:, :6], train.targets)),
        (architecture, weights, Split(train.inputs, train.targets + 1)),
        (architecture, weights, Split(train.inputs, train.targets - 1)),
        (architecture, weights, Split(train.inputs, train.targets[:60])),
        (mlp([7, 3], task_type="regression"), weights, Split(train.inputs, torch.zeros(63))),
        (cnn((1, 4, 4), [3], 2), weights, train),
    ]
    for layer in (nn.ELU(), nn.Sigmoid(), nn.LeakyReLU(0.3)):
        module = nn.Sequential(nn.Linear(7, 4), layer, nn.Linear(4, 3))
        refused.append((Architecture.from_module(module, torch.zeros(1, 7)), weights, train))
    assert {source_for(*some) for some in refused} == {None}


@pytest.mark.parametrize(
    ("middle", "kernels"),
    [
        ([nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()], "images.cpp"),
        ([nn.MaxPool2d((2, 2), 2), nn.ReLU(), nn.Flatten()], "images.cpp"),
        ([nn.MaxPool2d(2, (2, 2), (0, 0), (1, 1)), nn.Flatten()], "images.cpp"),
        ([nn.MaxPool2d((2,), ()), nn.Flatten()], "images.cpp"),
        ([nn.MaxPool2d(2), nn.MaxPool2d(1), nn.Flatten()], "images.cpp"),
        ([nn.MaxPool2d(2, 1), nn.Upsample((3, 3)), nn.Flatten()], None),
        ([nn.MaxPool2d(3, 2, 1), nn.Flatten()], None),
        ([nn.MaxPool2d(2, ceil_mode=True), nn.Flatten()], None),
        ([nn.AvgPool2d(2), nn.Flatten()], None),
        ([nn.AdaptiveMaxPool2d(3), nn.Flatten()], None),
        ([nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten()], "images.cpp"),
        ([nn.GroupNorm(2, 4), nn.MaxPool2d(2), nn.Flatten()], None),
        ([nn.ELU(), nn.MaxPool2d(2), nn.Flatten()], None),
        ([nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.MaxPool2d(2), nn.Flatten()], None),
        ([nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.MaxPool2d(2), nn.Flatten()], None),
    ],
)
def test_of_convolutional_networks_kernels_know_plain_ones(middle, kernels):
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *middle, nn.Linear(36, 3))
    try:
        architecture = Architecture.from_module(module, torch.zeros(1, 1, 6, 6))
    except ValueError:
        assert kernels is None  # nor does torch
        return
    train = Split(torch.zeros(9, 1, 6, 6), torch.zeros(9, dtype=torch.int64))
    assert source_for(architecture, torch.zeros(1), train) == kernels


class Shared(nn.Module):
    """A value that one branch changes, flattened, and another reads as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear1, self.linear2 = nn.Conv2d(1, 2, 3), nn.Linear(8, 3), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.linear1(torch.relu(y.flatten(1))) + self.linear2(functional.max_pool2d(y, 2).flatten(1))


def test_what_others_read_is_not_changed_in_place():
    architecture = Architecture.from_module(Shared(), torch.zeros(1, 1, 4, 4))
    train = Split(torch.zeros(9, 1, 4, 4), torch.zeros(9, dtype=torch.int64))
    assert source_for(architecture, torch.zeros(1), train) is None


class Attending(nn.Module):
    """Tokens that attend to each other in some way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.patches, self.keys = way, nn.Conv2d(1, 4, 2, 2), nn.Linear(4, 4)
        self.norm = nn.LayerNorm(9 if way == "norm over tokens" else 4)
        self.head = nn.Linear(36 if way == "flattened tokens" else 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = self.norm(x.transpose(1, 2)).transpose(1, 2) if self.way == "norm over tokens" else self.norm(x)
        queries, keys = (y.view(-1, 9, 2, 2).transpose(1, 2) for y in (x, self.keys(x)))
        logits = queries * 0.5 @ keys.transpose(-1, -2)
        if self.way == "softmax over queries":
            weights = logits.softmax(2)
        elif self.way == "multiples of weights":
            weights = logits.softmax(-1) * 2
        elif self.way == "scaled logits":
            weights = (logits * 3).softmax(-1)
        elif self.way == "changed weights":
            weights = torch.tanh(logits.softmax(-1))
        elif self.way == "unasked weights":
            weights = logits.softmax(-1)
            weights.mean(1)
        elif self.way == "no softmax":
            weights = logits
        else:
            weights = logits.softmax(-1)
        if self.way == "queries from keys":
            weights = weights.transpose(-1, -2)
        mixed = (weights @ keys).transpose(1, 2).reshape(-1, 9, 4)
        return self.head(mixed.flatten(1) if self.way == "flattened tokens" else mixed.mean(1))


@pytest.mark.parametrize(
    ("way", "kernels"),
    [
        ("usual", "images.cpp"),
        ("scaled logits", "images.cpp"),
        ("unasked weights", "images.cpp"),
        ("no softmax", "images.cpp"),
        ("changed weights", None),  # in place, which the softmax's gradient reads
        ("norm over tokens", None),
        ("flattened tokens", None),
        ("softmax over queries", None),
        ("multiples of weights", None),
        ("queries from keys", None),
    ],
)
def test_of_transformers_kernels_know_usual_ones(way, kernels):
    architecture = Architecture.from_module(Attending(way), torch.zeros(1, 1, 6, 6))
    assert source_for(architecture, torch.zeros(1), examples((1, 6, 6), 3, "classification")) == kernels


@needs_compiler
@pytest.mark.parametrize("way", ["usual", "scaled logits", "unasked weights", "no softmax"])
def test_attention_written_in_other_ways_has_the_gradient_of_torch(way):
    torch.manual_seed(0)
    module = Attending(way)
    architecture = Architecture.from_module(module, torch.zeros(1, 1, 6, 6))
    start = Networks.from_state_dicts(architecture, [module.state_dict()])
    train = examples((1, 6, 6), 3, "classification")
    gradient = torch.func.grad(lambda flat: batch_losses(architecture, architecture.unflatten(flat), train)[0].sum())
    torch.testing.assert_close(
        compiled_gradients(architecture, start.flat, train), gradient(start.flat), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("rows", "known"), [((0, 3), True), ((0, 2), False), ((1, 3), False), ((0, 30), False)])
def test_rows_are_read_once_and_all_of_them(rows, known):
    """What no operation reads would lie beyond a state's end, and what is not there beyond a tensor's."""
    architecture = cnn((1, 4, 4), [2], 3)
    *before, last = architecture.operations
    changed = replace(architecture, operations=(*before, replace(last, rows=rows)))
    assert (image_layers(changed) is not None) == known
