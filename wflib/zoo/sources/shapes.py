"""Architectures from names and shapes of tensors, as far as these leave no choice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from wflib.architecture import Architecture
from wflib.architecture.draft import Draft
from wflib.architecture.operations import Elementwise, Multiple, Pool, Reduce, Reshape
from wflib.networks.names import WRAPPERS, listed, natural_order, units

__all__ = ["affine_layers", "convolutional", "perceptron"]


def affine_layers(first: Mapping[str, Tensor]) -> list[tuple[str, tuple[int, ...], bool]]:
    """Layers in the natural order of their names: name, shape of the weight, whether there is a bias.

    Args:
        first: One network's tensors (1, *shape).

    Raises:
        ValueError: A module has other tensors than a weight and a bias.
    """
    found, first = [], plainly_named(first)
    modules = units(first)
    for name in sorted(modules, key=natural_order):
        roles = modules[name]
        if not set(roles) <= {"weight", "bias"} or "weight" not in roles or first[roles["weight"]].ndim < 3:
            raise ValueError(
                f"{name or 'the network'} has {listed(roles.values())}, which no linear layer or convolution has"
            )
        if f"{name}.weight" != roles["weight"]:
            raise ValueError(f"{roles['weight']} is not named as torch names weights")
        if 0 in first[roles["weight"]].shape:
            raise ValueError(
                f"{roles['weight']} has shape {tuple(first[roles['weight']].shape[1:])}, which holds no numbers"
            )
        found.append((name, tuple(first[roles["weight"]].shape[1:]), "bias" in roles))
    return found


def plainly_named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without what torch.compile and wrappers for many processes put into their names."""
    bare = {".".join(part for part in name.split(".") if part not in WRAPPERS): tensor for name, tensor in tensors.items()}
    while bare and all(name.startswith("module.") for name in bare):
        bare = {name.removeprefix("module."): tensor for name, tensor in bare.items()}
    return bare if len(bare) == len(tensors) else dict(tensors)


def perceptron(
    first: Mapping[str, Tensor],
    activation: str,
    task_type: str,
    settings: tuple[tuple[str, float], ...] = (),
    offset: float = 0.0,
) -> Architecture:
    """A perceptron of somebody's names, whose layers run in the natural order of their names.

    Args:
        first: One network's tensors (1, *shape).
        activation: Of all hidden layers.
        task_type: What outputs mean.
        settings: Further arguments of the activation.
        offset: Added to outputs.

    Raises:
        ValueError: Tensors that are no perceptron's in this order.
    """
    layers = affine_layers(first)
    if not all(len(shape) == 2 for _, shape, _ in layers):
        raise ValueError("it has convolutions")
    if any(before[1][0] != after[1][1] for before, after in pairwise(layers)):
        raise ValueError(
            f"in the order of their names its layers do not fit: {listed(f'{name} {shape}' for name, shape, _ in layers)}"
        )
    require_one_order(layers)
    draft, value = Draft(), "input"
    for index, (name, (outputs, inputs), bias) in enumerate(layers, 1):
        last = index == len(layers)
        output = "output" if last and not offset else None
        value = draft.linear(value, name, inputs, outputs, bias, output=output)
        if not last:
            chosen = {"function": activation, "settings": settings}
            value = draft.add(Elementwise, f"{value}:{activation}", value, **chosen)
    if offset:
        draft.add(Multiple, "output", value, offset=offset)
    return draft.architecture((layers[0][1][1],), task_type)


def require_one_order(layers: Sequence[tuple[str, tuple[int, ...], bool]]) -> None:
    """Refuse layers whose shapes allow several orders, unless names that differ in numbers alone decide.

    Raises:
        ValueError: Names the layers.
    """
    shapes = [shape for _, shape, _ in layers]
    twins = {shape: {re.sub("[0-9]+", "#", name) for name, other, _ in layers if other == shape} for shape in shapes}
    if any(len(patterns) > 1 for patterns in twins.values()) or orders(shapes, None) > 1:
        raise ValueError(f"shapes allow several orders of {listed(name for name, _, _ in layers)}, and names do not decide")


def orders(shapes: Sequence[tuple[int, ...]], width: int | None) -> int:
    """How many sequences of shapes make a chain: none, one, or at least two."""
    if not shapes:
        return 1
    found = 0
    for shape in dict.fromkeys(shapes):
        if width in (None, shape[1]) and found < 2:
            rest = list(shapes)
            rest.remove(shape)
            found += orders(rest, shape[0])
    return min(found, 2)


def convolutional(
    first: Mapping[str, Tensor],
    inputs: Sequence[int],
    activation: str,
    *,
    strides: Sequence[int],
    paddings: Sequence[int],
    pools: Sequence[int],
    mean: bool,
) -> Architecture:
    """Convolutions, each followed by max pooling and the activation, then linear layers, with somebody's names.

    Args:
        first: One network's tensors (1, *shape).
        inputs: Shape of an image.
        activation: Behind every layer but the last.
        strides: Of each convolution.
        paddings: Likewise.
        pools: Side of the window of max pooling behind each convolution; 1 for none.
        mean: Whether linear layers see channels' means, rather than all positions.

    Raises:
        ValueError: Other layers, or images that do not fit them.
    """
    layers = affine_layers(first)
    kinds = [len(shape) for _, shape, _ in layers]
    count = kinds.count(4)
    if count != len(strides) or kinds != [4] * count + [2] * (len(kinds) - count):
        found = listed(f"{name} {shape}" for name, shape, _ in layers)
        raise ValueError(f"expected {len(strides)} convolutions and then linear layers, found {found}")
    draft, value, (channels, *size) = Draft(), "input", inputs
    for (name, (outputs, fan_in, kernel, _), bias), stride, padding, pool in zip(
        layers[:count], strides, paddings, pools, strict=True
    ):
        if fan_in != channels:
            raise ValueError(
                f"{name} sees {fan_in} channels, what comes before has {channels}; inputs are taken for {inputs}"
            )
        value = draft.convolution(value, name, channels, outputs, kernel, stride, padding, bias)
        size = [((side + 2 * padding - kernel) // stride + 1) // pool for side in size]
        if pool > 1:
            value = draft.add(Pool, f"{name}:pool", value, settings=(("kernel_size", pool), ("stride", pool)))
        value, channels = draft.activate(value, activation), outputs
    if mean:
        value, width = draft.add(Reduce, "mean", value, axes=(2, 3)), channels
    else:
        width = channels * max(size[0], 0) * max(size[1], 0)
        value = draft.add(Reshape, "flat", value, shape=(1, width))
    for index, (name, (outputs, fan_in), bias) in enumerate(layers[count:], count + 1):
        if fan_in != width:
            raise ValueError(f"{name} sees {fan_in} numbers, what comes before has {width}; inputs are taken for {inputs}")
        last = index == len(layers)
        value, width = draft.linear(value, name, fan_in, outputs, bias, output="output" if last else None), outputs
        if not last:
            value = draft.activate(value, activation)
    return draft.architecture(tuple(inputs), "classification")
