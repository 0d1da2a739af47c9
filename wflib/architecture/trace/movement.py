"""Reshaping, ordering, joining and taking apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wflib.architecture.operations import Concatenate, Expand, Pad, Permute, Reshape, Roll, Slice, Take
from wflib.architecture.trace.recorder import Recorder, handles

WHOLE = (None, None, None)


@handles("reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "reshape_as", "view_as", "ravel")
def reshape(recorder: Recorder, result: Tensor, x: Tensor, *_: Any, **__: Any) -> str:
    """Whatever ends in another shape of the same entries in the same order."""
    return recorder.emit(Reshape, recorder.value(x), shape=tuple(result.shape), batch_axis=None)


@handles("expand", "expand_as", "broadcast_to")
def expand(recorder: Recorder, result: Tensor, x: Tensor, *_: Any, **__: Any) -> str:
    """Axes repeated."""
    return recorder.emit(Expand, recorder.value(x), shape=tuple(result.shape), batch_axis=None)


def ordered(recorder: Recorder, x: Tensor, order: Sequence[int]) -> str:
    """Axes in another order."""
    return recorder.emit(Permute, recorder.value(x), order=tuple(axis % x.ndim for axis in order))


@handles("permute")
def permute(recorder: Recorder, result: Tensor, x: Tensor, *dims: Any) -> str:
    """Given one by one, or as a tuple."""
    return ordered(recorder, x, dims if isinstance(dims[0], int) else dims[0])


@handles("transpose", "swapaxes", "swapdims")
def transpose(recorder: Recorder, result: Tensor, x: Tensor, one: int, other: int) -> str:
    """Two axes exchanged."""
    order = list(range(x.ndim))
    order[one], order[other] = order[other], order[one]
    return ordered(recorder, x, order)


@handles("T.__get__", "mT.__get__", "t")
def transposed(recorder: Recorder, result: Tensor, x: Tensor) -> str:
    """The last two axes exchanged, or the order reversed."""
    if recorder.calling.startswith("mT"):
        return transpose(recorder, result, x, -1, -2)
    return ordered(recorder, x, range(x.ndim)[::-1])


@handles("movedim", "moveaxis")
def movedim(recorder: Recorder, result: Tensor, x: Tensor, source: int, destination: int) -> str:
    """One axis to another place."""
    order = [axis for axis in range(x.ndim) if axis != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return ordered(recorder, x, order)


@handles("cat", "concat", "concatenate")
def concatenate(recorder: Recorder, result: Tensor, tensors: Sequence[Tensor], dim: int = 0, **_: Any) -> str:
    """Along one axis."""
    return recorder.emit(Concatenate, *(recorder.value(x) for x in tensors), axis=dim % result.ndim)


@handles("stack")
def stack(recorder: Recorder, result: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> str:
    """Along a new axis."""
    axis = dim % result.ndim
    shape = (*tensors[0].shape[:axis], 1, *tensors[0].shape[axis:])
    parts = [recorder.emit(Reshape, recorder.value(x), title="part", shape=shape, batch_axis=None) for x in tensors]
    return recorder.emit(Concatenate, *parts, axis=axis)


@handles("roll")
def roll(recorder: Recorder, result: Tensor, x: Tensor, shifts: Any, dims: Any = None) -> str:
    """Around the ends of axes."""
    if dims is None:
        raise recorder.refusal("rolls over all axes", "Name the axes.")
    shifts, dims = ((side,) if isinstance(side, int) else tuple(side) for side in (shifts, dims))
    return recorder.emit(Roll, recorder.value(x), shifts=shifts, axes=tuple(axis % x.ndim for axis in dims))


@handles("pad")
def pad(recorder: Recorder, result: Tensor, x: Tensor, pad: Sequence[int], mode: str = "constant", value: Any = None) -> str:
    """A constant around the last axes."""
    if mode != "constant":
        raise recorder.refusal(f"pads by {mode}", "Pad with a constant.")
    return recorder.emit(Pad, recorder.value(x), widths=tuple(pad), value=float(value or 0.0))


@handles("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "unsafe_chunk", "unsafe_split")
def parts(
    recorder: Recorder, result: Sequence[Tensor], x: Tensor, *args: Any, dim: int | None = None, **_: Any
) -> list[str]:
    """Consecutive parts of one axis."""
    if recorder.calling == "unbind":
        axis = (dim if dim is not None else args[0] if args else 0) % x.ndim
        indices: list[Any] = list(range(len(result)))
    else:
        axis = (dim if dim is not None else args[1] if len(args) > 1 else 0) % x.ndim
        indices, start = [], 0
        for part in result:
            indices.append((start, start + part.shape[axis], None))
            start += part.shape[axis]
    name = recorder.value(x)
    return [recorder.emit(Slice, name, index=(*[WHOLE] * axis, index)) for index in indices]


@handles("narrow", "select")
def narrow(recorder: Recorder, result: Tensor, x: Tensor, dim: int, start: int, length: int | None = None) -> str:
    """One part, or one entry, of one axis."""
    index = start if length is None else (start, start + length, None)
    return recorder.emit(Slice, recorder.value(x), index=(*[WHOLE] * (dim % x.ndim), index))


@handles("flip")
def flip(recorder: Recorder, result: Tensor, x: Tensor, *dims: Any) -> str:
    """The order of axes' entries reversed."""
    name = recorder.value(x)
    for axis in dims if isinstance(dims[0], int) else dims[0]:
        name = recorder.emit(Take, name, axis=axis % x.ndim, places=tuple(range(x.shape[axis]))[::-1])
    return name


@handles("index_select")
def index_select(recorder: Recorder, result: Tensor, x: Tensor, dim: int, index: Tensor) -> str:
    """Entries of one axis by constant places."""
    return recorder.emit(Take, recorder.value(x), axis=dim % x.ndim, places=tuple(index.tolist()))


@handles("__getitem__")
def getitem(recorder: Recorder, result: Tensor, x: Tensor, index: Any) -> str:
    """Numbers, slices, new axes, and one constant tensor of places."""
    recorder.views[id(result)] = (x, index)
    items = list(index) if isinstance(index, tuple) else [index]
    used = sum(item is not None and item is not Ellipsis for item in items)
    if Ellipsis in [item for item in items if not isinstance(item, Tensor)]:
        place = next(place for place, item in enumerate(items) if item is Ellipsis)
        items[place : place + 1] = [slice(None)] * (x.ndim - used)
    tensors = [place for place, item in enumerate(items) if isinstance(item, (Tensor, list))]
    name = recorder.value(x)
    if tensors:
        (axis,), places = tensors, torch.as_tensor(items[tensors[0]])
        if (
            len(tensors) > 1
            or places.dtype == torch.bool
            or any(item != slice(None) for i, item in enumerate(items) if i != axis)
        ):
            raise recorder.refusal("takes entries of several axes at once", "Take them one axis at a time.")
        places = places % x.shape[axis]
        name = recorder.emit(Take, name, title="taken", axis=axis, places=tuple(places.flatten().tolist()))
        return recorder.emit(Reshape, name, shape=tuple(result.shape), batch_axis=None)
    found = tuple(
        "new" if item is None else (item.start, item.stop, item.step) if isinstance(item, slice) else int(item)
        for item in items
    )
    return recorder.emit(Slice, name, index=found)
