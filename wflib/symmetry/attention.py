"""Gauges of attention: matrices between queries and keys, and between values and outputs, that no function feels.

A head's logits depend on its queries and keys by W_Qᵀ W_K only: (W_Q, b_Q) → A (W_Q, b_Q), (W_K, b_K) → A⁻ᵀ (W_K, b_K) is a
symmetry for every invertible A; likewise (W_V, b_V) → B (W_V, b_V), W_O → W_O B⁻¹. Two biases are redundant: b_K adds the
same number to all logits of a query, and softmax's weights sum to one, so that b_V may stand in b_O as W_O b_V.

The canonical gauge has b_K = b_V = 0 and splits the singular values of either product evenly, values falling:

    (W_Q, b_Q)ᵀ W_K = U S Vᵀ:  (W_Q, b_Q) = √S Uᵀ,  W_K = √S Vᵀ,      (W_O W_V)ᵀ = U S Vᵀ:  W_V = √S Uᵀ,  W_Oᵀ = √S Vᵀ

with the largest entry of each row of √S Uᵀ positive. It does not depend on the order of a head's neurons, which is that of
its singular values from then on: only heads are left to be permuted.

Canonical networks (:func:`~wflib.symmetry.canonical.canonicalize`) have values of norm one, so there W_V = Uᵀ and
W_Oᵀ = S Vᵀ. Both go together as

    ours = canonical_attention(networks)           # biases, which norms count, are where they stay
    scaled = canonicalize(ours.networks)           # columns that singular values see have their scale
    final = canonical_attention(scaled.networks)

whose networks are constant on orbits of scalings and gauges together, and left alone by the last two steps;
:func:`restore_attention` and :func:`~wflib.symmetry.canonical.decanonicalize` undo them one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.networks import Networks
from wflib.symmetry.canonical import largest_sign, lengths
from wflib.symmetry.heads import HeadProduct, Side, head_products
from wflib.symmetry.split import even_split

__all__ = [
    "AttentionRecord",
    "CanonicalAttention",
    "Gauges",
    "apply_gauge",
    "canonical_attention",
    "random_gauge",
    "restore_attention",
]

Gauges = dict[str, Tensor]
"""Name of a product of heads (logits, mixed values) → invertible matrices (networks, heads, width, width)."""


@dataclass(frozen=True)
class AttentionRecord:
    """What undoes the canonical gauge of one product of heads.

    Attributes:
        left: What queries or values are multiplied by, (networks, heads, width, width).
        right: What keys or columns of outputs are multiplied by.
        bias: The keys' or values' bias, (networks, heads, width); None where none was moved.
    """

    left: Tensor
    right: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class CanonicalAttention:
    """What :func:`canonical_attention` returns.

    Attributes:
        networks: Of the same functions.
        record: Product of heads → what undoes its gauge.
        deficient_heads: Number of heads whose product has singular values of zero, so that no gauge leads to its canonical
            form; these keep theirs, but for the biases.
    """

    networks: Networks
    record: dict[str, AttentionRecord]
    deficient_heads: int


def read(weights: Mapping[str, Tensor], side: Side) -> Tensor:
    """Rows of a factor, the bias as one more column: (networks, heads, width, entries)."""
    tensor, places = weights[side.weight], side.places.to(weights[side.weight].device)
    found = (tensor.mT if side.axis else tensor)[:, places]
    return found if side.bias is None else torch.cat([found, weights[side.bias][:, places].unsqueeze(-1)], -1)


def write(weights: Weights, side: Side, rows: Tensor) -> None:
    """Put rows of a factor where :func:`read` has read them, in new tensors."""
    places = side.places.flatten().to(rows.device)
    if side.bias is not None:
        weights[side.bias] = weights[side.bias].index_copy(1, places, rows[..., -1].flatten(1))
        rows = rows[..., :-1]
    tensor, rows = weights[side.weight], rows.flatten(1, 2)
    weights[side.weight] = tensor.index_copy(1 + side.axis, places, rows.mT if side.axis else rows)


def random_gauge(
    architecture: Architecture,
    networks: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    spread: float = 0.5,
) -> Gauges:
    """Random invertible matrices A = O₁ diag(exp(spread · n)) O₂, O₁ and O₂ uniformly orthogonal and n ~ N(0, I).

    Args:
        architecture: Of the networks.
        networks: How many.
        generator: Draws them.
        dtype: Of the matrices.
        spread: Deviation of the logarithms of their singular values; 0 for orthogonal ones.

    Returns:
        Product of heads → (networks, heads, width, width).

    Raises:
        ValueError: Attention whose gauges are not known, see :func:`~wflib.symmetry.heads.head_products`.
    """
    found = {}
    for product in head_products(architecture):
        shape = (networks, product.heads, product.width, product.width)
        first, second = (orthogonal(normal_numbers(shape, generator)) for _ in range(2))
        values = (spread * normal_numbers(shape[:-1], generator)).exp()
        found[product.name] = ((first * values.unsqueeze(-2)) @ second).to(dtype)
    return found


def normal_numbers(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws from N(0, 1) in double precision, on the CPU."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()


def orthogonal(normal: Tensor) -> Tensor:
    """Uniformly distributed orthogonal matrices of normal ones (Mezzadri 2007, arXiv math-ph/0609050)."""
    q, r = torch.linalg.qr(normal)
    drawn: Tensor = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return drawn


def apply_gauge(networks: Networks, gauges: Gauges) -> Networks:
    """Networks of the same functions: (W_Q, b_Q) ← A (W_Q, b_Q), (W_K, b_K) ← A⁻ᵀ (W_K, b_K), for each head.

    For products of values and outputs (W_V, b_V) ← B (W_V, b_V), W_O ← W_O B⁻¹.

    Args:
        networks: Of any kind.
        gauges: Product of heads → (networks, heads, width, width); products that are not named stay as they are.

    Returns:
        The same networks in other gauges.

    Raises:
        ValueError: Attention whose gauges are not known, an unknown product, or matrices of another shape.
    """
    products = {product.name: product for product in head_products(networks.architecture)}
    found = dict(networks.weights)
    for name, gauge in gauges.items():
        if name not in products:
            raise ValueError(f"apply_gauge: {name!r} is no product of attention heads; these are {sorted(products)}.")
        product = products[name]
        expected = (len(networks), product.heads, product.width, product.width)
        if tuple(gauge.shape) != expected:
            raise ValueError(f"Shape mismatch: {name} expected {expected}, got {tuple(gauge.shape)}.")
        left, right = read(found, product.left), read(found, product.right)
        write(found, product.left, gauge @ left)
        write(found, product.right, torch.linalg.solve(gauge.mT, right))
    return networks.with_weights(found)


def canonical_attention(networks: Networks) -> CanonicalAttention:
    """Move every head along its gauge orbit to the canonical gauge; the module says which that is.

    The value bias stays in its place where the output map has no bias, and is a further column of W_V then.

    Args:
        networks: Of any kind, ordinary or canonical, in single or double precision; without attention nothing is done.

    Returns:
        Networks of the same functions, and the record that :func:`restore_attention` inverts them with. Idempotent;
        constant on orbits of :func:`apply_gauge` and of permutations within heads, as far as the singular values of a head
        are distinct and not zero. Commutes with permutations of all other neurons and of heads.

    Raises:
        ValueError: Attention whose gauges are not known, heads that are wider than what they read or write, NaN or
            infinity.
    """
    networks.require_finite("canonical_attention")
    architecture, found, record, deficient = networks.architecture, dict(networks.weights), {}, 0
    for product in head_products(architecture):
        bias = without_bias(found, product)
        require_narrow(architecture, product, bias)
        left, right = read(found, product.left), read(found, product.right)
        split = even_split(left, right)
        if product.kind == "values" and architecture.canonical:
            weight = split.left[..., : architecture.shape(product.left.weight)[1]]
            split = split.scaled(1 / lengths(weight if architecture.norm == "weights" else split.left))
        split = split.scaled(largest_sign(split.left))
        full = split.full[..., None, None]
        one = torch.eye(product.width, dtype=left.dtype, device=left.device)
        write(found, product.left, torch.where(full, split.left, left))
        write(found, product.right, torch.where(full, split.right, right))
        back_left, back_right = (torch.where(full, matrix, one) for matrix in (split.back_left, split.back_right))
        record[product.name] = AttentionRecord(back_left, back_right, bias)
        deficient += int((~split.full).sum())
    return CanonicalAttention(networks.with_weights(found), record, deficient)


def restore_attention(networks: Networks, record: Mapping[str, AttentionRecord]) -> Networks:
    """The inverse of :func:`canonical_attention`.

    Args:
        networks: In the canonical gauge.
        record: Of these networks.

    Returns:
        The networks that they were made of, up to rounding.

    Raises:
        ValueError: Attention whose gauges are not known.
    """
    found = dict(networks.weights)
    for product in head_products(networks.architecture):
        past = record[product.name]
        for side, matrix in ((product.left, past.left), (product.right, past.right)):
            write(found, side, matrix @ read(found, side))
        if past.bias is not None and (redundant := redundant_bias(product)) is not None:
            move_bias(found, product, *redundant, past.bias)
    return networks.with_weights(found)


def redundant_bias(product: HeadProduct) -> tuple[Side, str] | None:
    """The factor whose bias no function needs, and that bias: of keys, or of values where the output map has a bias."""
    side = product.right if product.kind == "logits" else product.left if product.output_bias else None
    return None if side is None or side.bias is None else (side, side.bias)


def move_bias(weights: Weights, product: HeadProduct, side: Side, name: str, change: Tensor) -> None:
    """Add to a redundant bias, (networks, heads, width), and leave the function alone."""
    change = change.flatten(1)
    places = side.places.flatten().to(change.device)
    weights[name] = weights[name].index_add(1, places, change)
    if product.output_bias is not None:
        columns = product.right.places.flatten().to(change.device)
        shift = (weights[product.right.weight][:, :, columns] @ change.unsqueeze(-1)).squeeze(-1)
        weights[product.output_bias] = weights[product.output_bias] - shift


def without_bias(weights: Weights, product: HeadProduct) -> Tensor | None:
    """Make a redundant bias zero; what it was, (networks, heads, width)."""
    redundant = redundant_bias(product)
    if redundant is None:
        return None
    side, name = redundant
    bias = weights[name][:, side.places.to(weights[name].device)]
    move_bias(weights, product, side, name, -bias)
    return bias


def require_narrow(architecture: Architecture, product: HeadProduct, bias: Tensor | None) -> None:
    """Refuse heads whose products have singular values of zero in every network."""
    for side in (product.left, product.right):
        moved = bias is not None and (side, side.bias) == redundant_bias(product)
        entries = architecture.shape(side.weight)[1 - side.axis] + (side.bias is not None and not moved)
        if entries < product.width:
            raise ValueError(
                f"canonical_attention: {product.name} has heads of {product.width} neurons that {side.weight} connects with "
                f"{entries} others only, so that their products lack rank; use heads of at most as many neurons."
            )
