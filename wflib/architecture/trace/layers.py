"""Layers with weights, norms and pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wflib.architecture.operations import (
    Add,
    BatchNorm,
    Convolution,
    Embedding,
    GroupNorm,
    LayerNorm,
    Linear,
    Multiply,
    Pool,
    Reshape,
    RMSNorm,
)
from wflib.architecture.trace.recorder import Recorder, handles

__all__ = ["with_bias"]


def tuple_of(value: int | tuple[int, ...] | list[int], length: int) -> tuple[int, ...]:
    """One number for each dimension."""
    return (int(value),) * length if isinstance(value, int) else tuple(int(item) for item in value)


def with_bias(recorder: Recorder, bias: Tensor | None) -> tuple[str | None, str | None]:
    """A bias as a parameter's name, or as a value's where it is computed."""
    if bias is None or (id(bias) in recorder.states and id(bias) not in recorder.values):
        return recorder.parameter(bias), None
    return None, recorder.value(bias)


@handles("linear")
def linear(recorder: Recorder, result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> str:
    """``torch.nn.functional.linear``."""
    name, computed = with_bias(recorder, bias)
    found = recorder.emit(Linear, recorder.value(x), weight=recorder.parameter(weight), bias=name)
    return found if computed is None else recorder.emit(Add, found, computed, title="bias")


@handles("conv1d", "conv2d", "conv3d")
def convolution(
    recorder: Recorder,
    result: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> str:
    """``torch.nn.functional.conv1d`` to ``conv3d``."""
    length = x.ndim - 2
    dilation = tuple_of(dilation, length)
    if padding == "valid":
        padding = 0
    if padding == "same":
        sizes = [gap * (size - 1) for gap, size in zip(dilation, weight.shape[2:], strict=True)]
        if any(size % 2 for size in sizes):
            raise recorder.refusal("pads its two sides differently", "Use an odd kernel, or torch.nn.functional.pad.")
        padding = [size // 2 for size in sizes]
    return recorder.emit(
        Convolution,
        recorder.value(x),
        weight=recorder.parameter(weight),
        bias=recorder.parameter(bias),
        stride=tuple_of(stride, length),
        padding=tuple_of(padding, length),
        dilation=dilation,
        groups=groups,
    )


@handles("batch_norm")
def batch_norm(
    recorder: Recorder,
    result: Tensor,
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> str:
    """``torch.nn.functional.batch_norm`` with running statistics."""
    if training or running_mean is None:
        raise recorder.refusal("takes statistics of its examples", "Use running statistics.")
    return recorder.emit(
        BatchNorm,
        recorder.value(x),
        mean=recorder.parameter(running_mean),
        variance=recorder.parameter(running_var),
        weight=recorder.parameter(weight),
        bias=recorder.parameter(bias),
        epsilon=eps,
    )


@handles("layer_norm")
def layer_norm(
    recorder: Recorder,
    result: Tensor,
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> str:
    """``torch.nn.functional.layer_norm``; over several axes, as one axis and a factor for each entry."""
    if len(normalized_shape) == 1:
        own, added = recorder.parameter(weight), recorder.parameter(bias)
        return recorder.emit(LayerNorm, recorder.value(x), weight=own, bias=added, epsilon=eps)
    flat = (*x.shape[: -len(normalized_shape)], -1)
    name = recorder.emit(Reshape, recorder.value(x), title="flat", shape=tuple(x.reshape(flat).shape), batch_axis=None)
    name = recorder.emit(LayerNorm, name, title="norm", epsilon=eps)
    name = recorder.emit(Reshape, name, shape=tuple(x.shape), batch_axis=None)
    if weight is not None:
        name = recorder.emit(Multiply, name, recorder.value(weight))
    return name if bias is None else recorder.emit(Add, name, recorder.value(bias))


@handles("rms_norm")
def rms_norm(
    recorder: Recorder,
    result: Tensor,
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> str:
    """``torch.nn.functional.rms_norm``."""
    if len(normalized_shape) != 1:
        raise recorder.refusal("normalizes several axes", "Normalize the last axis.")
    return recorder.emit(RMSNorm, recorder.value(x), weight=recorder.parameter(weight), epsilon=eps)


@handles("group_norm")
def group_norm(
    recorder: Recorder,
    result: Tensor,
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> str:
    """``torch.nn.functional.group_norm``."""
    return recorder.emit(
        GroupNorm,
        recorder.value(x),
        weight=recorder.parameter(weight),
        bias=recorder.parameter(bias),
        groups=num_groups,
        epsilon=eps,
    )


@handles("embedding")
def embedding(recorder: Recorder, result: Tensor, tokens: Tensor, weight: Tensor, *_: Any, **__: Any) -> str:
    """``torch.nn.functional.embedding``."""
    return recorder.emit(Embedding, recorder.value(tokens), weight=recorder.parameter(weight))


POOLING = {
    "max_pool": ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avg_pool": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "adaptive_max_pool": ("output_size", "return_indices"),
    "adaptive_avg_pool": ("output_size",),
}


@handles(*(f"{name}{length}d" for name in POOLING for length in (1, 2, 3)))
def pooling(recorder: Recorder, result: Tensor, x: Tensor, *args: Any, **settings: Any) -> str:
    """``torch.nn.functional``'s pooling."""
    name = recorder.calling[:-2]
    settings |= dict(zip(POOLING[name], args, strict=False))
    if settings.pop("return_indices", False):
        raise recorder.refusal("returns indices", "Use pooling without them.")
    plain = tuple((key, tuple(value) if isinstance(value, (list, torch.Size)) else value) for key, value in settings.items())
    if x.ndim != int(recorder.calling[-2]) + 2:
        raise recorder.refusal("has no axis of examples", "Pool (examples, channels, …).")
    return recorder.emit(Pool, recorder.value(x), name=name, settings=plain)
