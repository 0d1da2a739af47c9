"""Matrix products and attention, which is written out in them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wflib.architecture.operations import Add, AlongAxis, Linear, MatrixProduct, Multiple, Permute, Reduce, Reshape
from wflib.architecture.trace.recorder import Recorder, handles


@handles("matmul", "bmm", "__matmul__", "mm")
def matmul(recorder: Recorder, result: Tensor, a: Tensor, b: Tensor) -> str:
    """Products of matrices, batched and broadcast."""
    if min(a.ndim, b.ndim) < 2:
        raise recorder.refusal("multiplies vectors", "Give them an axis of size one.")
    return recorder.emit(MatrixProduct, recorder.value(a), recorder.value(b))


@handles("einsum")
def einsum(recorder: Recorder, result: Tensor, equation: str, *operands: Any) -> str:
    """Two operands, each letter at most once in each, as one matrix product."""
    operands = operands[0] if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    left, output = equation.replace(" ", "").split("->") if "->" in equation else (equation, "")
    terms = left.split(",")
    plain = len(terms) == 2 and all(len(set(term)) == len(term) and "." not in term for term in (*terms, output))
    if not plain or not output:
        raise recorder.refusal(f"has the equation {equation!r}", "Write it with matmul, permute and reshape.")
    one, two = terms
    sizes = {
        letter: size for term, x in zip(terms, operands, strict=True) for letter, size in zip(term, x.shape, strict=True)
    }
    batch = [letter for letter in one if letter in two and letter in output]
    summed = [letter for letter in one if letter in two and letter not in output]
    rows, columns = ([c for c in term if c not in other] for term, other in ((one, two), (two, one)))
    if set(rows + columns + batch) != set(output):
        raise recorder.refusal(f"has the equation {equation!r}", "Write it with matmul, permute and reshape.")

    def matrix(term: str, x: Tensor, parts: tuple[list[str], ...]) -> str:
        order = [term.index(letter) for part in parts for letter in part]
        name = recorder.emit(Permute, recorder.value(x), title="ordered", order=tuple(order))
        shape = [sizes[letter] for letter in parts[0]]
        for part in parts[1:]:
            shape.append(int(torch.tensor([sizes[letter] for letter in part]).prod()) if part else 1)
        return recorder.emit(Reshape, name, title="matrix", shape=tuple(shape), batch_axis=None)

    product = recorder.emit(
        MatrixProduct,
        matrix(one, operands[0], (batch, rows, summed)),
        matrix(two, operands[1], (batch, summed, columns)),
    )
    letters = [*batch, *rows, *columns]
    shape = tuple(sizes[letter] for letter in letters)
    product = recorder.emit(Reshape, product, title="product", shape=shape, batch_axis=None)
    return recorder.emit(Permute, product, title="result", order=tuple(letters.index(letter) for letter in output))


@handles("scaled_dot_product_attention")
def dot_product_attention(
    recorder: Recorder,
    result: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> str:
    """softmax(Q Kᵀ / √d + mask) V."""
    if dropout_p or enable_gqa:
        raise recorder.refusal("has dropout or shared keys", "Trace in evaluation mode, and repeat keys and values.")
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    queries, keys, values = (recorder.value(side) for side in (query, key, value))
    return attend(recorder, queries, keys, values, query.ndim, scale or query.shape[-1] ** -0.5, attn_mask)[0]


def attend(
    recorder: Recorder, query: str, key: str, value: str, ndim: int, scale: float, mask: Tensor | None
) -> tuple[str, str]:
    """Attention of named values (…, tokens, width); returns its output and its weights."""
    query = recorder.emit(Multiple, query, title="scaled", factor=scale)
    order = (*range(ndim - 2), ndim - 1, ndim - 2)
    key = recorder.emit(Permute, key, title="keys", order=order)
    logits = recorder.emit(MatrixProduct, query, key, title="logits")
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
        logits = recorder.emit(Add, logits, recorder.value(mask), title="masked")
    weights = recorder.emit(AlongAxis, logits, title="softmax", axis=ndim - 1)
    return recorder.emit(MatrixProduct, weights, value, title="heads"), weights


@handles("multi_head_attention_forward")
def multi_head_attention(
    recorder: Recorder,
    result: tuple[Tensor, Tensor | None],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    **_: Any,
) -> list[str]:
    """``torch.nn.MultiheadAttention``: (tokens, examples, features) each."""
    if bias_k is not None or bias_v is not None or add_zero_attn or key_padding_mask is not None:
        raise recorder.refusal("adds keys or hides some", "Use attention without them.")
    if query.ndim != 3:
        raise recorder.refusal("has no axis of examples", "Pass (examples, tokens, features).")
    width, separate = query.shape[-1], (q_proj_weight, k_proj_weight, v_proj_weight)
    heads = []
    for place, side in enumerate((query, key, value)):
        rows = (place * width, (place + 1) * width)
        settings: dict[str, Any] = {"weight": recorder.parameter(in_proj_weight), "rows": rows}
        if use_separate_proj_weight:
            settings = {"weight": recorder.parameter(separate[place])}
            if in_proj_bias is not None:
                raise recorder.refusal("has one bias for three weights", "Use one size for queries, keys and values.")
        else:
            settings["bias"] = recorder.parameter(in_proj_bias)
        title = ("queries", "keys", "values")[place]
        name = recorder.emit(Linear, recorder.value(side), title=title, **settings)
        shape = (side.shape[0], side.shape[1], num_heads, width // num_heads)
        name = recorder.emit(Reshape, name, title=f"{title}.heads", shape=shape, batch_axis=None)
        heads.append(recorder.emit(Permute, name, title=f"{title}.ordered", order=(1, 2, 0, 3)))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = ~attn_mask
    queries, keys, values = heads
    mixed, weights = attend(recorder, queries, keys, values, 4, (width // num_heads) ** -0.5, attn_mask)
    mixed = recorder.emit(Permute, mixed, title="mixed", order=(2, 0, 1, 3))
    mixed = recorder.emit(Reshape, mixed, title="mixed.flat", shape=tuple(query.shape), batch_axis=None)
    settings = {"weight": recorder.parameter(out_proj_weight), "bias": recorder.parameter(out_proj_bias)}
    output = recorder.emit(Linear, mixed, title="output", **settings)
    if result[1] is None:
        return [output]
    return [output, recorder.emit(Reduce, weights, title="weights", axes=(1,)) if average_attn_weights else weights]
