"""Networks of other widths: what builders build, there and back, and narrow networks inside wide ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.architecture.cases import CASES, Wired, random_inputs, random_weights, traced
from wflib.architecture import Architecture, Axis, Weights, cnn, mlp, resnet, vit, with_inputs

BUILT = {
    "mlp": (mlp([3, 5, 4, 2]), {"hidden1": 7, "hidden2": 1}, mlp([3, 7, 1, 2])),
    "cnn": (cnn((1, 8, 8), [4, 3], 5), {"conv1": 8, "conv2": 12}, cnn((1, 8, 8), [8, 12], 5)),
    "cnn from one channel": (cnn((1, 8, 8), [1, 1], 5), {"conv1": 3, "conv2": 2}, cnn((1, 8, 8), [3, 2], 5)),
    "cnn with batch norm": (
        cnn((2, 8, 8), [4, 3], 5, norm="batch", hidden=[6]),
        {"conv1": 2, "conv2": 5, "linear1": 9},
        cnn((2, 8, 8), [2, 5], 5, norm="batch", hidden=[9]),
    ),
    "cnn with means": (cnn((1, 8, 8), [4, 3], 5, head="mean"), {"conv2": 9}, cnn((1, 8, 8), [4, 9], 5, head="mean")),
    "resnet": (
        resnet((1, 8, 8), [4, 4, 6], 5),
        {"stem.conv": 5, "block1.conv1": 5, "block2.conv1": 5, "block3.conv1": 9, "block3.conv2": 9},
        resnet((1, 8, 8), [5, 5, 9], 5),
    ),
    "vit": (
        vit((1, 8, 8), 8, [12, 12], 5),
        {"patches": 12, "block1.wide": 7, "block2.wide": 20}
        | {f"block{b}.attention.{side}": 6 for b in (1, 2) for side in ("queries", "values")},
        vit((1, 8, 8), 12, [7, 20], 5),
    ),
    "heads": (
        vit((1, 8, 8), 8, [12], 5),
        {"block1.attention.logits.groups": 4, "block1.attention.queries": 2, "block1.attention.values": 2},
        vit((1, 8, 8), 8, [12], 5, heads=4),
    ),
}
CANNOT = {("channel-shuffle", "stem"), ("channel-shuffle", "branch")}
"""Neurons that a shuffle has taken apart."""
TOGETHER = {"relative-positions": ("qkv", "qkv#2")}
"""Groups that one reshape makes of equal size."""
OTHER_FUNCTION = {
    *(("layer-norm", "0"), ("rms-norm", "0"), ("group-norm", "0"), ("layer-scale", "stem"), ("transformer", "patches")),
    *(("transformer", "attention.queries"), ("relative-positions", "qkv"), ("relative-positions", "qkv#2")),
}
"""Groups whose number a norm or attention's 1/√width feels."""


def everyone() -> list[tuple[str, str]]:
    return [(name, group.name) for name in CASES for group in traced(name)[1].hidden_groups]


def changes(name: str, group: str, more: int) -> dict[str, int]:
    architecture = traced(name)[1]
    names = TOGETHER[name] if group in TOGETHER.get(name, ()) else (group,)
    return {one: architecture.size(one) + more for one in names}


def places(narrow: Axis, wide: Axis) -> Tensor:
    """Where the places of a narrow axis are in a wide one: the same neurons' same parts."""
    found = torch.empty(narrow.size, dtype=torch.int64)
    found[narrow.fixed] = wide.fixed[: len(narrow.fixed)]
    for block, other in zip(narrow.blocks, wide.blocks, strict=True):
        found[block.places] = other.places[tuple(map(slice, block.places.shape))]
    return found


def embedded(narrow: Architecture, wide: Architecture, weights: Weights) -> Weights:
    """A narrow network among neurons of a wide one that are zero, and that nothing reads."""
    found = {name: torch.zeros(len(weights[name]), *shape, dtype=torch.float64) for name, shape in wide.shapes}
    for name, tensor in weights.items():
        axes = [places(*pair) for pair in zip(narrow.axes(name), wide.axes(name), strict=True)]
        index = torch.meshgrid(*axes, indexing="ij") if axes else ()
        found[name][:, *index] = tensor
    return found


@pytest.mark.parametrize("name", BUILT)
def test_other_widths_are_what_a_builder_builds(name):
    first, widths, expected = BUILT[name]
    found = first.with_widths(widths)
    assert found == expected
    assert found != first
    assert found.with_widths({group: first.size(group) for group in widths}) == first
    assert first.with_widths({group.name: group.size for group in first.hidden_groups}) == first
    canonical = first.canonical_form("weights").with_widths(widths)
    assert canonical == expected.canonical_form("weights")


@pytest.mark.parametrize(("name", "group"), everyone())
def test_there_and_back(name, group):
    architecture = traced(name)[1]
    if (name, group) in CANNOT:
        with pytest.raises(ValueError, match=rf"with_widths: {group} cannot .*`last` \(convolution\).*order of its own"):
            architecture.with_widths(changes(name, group, 1))
        return
    before = {g.name: g.size for g in architecture.groups}
    for more in (1, 5, -1):
        widths = changes(name, group, more)
        if min(widths.values()) < 2:
            continue
        wide = architecture.with_widths(widths)
        assert {g.name: g.size for g in wide.groups} == before | widths
        assert wide.dimension != architecture.dimension
        assert torch.isfinite(wide.forward(random_weights(wide), random_inputs(wide))).all()
        assert wide.with_widths({one: before[one] for one in widths}) == architecture
        assert Architecture.from_json(wide.to_json()) == wide


@pytest.mark.parametrize(("name", "group"), [pair for pair in everyone() if pair not in CANNOT | OTHER_FUNCTION])
def test_narrow_networks_live_in_wide_ones(name, group):
    """Every place of every tensor is where operations look for it."""
    narrow = traced(name)[1]
    wide = narrow.with_widths(changes(name, group, 2))
    weights, inputs = random_weights(narrow), random_inputs(narrow)
    inside = embedded(narrow, wide, weights)
    expected = narrow.forward(weights, inputs)
    torch.testing.assert_close(wide.forward(inside, inputs), expected, rtol=1e-10, atol=1e-10)
    concerned = {g.name for g in wide.groups if group in (g.name, g.parent)}
    tensor, place, block = next(
        (tensor, place, block)
        for tensor, _ in wide.shapes
        for place, axis in enumerate(wide.axes(tensor))
        for block in axis.blocks
        if block.group in concerned and block.rows is None
    )
    order, lines = torch.arange(wide.shape(tensor)[place]), block.places.reshape(-1, block.places.shape[-1])
    order[lines[0]], order[lines[-1]] = lines[-1], lines[0]  # one neuron's places are wrong in one tensor
    moved = inside | {tensor: inside[tensor].index_select(place + 1, order)}
    assert not torch.allclose(wide.forward(moved, inputs), expected, rtol=1e-3, atol=1e-3)


def test_groups_that_share_a_reshape_change_together():
    architecture = traced("relative-positions")[1]
    for group in TOGETHER["relative-positions"]:
        with pytest.raises(ValueError, match=rf"with_widths: {group} cannot .*`view` \(reshape\).*18 neurons apart into 3"):
            architecture.with_widths({group: 4})
    wide = architecture.with_widths({"qkv": 5, "qkv#2": 5})
    assert wide.shape("qkv.weight") == (30, 5)
    scale = next(operation for operation in wide.operations if operation.kind == "multiple")
    assert scale.factor == pytest.approx(5**-0.5)


def traced_module(run, *inputs: int, **parts: nn.Module) -> Architecture:
    return Architecture.from_module(Wired(run, **parts).eval(), torch.zeros(1, *inputs))


def test_what_stands_in_the_way_is_named():
    mask = torch.tensor([1.0, 1.0, 1.0, 1.0])
    masked = traced_module(lambda m, x: m.b(m.a(x) * mask), 3, a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"with_widths: a cannot .*\(multiply\) joins 6 of these with 4 of others"):
        masked.with_widths({"a": 6})
    taken = traced_module(lambda m, x: m.b(m.a(x).flip(1)), 3, a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"with_widths: a cannot .*order of its own|by their places"):
        taken.with_widths({"a": 6})
    with pytest.raises(ValueError, match=r"expected some of the hidden groups .*conv1.*got \['output'\]"):
        BUILT["cnn"][0].with_widths({"output": 6})
    with pytest.raises(ValueError, match=r"at least one neuron, got \{'conv1': 0\}"):
        BUILT["cnn"][0].with_widths({"conv1": 0})
    with pytest.raises(ValueError, match=r"block1\.attention\.values cannot have another size"):
        BUILT["vit"][0].with_widths({"block1.attention.values": 1})  # a head with one value is no set of neurons


def test_inputs_of_other_sizes():
    assert with_inputs(mlp([3, 5, 2]), 7) == mlp([7, 5, 2])
    assert with_inputs(cnn((1, 8, 8), [4, 3], 5), 3) == cnn((3, 8, 8), [4, 3], 5)
    assert with_inputs(resnet((3, 8, 8), [4], 5), 1) == resnet((1, 8, 8), [4], 5)
    assert with_inputs(vit((1, 8, 8), 8, [12], 5), 2) == vit((2, 8, 8), 8, [12], 5)
