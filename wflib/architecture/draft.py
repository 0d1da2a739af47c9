"""Networks put together operation by operation, for builders."""

from __future__ import annotations

from typing import Any

from wflib.architecture.operations import (
    AlongAxis,
    BatchNorm,
    Convolution,
    Elementwise,
    LayerNorm,
    Linear,
    MatrixProduct,
    Multiple,
    Operation,
    Permute,
    Reshape,
)
from wflib.architecture.spec import Architecture

__all__ = ["Draft"]


class Draft:
    """Operations and shapes while a network is put together; every method returns the name of the value it adds."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.operations: list[Operation] = []

    def architecture(self, inputs: tuple[int, ...], task_type: str) -> Architecture:
        """What was put together."""
        return Architecture(tuple(inputs), tuple(self.shapes.items()), tuple(self.operations), task_type)

    def add(self, kind: type[Operation], output: str, *inputs: str, **settings: Any) -> str:
        """Any operation."""
        self.operations.append(kind(output, inputs, **settings))
        return output

    def tensor(self, name: str, *shape: int) -> str:
        """A tensor of this shape, named."""
        self.shapes[name] = shape
        return name

    def activate(self, value: str, activation: str) -> str:
        """An activation; the identity is none."""
        if activation == "identity":
            return value
        return self.add(Elementwise, f"{value}:{activation}", value, function=activation)

    def linear(self, value: str, name: str, inputs: int, outputs: int, bias: bool = True, output: str | None = None) -> str:
        """A linear map."""
        weight = self.tensor(f"{name}.weight", outputs, inputs)
        offset = self.tensor(f"{name}.bias", outputs) if bias else None
        return self.add(Linear, output or name, value, weight=weight, bias=offset)

    def convolution(
        self,
        value: str,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> str:
        """A convolution with a square kernel."""
        weight = self.tensor(f"{name}.weight", outputs, inputs, kernel, kernel)
        offset = self.tensor(f"{name}.bias", outputs) if bias else None
        steps = {"stride": (stride, stride), "padding": (padding, padding), "dilation": (1, 1)}
        return self.add(Convolution, name, value, weight=weight, bias=offset, **steps)

    def batch_norm(self, value: str, name: str, channels: int) -> str:
        """A batch norm with weight and bias."""
        fields = {"weight": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}
        return self.add(
            BatchNorm, name, value, **{field: self.tensor(f"{name}.{leaf}", channels) for field, leaf in fields.items()}
        )

    def normed(self, value: str, name: str, norm: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        """A convolution without bias, then a batch norm."""
        value = self.convolution(value, name, inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return self.batch_norm(value, norm, outputs)

    def layer_norm(self, value: str, name: str, features: int) -> str:
        """A layer norm with weight and bias."""
        weight, bias = self.tensor(f"{name}.weight", features), self.tensor(f"{name}.bias", features)
        return self.add(LayerNorm, name, value, weight=weight, bias=bias)

    def attention(self, value: str, name: str, tokens: int, features: int, heads: int) -> str:
        """Self-attention of (examples, tokens, features)."""
        width, sides = features // heads, []
        weight = self.tensor(f"{name}.in_proj_weight", 3 * features, features)
        bias = self.tensor(f"{name}.in_proj_bias", 3 * features)
        for place, side in enumerate(("queries", "keys", "values")):
            rows = (place * features, (place + 1) * features)
            part = self.add(Linear, f"{name}.{side}", value, weight=weight, bias=bias, rows=rows)
            part = self.add(Reshape, f"{part}.heads", part, shape=(1, tokens, heads, width))
            order = (0, 2, 3, 1) if side == "keys" else (0, 2, 1, 3)
            sides.append(self.add(Permute, f"{name}.{side}.ordered", part, order=order))
        queries = self.add(Multiple, f"{name}.scaled", sides[0], factor=width**-0.5)
        logits = self.add(MatrixProduct, f"{name}.logits", queries, sides[1])
        weights = self.add(AlongAxis, f"{name}.softmax", logits, axis=3)
        mixed = self.add(MatrixProduct, f"{name}.mixed", weights, sides[2])
        mixed = self.add(Permute, f"{name}.mixed.ordered", mixed, order=(0, 2, 1, 3))
        mixed = self.add(Reshape, f"{name}.mixed.flat", mixed, shape=(1, tokens, features))
        return self.linear(mixed, f"{name}.out_proj", features, features)
