"""Which rows and columns of which tensors are queries, keys, values and outputs of which attention head.

A head's neurons occur in one product only: those of queries and keys in logits, those of values in what outputs read.
Between the linear maps that write and read them there may be operations that move entries or multiply all of them by one
number. Anything else would feel which of the equal pairs of matrices stand there, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.architecture.operations import Linear, MatrixProduct
from wflib.symmetry.connections import Connections, refusal

__all__ = ["HeadProduct", "Side", "head_products"]


@dataclass(frozen=True, eq=False)
class Side:
    """One factor of a product: rows (axis 0) or columns (axis 1) of a tensor.

    Attributes:
        weight: Name of the tensor.
        bias: Of the bias whose entries belong to the rows; None for columns, or without one.
        axis: 0 or 1.
        places: Which of them are each head's, (heads, width).
    """

    weight: str
    bias: str | None
    axis: int
    places: Tensor


@dataclass(frozen=True, eq=False)
class HeadProduct:
    """What every head computes of L and R by Lᵀ R only: (queries, keys), or (values, transposed outputs).

    Attributes:
        name: Of the value that is the product: logits, or the mixed values.
        kind: ``"logits"`` or ``"values"``.
        left: Queries, or values.
        right: Keys, or columns of the output map.
        output_bias: The output map's bias, for values; None without one.
    """

    name: str
    kind: str
    left: Side
    right: Side
    output_bias: str | None = None

    @property
    def heads(self) -> int:
        """Number of heads."""
        return len(self.left.places)

    @property
    def width(self) -> int:
        """Neurons of a head."""
        return self.left.places.shape[1]


@lru_cache(maxsize=32)
def head_products(architecture: Architecture) -> tuple[HeadProduct, ...]:
    """All products of heads, in the order of the network: of queries and keys, then of values and outputs.

    Args:
        architecture: Of any kind; without attention there are none.

    Raises:
        ValueError: A product of matrices that is no softmax attention between linear maps; names the operation.
    """
    products = [operation for operation in architecture.operations if isinstance(operation, MatrixProduct)]
    if not products:
        return ()
    network = Connections(architecture)
    found: dict[str, Found] = {}
    for softmax in filter(network.over_keys, architecture.operations):
        logits = network.logits(softmax)
        if logits is None:
            continue
        for mixed in network.users.get(softmax.output, ()):
            if isinstance(mixed, MatrixProduct) and mixed.inputs[0] == softmax.output:
                found[logits.output], found[mixed.output] = of_logits(network, logits), of_values(network, mixed)
    for product in products:
        if product.output not in found:
            raise ValueError(refusal(product, "is no part of softmax attention between linear maps"))
    require_only(network, found)
    order = [operation.output for operation in architecture.operations]
    return distinct([found[name].product for name in sorted(found, key=order.index)])


@dataclass(frozen=True, eq=False)
class Found:
    """A product, with the linear maps that write its factors and the one that reads its values."""

    product: HeadProduct
    writers: tuple[Linear, ...]
    reader: Linear | None = None


def of_logits(network: Connections, product: MatrixProduct) -> Found:
    """Rows of queries and keys."""
    makers = tuple(network.writer(value, multiples=True) for value in product.inputs)
    left, right = (network.wires[value].neuron for value in product.inputs)
    sides = heads_of(product, left, right.mT)
    queries, keys = (Side(m.weight, m.bias, 0, network.places(m, side)) for m, side in zip(makers, sides, strict=True))
    return Found(HeadProduct(product.output, "logits", queries, keys), makers)


def of_values(network: Connections, product: MatrixProduct) -> Found:
    """Rows of values, and columns that read them."""
    # A multiple of values would be one of the bias that moves.
    maker, readers = network.writer(product.inputs[1], multiples=False), network.readers(product.output, multiples=False)
    reader = readers[0] if len(readers) == 1 else None
    if not isinstance(reader, Linear) or reader.rows is not None:
        raise ValueError(refusal(product, "is read by something else than one linear map"))
    (values,) = heads_of(product, network.wires[product.inputs[1]].neuron)
    read = network.wires[reader.inputs[0]].neuron
    read = read.reshape(-1, read.shape[-1])
    columns = (read[0] == values.reshape(-1, 1)).long()
    if bool((read != read[0]).any()) or bool((columns.sum(1) != 1).any()):
        raise ValueError(refusal(reader, "does not read each value of each head in one column"))
    places = columns.argmax(1).view(values.shape)
    left = Side(maker.weight, maker.bias, 0, network.places(maker, values))
    right = Side(reader.weight, None, 1, places)
    return Found(HeadProduct(product.output, "values", left, right, reader.bias), (maker,), reader)


def heads_of(product: MatrixProduct, *sides: Tensor) -> Sequence[Tensor]:
    """Neurons of each head, once each, whatever stands between: windows, examples; (heads, width) each.

    Args:
        product: What the sides belong to.
        sides: Neurons of its factors, (…, tokens, width).

    Raises:
        ValueError: Heads share neurons, or have others at other tokens.
    """
    if any(bool((side != side[..., :1, :]).any()) for side in sides):
        raise ValueError(refusal(product, "sums over other neurons at other tokens"))
    sides = torch.broadcast_tensors(*(side[..., 0, :] for side in sides))
    pairs = torch.cat([side.reshape(-1, side.shape[-1]) for side in sides], 1)
    kept: list[list[int]] = []
    for row in pairs.tolist():  # a few rows of the architecture's own, in their order
        if row not in kept:
            kept.append(row)
    found = torch.tensor(kept).chunk(len(sides), 1)
    if any(len(side.unique()) < side.numel() or bool((side == 0).any()) for side in found):
        raise ValueError(refusal(product, "has heads that share queries, keys or values"))
    return found


def require_only(network: Connections, found: Mapping[str, Found]) -> None:
    """Refuse networks in which something else feels what a gauge changes.

    Raises:
        ValueError: Something else reads queries, keys, values or logits, or uses their tensors.
    """
    maps: set[Linear] = set()
    for name, one in found.items():
        maps |= {*one.writers, *([one.reader] if one.reader else [])}
        for writer in one.writers:
            for reader in network.readers(writer.output, multiples=True):
                if reader.output not in found:
                    raise ValueError(refusal(reader, f"reads `{writer.output}` besides attention"))
        if one.product.kind == "logits":
            for reader in network.felt_by(name):
                raise ValueError(refusal(reader, f"reads the logits `{name}` besides a softmax over keys"))
    tensors = {name for one in maps for name in one.tensors}
    for operation in network.architecture.operations:
        if operation not in maps and tensors & set(operation.tensors):
            raise ValueError(refusal(operation, "shares tensors with attention"))


def distinct(products: Sequence[HeadProduct]) -> tuple[HeadProduct, ...]:
    """Products without those of attention that is used again.

    Raises:
        ValueError: Two of them share some rows or columns.
    """
    kept: list[HeadProduct] = []
    taken: set[tuple[str, int, int]] = set()
    for product in products:
        if any(same(product, other) for other in kept):
            continue
        uses = [(product.output_bias, 0, 0)] if product.output_bias else []
        for side in (product.left, product.right):
            for name in (side.weight, side.bias):
                uses += [(name, side.axis, place) for place in side.places.flatten().tolist() if name]
        if taken & set(uses) or len(set(uses)) < len(uses):
            raise ValueError(
                f"attention: `{product.name}` shares parts of {product.left.weight} or {product.right.weight} with other "
                "products; gauges of such attention are not known."
            )
        taken |= set(uses)
        kept.append(product)
    return tuple(kept)


def same(one: HeadProduct, other: HeadProduct) -> bool:
    """Whether two products are of the same rows and columns."""
    return one.kind == other.kind and all(
        a.weight == b.weight and a.bias == b.bias and torch.equal(a.places, b.places)
        for a, b in ((one.left, other.left), (one.right, other.right))
    )
