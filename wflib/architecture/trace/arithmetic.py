"""Activations, sums, products and reductions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from wflib.architecture.operations import Add, AlongAxis, Elementwise, Multiple, Multiply, Reduce
from wflib.architecture.trace.recorder import Recorder, handles

SETTINGS: dict[str, dict[str, Any]] = {
    "relu": {},
    "leaky_relu": {"negative_slope": 0.01},
    "tanh": {},
    "softsign": {},
    "gelu": {"approximate": "none"},
    "silu": {},
    "relu6": {},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "hardswish": {},
    "hardsigmoid": {},
    "sigmoid": {},
    "logsigmoid": {},
    "elu": {"alpha": 1.0},
    "selu": {},
    "celu": {"alpha": 1.0},
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "mish": {},
    "tanhshrink": {},
    "softshrink": {"lambd": 0.5},
    "hardshrink": {"lambd": 0.5},
    "abs": {},
    "exp": {},
    "log": {},
    "sqrt": {},
    "rsqrt": {},
    "reciprocal": {},
    "clamp": {"min": None, "max": None},
}
"""Functions of entries with their further arguments and defaults; only other values than the defaults are kept."""


@handles(*SETTINGS)
def elementwise(recorder: Recorder, result: Tensor, x: Tensor, *args: Any, inplace: bool = False, **settings: Any) -> str:
    """Functions that operations know by the same name."""
    name = recorder.calling.rstrip("_")
    defaults = SETTINGS[name]
    settings |= dict(zip(defaults, args, strict=False))
    if any(isinstance(value, Tensor) for value in settings.values()):
        raise recorder.refusal("takes a tensor as a setting", "Use numbers.")
    kept = tuple((key, value) for key, value in settings.items() if value != defaults[key])
    return recorder.emit(Elementwise, recorder.value(x), function=name, settings=kept)


@handles("sin", "cos", "square", "pow", "__pow__", "neg", "__neg__")
def renamed(recorder: Recorder, result: Tensor, x: Tensor, exponent: float = 2, **_: Any) -> str:
    """Functions that operations know by another name."""
    name, value = recorder.calling.strip("_"), recorder.value(x)
    if name == "neg":
        return recorder.emit(Multiple, value, factor=-1.0)
    if name in ("sin", "cos"):
        return recorder.emit(Elementwise, value, function={"sin": "sine", "cos": "cosine"}[name])
    if isinstance(exponent, Tensor):
        raise recorder.refusal("takes a tensor as exponent", "Use a number.")
    return recorder.emit(Elementwise, value, function="power", settings=(("exponent", exponent),))


@handles("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
def dropout(
    recorder: Recorder, result: Tensor, x: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> str:
    """Nothing, in evaluation mode."""
    if training and p > 0:
        raise recorder.refusal("draws random numbers", "Trace in evaluation mode.")
    return recorder.value(x)


@handles(
    "contiguous",
    "clone",
    "detach",
    "to",
    "float",
    "double",
    "type_as",
    "requires_grad_",
    "alias",
    "data.__get__",
    "positive",
)
def same(recorder: Recorder, result: Tensor, x: Tensor, *_: Any, **__: Any) -> str:
    """What changes memory, not values."""
    return recorder.value(x)


def number(value: Any) -> bool:
    """Whether an operand is a number rather than a tensor."""
    return not isinstance(value, Tensor)


@handles("add", "sub", "subtract", "__iadd__", "__isub__", "__add__", "__radd__", "__sub__", "rsub", "__rsub__")
def add(recorder: Recorder, result: Tensor, a: Any, b: Any, *, alpha: float = 1) -> str:
    """Sums and differences."""
    name = recorder.calling.strip("_")
    if name in ("rsub", "radd"):
        a, b = b, a
    sign = -alpha if "sub" in name else alpha
    if number(b):
        return recorder.emit(Multiple, recorder.value(a), offset=float(sign * b))
    if number(a):
        return recorder.emit(Multiple, recorder.value(b), factor=float(sign), offset=float(a))
    return recorder.emit(Add, recorder.value(a), recorder.value(b), alpha=float(sign))


@handles("mul", "multiply", "__imul__", "__mul__", "__rmul__")
def multiply(recorder: Recorder, result: Tensor, a: Any, b: Any) -> str:
    """Products."""
    if number(b):
        return recorder.emit(Multiple, recorder.value(a), factor=float(b))
    if number(a):
        return recorder.emit(Multiple, recorder.value(b), factor=float(a))
    return recorder.emit(Multiply, recorder.value(a), recorder.value(b))


@handles("div", "divide", "true_divide", "__itruediv__", "__truediv__", "__rdiv__", "__rtruediv__")
def divide(recorder: Recorder, result: Tensor, a: Any, b: Any, rounding_mode: str | None = None) -> str:
    """Quotients."""
    if rounding_mode is not None:
        raise recorder.refusal("rounds", "Divide without rounding.")
    if recorder.calling in ("__rdiv__", "__rtruediv__"):
        a, b = b, a
    if number(b):
        return recorder.emit(Multiple, recorder.value(a), factor=1 / float(b))
    inverse = recorder.emit(Elementwise, recorder.value(b), title="reciprocal", function="reciprocal")
    if number(a):
        return recorder.emit(Multiple, inverse, factor=float(a))
    return recorder.emit(Multiply, recorder.value(a), inverse)


@handles("masked_fill")
def masked_fill(recorder: Recorder, result: Tensor, x: Tensor, mask: Tensor, value: float) -> str:
    """A constant where a mask is."""
    if id(mask) in recorder.values or not number(value):
        raise recorder.refusal("has a mask that is computed", "Use a mask that is part of the network.")
    kept = recorder.emit(Multiply, recorder.value(x), recorder.value((~mask).double()), title="kept")
    filled = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask, value)
    return recorder.emit(Add, kept, recorder.value(filled))


@handles("zero")
def zero(recorder: Recorder, result: Tensor, x: Tensor) -> str:
    """Zeros in part of a tensor, in place: the tensor times a mask.

    Raises:
        ValueError: It is not clear which part of which tensor.
    """
    if id(x) not in recorder.views:
        raise recorder.refusal("changes a tensor in place", "Make a new tensor.")
    base, index = recorder.views[id(x)]
    mask = torch.ones(base.shape, dtype=torch.float64)
    mask[index] = 0
    whole = recorder.emit(Multiply, recorder.value(base), recorder.value(mask), title="masked")
    recorder.replaced[id(base)] = whole
    return recorder.value(x)


def axes_of(x: Tensor, dim: Any) -> tuple[int, ...]:
    """Axes counted from the front."""
    dims = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return tuple(sorted(axis % x.ndim for axis in dims))


@handles("mean", "sum")
def reduce(recorder: Recorder, result: Tensor, x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> str:
    """Means and sums over axes."""
    axes = axes_of(x, dim)
    if 0 in axes and dim is None:
        raise recorder.refusal("mixes examples", "Reduce the other axes.")
    return recorder.emit(Reduce, recorder.value(x), function=recorder.calling, axes=axes, keep=keepdim)


@handles("softmax", "log_softmax")
def softmax(recorder: Recorder, result: Tensor, x: Tensor, dim: int, *_: Any, **__: Any) -> str:
    """Along one axis."""
    return recorder.emit(AlongAxis, recorder.value(x), function=recorder.calling, axis=dim % x.ndim)


@handles("normalize")
def normalize(
    recorder: Recorder, result: Tensor, x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, **_: Any
) -> str:
    """x / ‖x‖ along one axis."""
    if p != 2 or not math.isclose(eps, 1e-12):
        raise recorder.refusal("uses another norm than torch's default", "Use p=2 and eps=1e-12.")
    return recorder.emit(AlongAxis, recorder.value(x), function="normalize", axis=dim % x.ndim)
