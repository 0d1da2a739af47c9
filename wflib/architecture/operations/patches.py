"""Convolutions of many small networks at once as products with patches of their images.

Grouped convolutions are slow where a network's channels are few. Here values lie with examples innermost: a patch's entry
for all examples is one run of memory, patches are put together by a few long copies, and a network's convolution is one
matrix product, (outputs × inputs · kernel) with (inputs · kernel × positions · examples), for all networks in one batch; of
images that all networks see, patches are the same, and so the product is one of all networks' outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from wflib.architecture.operations.base import is_shared

__all__ = ["patch_convolution", "positions"]


def positions(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Positions of a convolution's output along each side."""
    sides = zip(sizes, kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * pad - gap * (k - 1) - 1) // step + 1 for n, k, step, pad, gap in sides)


@dataclass(frozen=True)
class Window:
    """A kernel that moves over images (height, width), which have their padding."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def outputs(self) -> tuple[int, ...]:
        """Positions along each side."""
        return positions(self.sizes, self.kernel, self.stride, (0, 0), self.dilation)

    def parts(self) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """For every entry of the kernel, where it lies in patches, and what it meets in the image."""
        for entry in product(*map(range, self.kernel)):
            sides = zip(entry, self.outputs, self.stride, self.dilation, strict=True)
            met = (slice(i * gap, i * gap + (count - 1) * step + 1, step) for i, count, step, gap in sides)
            yield (slice(None), *entry), (slice(None), *met)


class Patches(torch.autograd.Function):
    """Images (channels, height, width, examples) → (channels, *kernel, *positions, examples), or the transpose of that.

    A linear map, every entry of a patch a copy of a pixel; by the transpose a pixel is the sum of all its copies.
    """

    apply: ClassVar[Callable[[Tensor, Window, bool], Tensor]]

    @staticmethod
    def forward(x: Tensor, window: Window, transposed: bool) -> Tensor:
        """By one copy, or one sum, for each entry of the kernel."""
        if transposed:
            found = x.new_zeros(len(x), *window.sizes, x.shape[-1])
            for there, here in window.parts():
                found[here] += x[there]
            return found
        found = x.new_empty(len(x), *window.kernel, *window.outputs, x.shape[-1])
        for there, here in window.parts():
            found[there] = x[here]
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Window, bool], output: Tensor) -> None:
        """The window and the direction say all."""
        ctx.window, ctx.transposed = inputs[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The map the other way."""
        return Patches.apply(gradient, ctx.window, not ctx.transposed), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, window: None, transposed: None) -> Tensor:
        """The map itself."""
        return Patches.apply(tangent, ctx.window, ctx.transposed)

    @staticmethod
    def vmap(info: Any, axes: tuple[int, None, None], x: Tensor, window: Window, transposed: bool) -> tuple[Tensor, int]:
        """Channels are mapped each by itself, so that one more axis is more of them."""
        x = x.movedim(axes[0], 0)
        return Patches.apply(x.flatten(0, 1), window, transposed).unflatten(0, x.shape[:2]), 0


def patch_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Convolutions of all networks, (networks, examples, channels, height, width) → the same, examples innermost in memory.

    Args:
        x: In any order in memory; examples innermost are not copied.
        weight: (networks, outputs, channels, *kernel).
        bias: (networks, outputs).
        stride: As in ``torch.nn.functional.conv2d``, one number for each side; so are the others.
        padding: Zeros around images.
        dilation: Gaps of kernels.
    """
    networks, examples, channels, *_ = x.shape
    shared = is_shared(x)
    x = x[:1] if shared else x
    images = x.permute(0, 2, 3, 4, 1).contiguous().flatten(0, 1)
    if any(padding):
        images = functional.pad(images, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    window = Window(tuple(images.shape[1:3]), tuple(weight.shape[3:]), tuple(stride), tuple(dilation))
    patches = Patches.apply(images, window, False).view(len(x), channels * weight[0, 0, 0].numel(), -1)
    rows = weight.reshape(len(x), -1, patches.shape[1])
    found = torch.bmm(rows, patches) if bias is None else torch.baddbmm(bias.reshape(len(x), -1, 1), rows, patches)
    return found.view(networks, -1, *window.outputs, examples).permute(0, 4, 1, 2, 3)
