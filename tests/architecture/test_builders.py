"""Networks by their sizes compute what modules of the same parts compute, and have the groups that are known."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.architecture.cases import Wired, change, random_inputs, random_weights
from wflib.architecture import Architecture, cnn, resnet, vit
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations

TOLERANCE = 1e-10


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def small() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), nn.Tanh()),
        *(nn.Conv2d(6, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 20), nn.Tanh(), nn.Linear(20, 10)),
    )


def normed() -> nn.Module:
    return Wired(
        lambda m, x: m.linear1(
            functional.relu(m.norm2(m.conv2(functional.relu(functional.max_pool2d(m.norm1(m.conv1(x)), 2))))).mean((2, 3))
        ),
        **{"conv1": conv(2, 4), "norm1": nn.BatchNorm2d(4), "conv2": conv(4, 5), "norm2": nn.BatchNorm2d(5)},
        linear1=nn.Linear(5, 3),
    )


def block(inputs: int, outputs: int) -> nn.Module:
    stride = 1 if inputs == outputs else 2
    parts = {"conv1": conv(inputs, outputs, 3, stride), "norm1": nn.BatchNorm2d(outputs)}
    parts |= {"conv2": conv(outputs, outputs), "norm2": nn.BatchNorm2d(outputs)}
    if inputs != outputs:
        parts |= {"skip": conv(inputs, outputs, 1, stride), "skip_norm": nn.BatchNorm2d(outputs)}

    def run(m, x):
        skip = x if inputs == outputs else m.skip_norm(m.skip(x))
        return functional.relu(skip + m.norm2(m.conv2(functional.relu(m.norm1(m.conv1(x))))))

    return Wired(run, **parts)


def residual() -> nn.Module:
    def run(m, x):
        x = m.block3(m.block2(m.block1(functional.relu(m.stem.norm(m.stem.conv(x))))))
        return m.head(x.mean((2, 3)))

    stem = Wired(lambda m, x: x, conv=conv(1, 4), norm=nn.BatchNorm2d(4))
    return Wired(run, stem=stem, block1=block(4, 4), block2=block(4, 4), block3=block(4, 6), head=nn.Linear(6, 3))


def transformer() -> nn.Module:
    def attend(m, x):
        y = m.norm1(x)
        x = x + m.attention(y, y, y, need_weights=False)[0]
        return x + m.narrow(functional.gelu(m.wide(m.norm2(x))))

    def layer(width: int) -> nn.Module:
        return Wired(
            attend,
            norm1=nn.LayerNorm(6),
            attention=nn.MultiheadAttention(6, 2, batch_first=True),
            norm2=nn.LayerNorm(6),
            wide=nn.Linear(6, width),
            narrow=nn.Linear(width, 6),
        )

    def run(m, x):
        x = m.patches(x).flatten(2).transpose(1, 2) + m.positions
        return m.head(m.norm(m.block2(m.block1(x))).mean(1))

    return Wired(
        run,
        patches=nn.Conv2d(1, 6, 2, 2),
        positions=nn.Parameter(torch.zeros(1, 6, 6)),
        block1=layer(5),
        block2=layer(7),
        norm=nn.LayerNorm(6),
        head=nn.Linear(6, 3),
    )


@dataclass(frozen=True)
class Built:
    architecture: Architecture
    module: nn.Module
    groups: tuple[int | tuple[int, int], ...]


SMALL = {"kernels": [5, 5, 2], "pools": [2, 2, 1], "padding": False, "hidden": [20]}
BUILT = {
    "cnn": Built(cnn((1, 28, 28), [8, 6, 4], 10, "tanh", **SMALL), small(), (8, 6, 4, 20)),
    "cnn-norm": Built(cnn((2, 7, 6), [4, 5], 3, norm="batch", pools=[2, 1], head="mean"), normed(), (4, 5)),
    # Blocks of as many channels share one residual stream; each has a group of its own inside.
    "resnet": Built(resnet((1, 8, 8), [4, 4, 6], 3), residual(), (4, 4, 4, 6, 6)),
    # Per block: its heads, the widths of a head in queries and keys and in values, and the hidden layer.
    "vit": Built(vit((1, 4, 6), 6, [5, 7], 3), transformer(), (6, 2, (2, 3), (2, 3), 5, 2, (2, 3), (2, 3), 7)),
}
over_built = pytest.mark.parametrize("name", BUILT)


@over_built
def test_outputs_are_those_of_a_module_of_the_same_parts(name):
    built = BUILT[name]
    architecture, module = built.architecture, built.module.double().eval()
    weights, inputs = random_weights(architecture), random_inputs(architecture)
    outputs, rebuilt = architecture.forward(weights, inputs), architecture.module().double()
    names = [key for key in module.state_dict() if not key.endswith("num_batches_tracked")]
    if name == "cnn":  # a sequence numbers its parts
        assert [tuple(module.state_dict()[key].shape) for key in names] == [shape for _, shape in architecture.shapes]
    else:
        assert set(names) == set(weights)
    for index in range(3):
        alone = {key: tensor[index] for key, tensor in weights.items()}
        rebuilt.load_state_dict(alone)
        torch.testing.assert_close(rebuilt(inputs), outputs[index], rtol=TOLERANCE, atol=TOLERANCE)
        if name == "cnn":
            alone = dict(zip(names, alone.values(), strict=True))
        module.load_state_dict(alone, strict=False)
        torch.testing.assert_close(module(inputs), outputs[index], rtol=TOLERANCE, atol=TOLERANCE)
    assert not torch.allclose(outputs[0], outputs[1])


@over_built
def test_groups_are_those_that_are_known_and_permuting_them_preserves_functions(name):
    architecture = BUILT[name].architecture
    sizes = {group.name: group.size for group in architecture.groups}
    found = [(sizes[g.parent], g.size) if g.parent else g.size for g in architecture.hidden_groups]
    assert sorted(map(str, found)) == sorted(map(str, BUILT[name].groups))
    weights = random_weights(architecture)
    moved = permute(Networks(architecture, weights), random_permutations(architecture, 3, generator(0, "built"))).weights
    assert change(architecture, weights, moved) < TOLERANCE
    assert any(not torch.equal(moved[key], weights[key]) for key in weights)
    assert Architecture.from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cnn((8, 8), [4], 2), r"cnn: expected inputs \(channels, height, width\), got \(8, 8\)"),
        (lambda: cnn((1, 8, 8), [], 2), "cnn: expected at least one width"),
        (lambda: cnn((1, 8, 8), [4, 0], 2), r"cnn: .*none below one, got \[4, 0\]"),
        (lambda: cnn((1, 8, 8), [4, 4, 4, 4], 2), "cnn: convolution 4 .* leaves nothing"),
        (lambda: cnn((1, 8, 8), [4], 2, norm="layer"), "cnn: norm must be one of none, batch, got 'layer'"),
        (lambda: cnn((1, 8, 8), [4], 2, head="max"), "cnn: head must be one of flatten, mean"),
        (
            lambda: cnn((1, 8, 8), [4], 2, kernels=[3, 3]),
            r"cnn: kernels expected one number .* 1 convolutions, got \[3, 3\]",
        ),
        (lambda: resnet((1, 8, 8), [0], 2), "resnet: expected at least one width"),
        (lambda: vit((1, 8, 9), 4, [4], 2), "vit: patch must divide"),
        (lambda: vit((1, 8, 8), 5, [4], 2), "vit: .*5 features with 2 heads"),
    ],
)
def test_sizes_that_make_no_network_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
