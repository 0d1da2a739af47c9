"""Architectures by their sizes: perceptrons, convolutional networks, residual networks, vision transformers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from wflib.architecture.draft import Draft
from wflib.architecture.operations import Add, Parameter, Permute, Pool, Reduce, Reshape
from wflib.architecture.spec import Architecture

__all__ = ["cnn", "mlp", "resnet", "vit"]


def mlp(widths: list[int], activation: str = "relu", task_type: str = "classification", bias: bool = True) -> Architecture:
    """A multilayer perceptron.

    Args:
        widths: Neurons per layer, input first: [30, 16, 16, 2].
        activation: Nonlinearity of the hidden layers, a key of ``ACTIVATIONS``.
        task_type: ``"classification"`` or ``"regression"``.
        bias: Whether layers have biases.

    Returns:
        Its description, tensors named ``linear1.weight``, ``linear1.bias``, …

    Raises:
        ValueError: Fewer than two widths, or a width below one.

    Example:
        >>> mlp([30, 16, 16, 2]).dimension
        802
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"mlp: widths need an input and an output of at least one neuron, got {widths}.")
    draft, value = Draft(), "input"
    for index, (inputs, outputs) in enumerate(pairwise(widths), 1):
        last = index == len(widths) - 1
        value = draft.linear(value, f"linear{index}", inputs, outputs, bias, output="output" if last else f"hidden{index}")
        if not last:
            value = draft.activate(value, activation)
    return draft.architecture((widths[0],), task_type)


def cnn(
    inputs: tuple[int, int, int],
    channels: Sequence[int],
    outputs: int,
    activation: str = "relu",
    norm: str = "none",
    kernels: int | Sequence[int] = 3,
    pools: int | Sequence[int] = 2,
    padding: bool = True,
    hidden: Sequence[int] = (),
    head: str = "flatten",
    task_type: str = "classification",
) -> Architecture:
    """A convolutional network: (convolution → norm → max pooling → activation)ᵏ, then a perceptron.

    Args:
        inputs: Shape of an image, (channels, height, width).
        channels: Channels behind each convolution.
        outputs: Classes, or predicted values.
        activation: Nonlinearity, a key of ``ACTIVATIONS``.
        norm: ``"none"``, or ``"batch"`` for batch norms behind convolutions, which then have no bias.
        kernels: Side of each convolution's kernel; one number for all.
        pools: Side of the window, and stride, of max pooling behind each convolution; 1 for none.
        padding: Whether images are padded by half a kernel, rather than not at all.
        hidden: Neurons of hidden layers behind the convolutions.
        head: What these see: ``"flatten"`` for channels at all positions, ``"mean"`` for channels' means.
        task_type: ``"classification"`` or ``"regression"``.

    Returns:
        Its description, tensors named ``conv1.weight``, ``norm1.weight``, …, ``linear1.weight``, …

    Raises:
        ValueError: Sizes that make no network.

    Example:
        >>> cnn((1, 28, 28), [8, 6, 4], 10, kernels=[5, 5, 2], pools=[2, 2, 1], padding=False, hidden=[20]).dimension
        2464
    """
    require_image("cnn", inputs, channels, outputs)
    require_choice("cnn", "norm", norm, ("none", "batch"))
    require_choice("cnn", "head", head, ("flatten", "mean"))
    sides = [each("cnn", name, given, len(channels)) for name, given in (("kernels", kernels), ("pools", pools))]
    draft, value, (before, *size) = Draft(), "input", inputs
    for index, (count, kernel, pool) in enumerate(zip(channels, *sides, strict=True), 1):
        around = kernel // 2 if padding else 0
        value = draft.convolution(value, f"conv{index}", before, count, kernel, padding=around, bias=norm == "none")
        if norm == "batch":
            value = draft.batch_norm(value, f"norm{index}", count)
        size = [(side + 2 * around - kernel + 1) // pool for side in size]
        if min(size) < 1:
            raise ValueError(f"cnn: convolution {index} or its pooling leaves nothing of images {inputs}; use fewer pools.")
        if pool > 1:
            value = draft.add(Pool, f"pool{index}", value, settings=(("kernel_size", pool), ("stride", pool)))
        value, before = draft.activate(value, activation), count
    if head == "mean":
        value = draft.add(Reduce, "mean", value, axes=(2, 3))
    else:
        before *= size[0] * size[1]
        value = draft.add(Reshape, "flat", value, shape=(1, before))
    widths = [before, *hidden, outputs]
    for index, (wide, narrow) in enumerate(pairwise(widths), 1):
        last = index == len(widths) - 1
        value = draft.linear(value, f"linear{index}", wide, narrow, output="output" if last else None)
        if not last:
            value = draft.activate(value, activation)
    return draft.architecture(inputs, task_type)


def resnet(
    inputs: tuple[int, int, int],
    channels: Sequence[int],
    outputs: int,
    activation: str = "relu",
    task_type: str = "classification",
) -> Architecture:
    """A small residual network: a stem, one residual block per entry of ``channels``, means over positions, a linear map.

    A block is x + norm(conv(act(norm(conv(x))))) and an activation behind the sum. Where channels change, the first
    convolution has stride two and the skip is a 1 × 1 convolution of that stride with a norm, as in He et al. 2016
    (arXiv 1512.03385); elsewhere blocks share one residual stream. All norms are batch norms.

    Args:
        inputs: Shape of an image, (channels, height, width).
        channels: Channels of each block; the stem has the first's.
        outputs: Classes, or predicted values.
        activation: Nonlinearity, a key of ``ACTIVATIONS``.
        task_type: ``"classification"`` or ``"regression"``.

    Returns:
        Its description, tensors named ``stem.conv.weight``, ``block1.conv1.weight``, …, ``head.weight``.

    Raises:
        ValueError: Sizes that make no network.

    Example:
        >>> resnet((1, 8, 8), [8, 8, 16], 10).dimension
        6482
    """
    require_image("resnet", inputs, channels, outputs)
    draft, before = Draft(), channels[0]
    value = draft.normed("input", "stem.conv", "stem.norm", inputs[0], before, 3)
    value = draft.activate(value, activation)
    for index, count in enumerate(channels, 1):
        name, stride = f"block{index}", 1 if count == before else 2
        inner = draft.normed(value, f"{name}.conv1", f"{name}.norm1", before, count, 3, stride)
        inner = draft.normed(draft.activate(inner, activation), f"{name}.conv2", f"{name}.norm2", count, count, 3)
        if count != before:
            value = draft.normed(value, f"{name}.skip", f"{name}.skip_norm", before, count, 1, stride)
        value = draft.activate(draft.add(Add, name, value, inner), activation)
        before = count
    value = draft.add(Reduce, "mean", value, axes=(2, 3))
    draft.linear(value, "head", before, outputs, output="output")
    return draft.architecture(inputs, task_type)


def vit(
    inputs: tuple[int, int, int],
    features: int,
    hidden: Sequence[int],
    outputs: int,
    patch: int = 2,
    heads: int = 2,
    activation: str = "gelu",
    task_type: str = "classification",
) -> Architecture:
    """A small vision transformer: patches with learned positions, pre-norm blocks, a norm, means over tokens, a linear map.

    A block is x + attention(norm(x)), then x + narrow(act(wide(norm(x)))). Attention's tensors are those of
    ``torch.nn.MultiheadAttention`` (Dosovitskiy et al. 2021, arXiv 2010.11929, without their class token).

    Args:
        inputs: Shape of an image, (channels, height, width).
        features: Features of a token.
        hidden: Hidden neurons of each block.
        outputs: Classes, or predicted values.
        patch: Side of a patch in pixels; divides the image's sides.
        heads: Attention heads; divide the features.
        activation: Nonlinearity of the blocks, a key of ``ACTIVATIONS``.
        task_type: ``"classification"`` or ``"regression"``.

    Returns:
        Its description, tensors named ``patches.weight``, ``positions``, ``block1.attention.in_proj_weight``, …

    Raises:
        ValueError: Sizes that make no network.

    Example:
        >>> vit((1, 8, 8), 16, [32, 32], 10).dimension
        4986
    """
    require_image("vit", inputs, [features, *hidden], outputs)
    if inputs[1] % patch or inputs[2] % patch or features % heads:
        raise ValueError(
            f"vit: patch must divide the image's sides and heads the features, got images {inputs} with patch {patch} and "
            f"{features} features with {heads} heads."
        )
    draft, tokens = Draft(), (inputs[1] // patch) * (inputs[2] // patch)
    value = draft.convolution("input", "patches", inputs[0], features, patch, stride=patch)
    value = draft.add(Reshape, "patches:flat", value, shape=(1, features, tokens))
    value = draft.add(Permute, "tokens", value, order=(0, 2, 1))
    draft.shapes["positions"] = (1, tokens, features)
    value = draft.add(Add, "placed", value, draft.add(Parameter, "positions", tensor="positions"))
    for index, width in enumerate(hidden, 1):
        name = f"block{index}"
        inner = draft.layer_norm(value, f"{name}.norm1", features)
        inner = draft.attention(inner, f"{name}.attention", tokens, features, heads)
        value = draft.add(Add, f"{name}:attended", value, inner)
        inner = draft.linear(draft.layer_norm(value, f"{name}.norm2", features), f"{name}.wide", features, width)
        inner = draft.linear(draft.activate(inner, activation), f"{name}.narrow", width, features)
        value = draft.add(Add, name, value, inner)
    value = draft.add(Reduce, "mean", draft.layer_norm(value, "norm", features), axes=(1,))
    draft.linear(value, "head", features, outputs, output="output")
    return draft.architecture(inputs, task_type)


def require_image(who: str, inputs: Sequence[int], counts: Sequence[int], outputs: int) -> None:
    """Refuse sizes that make no network for images."""
    if len(inputs) != 3 or min(inputs) < 1:
        raise ValueError(f"{who}: expected inputs (channels, height, width), got {tuple(inputs)}.")
    if not counts or min(*counts, outputs) < 1:
        raise ValueError(
            f"{who}: expected at least one width, and none below one, got {list(counts)} and {outputs} outputs."
        )


def require_choice(who: str, name: str, given: str, allowed: tuple[str, ...]) -> None:
    """Refuse a setting that is none of those allowed."""
    if given not in allowed:
        raise ValueError(f"{who}: {name} must be one of {', '.join(allowed)}, got {given!r}.")


def each(who: str, name: str, given: int | Sequence[int], count: int) -> list[int]:
    """One number for each convolution."""
    numbers = [given] * count if isinstance(given, int) else list(given)
    if len(numbers) != count or min(numbers) < 1:
        raise ValueError(f"{who}: {name} expected one number from 1 on for each of {count} convolutions, got {given}.")
    return numbers
