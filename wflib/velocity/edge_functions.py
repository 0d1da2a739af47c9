"""What a relational layer does to every edge of a block, with backward passes that keep little and recompute what is cheap.

Edges dominate time and memory. Each function here, unless traced, works through a batch in parts that fit into a processor's
cache, so that nothing but its results is ever as large as the edges. For the backward pass a layer keeps two tensors per
block of edges, normalised edges and inputs of the activation; queries, keys and activations are computed again. Normalised
edges (and edges) pass through a function as outputs where a later one needs them, so that gradients are added up inside the
parts. Node parts are the starting value of a matrix product's accumulator, and head sums are one thin product that leaves
logits in the layout that the softmax wants.

:func:`edge_logits`, :func:`gather_edges` and :func:`update_edges` state what is computed. Transforms of ``torch.func`` and
``torch.compile`` follow these plain definitions; everything else takes the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["edge_logits", "gather_edges", "keys_per_head", "normalize_edges", "transformed", "update_edges"]

PART = 2**18
"""Features of edges in one part: a megabyte in float32."""
EPSILON = 1e-5


def normalize_edges(edges: Tensor) -> Tensor:
    """Layer norm in the dtype of the edges, which autocast may want to leave."""
    with torch.autocast(edges.device.type, enabled=False):
        return functional.layer_norm(edges, edges.shape[-1:], eps=EPSILON)


def parts(edges: Tensor) -> Iterator[slice]:
    """Ranges of the batch that are worked through in turn; an accelerator takes the whole."""
    rows = max(PART // max(edges[0].numel(), 1), 1) if edges.device.type == "cpu" else len(edges)
    return (slice(start, start + rows) for start in range(0, len(edges), rows))


def transformed() -> bool:
    """Whether a transform of ``torch.func`` is at work."""
    return torch._C._are_functorch_transforms_active()


def by_definition() -> bool:
    """Whether a transform or a compiler is at work, which have to see plain operations."""
    return torch.compiler.is_compiling() or transformed()


def keys_per_head(dimension: int, heads: int) -> int:
    """Features of a query and of a key: both directions together are as wide as nodes, or a little wider."""
    return -(-dimension // (2 * heads))


def edge_logits(edges: Tensor, target: Tensor, source: Tensor, weight: Tensor, sums: int) -> tuple[Tensor, Tensor, Tensor]:
    """q·k of both directions: (target_i + ē_ij W_t) ∘ (source_j + ē_ij W_s), summed over equal parts, with ē = norm(e).

    Args:
        edges: e, (batch, targets, sources, d).
        target: Node parts of targets: queries, then keys of the reverse direction, (batch, targets, width).
        source: Node parts of sources: keys, then queries of the reverse direction, (batch, sources, width).
        weight: W_t and W_s side by side, (batch, d, 2 width).
        sums: Parts of the width, one for every head of each direction.

    Returns:
        Sums (sums, batch, targets, sources), normalised edges, edges.
    """
    if not by_definition():
        return EdgeLogits.apply(edges, target, source, weight, sums)
    normed = normalize_edges(edges)
    at_target, at_source = torch.bmm(normed.flatten(1, 2), weight).unflatten(1, edges.shape[1:3]).chunk(2, -1)
    products = (at_target + target.unsqueeze(2)) * (at_source + source.unsqueeze(1))
    return products.unflatten(-1, (sums, -1)).sum(-1).permute(3, 0, 1, 2), normed, edges


class EdgeLogits(Function):
    """:func:`edge_logits` that keeps normalised edges only."""

    apply: ClassVar[Callable[[Tensor, Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]]

    @staticmethod
    def forward(
        ctx: Any, edges: Tensor, target: Tensor, source: Tensor, weight: Tensor, sums: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See :func:`edge_logits`."""
        normed, deviations = torch.empty_like(edges), edges.new_empty(*edges.shape[:3], 1)
        logits, summing = edges.new_empty(sums, *edges.shape[:3]), EdgeLogits.summing(target, sums)
        for part in parts(edges):
            normed[part], _, deviations[part] = torch.native_layer_norm(edges[part], edges.shape[-1:], None, None, EPSILON)
            at_target, at_source = EdgeLogits.ends(normed[part], target[part], source[part], weight[part])
            products = (at_target * at_source).flatten(0, 1)
            logits[:, part] = torch.mm(summing, products.t()).view(-1, *edges[part].shape[:3])
        ctx.save_for_backward(normed, deviations, target, source, weight)
        ctx.sums = sums
        return logits, normed, edges

    @staticmethod
    def summing(target: Tensor, sums: int) -> Tensor:
        """Sums of equal parts as a matrix (sums, width): a product leaves them in the layout that the softmax wants."""
        identity = torch.eye(sums, dtype=target.dtype, device=target.device)
        return identity.repeat_interleave(target.shape[-1] // sums, 1)

    @staticmethod
    def ends(normed: Tensor, target: Tensor, source: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of both directions at both ends, (batch, targets · sources, width) each."""
        batch, targets, sources, _ = normed.shape
        # Node parts of every edge, side by side: where the product starts to add.
        wide = target.unsqueeze(2).expand(-1, -1, sources, -1), source.unsqueeze(1).expand(-1, targets, -1, -1)
        start = torch.cat(wide, -1).view(batch, targets * sources, -1)
        at_target, at_source = start.baddbmm_(normed.flatten(1, 2), weight).chunk(2, -1)
        return at_target, at_source

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, logits: Tensor, normed: Tensor, edges: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of outputs to gradients of inputs."""
        kept, deviations, target, source, weight = ctx.saved_tensors
        summing = EdgeLogits.summing(target, ctx.sums)
        to_edges, to_target, to_source = (torch.empty_like(tensor) for tensor in (kept, target, source))
        to_weight = torch.empty_like(weight)
        for part in parts(kept):
            at_target, at_source = EdgeLogits.ends(kept[part], target[part], source[part], weight[part])
            products = torch.mm(logits[:, part].flatten(1).t(), summing).view_as(at_target)
            ends = products.new_empty(*products.shape[:2], weight.shape[-1])
            torch.mul(products, at_source, out=ends[..., : products.shape[-1]])
            torch.mul(products, at_target, out=ends[..., products.shape[-1] :])
            split = ends.view(*kept[part].shape[:3], -1).tensor_split([target.shape[-1]], -1)
            torch.sum(split[0], 2, out=to_target[part])
            torch.sum(split[1], 1, out=to_source[part])
            flat = kept[part].flatten(1, 2)
            if ctx.needs_input_grad[3]:
                torch.bmm(flat.transpose(1, 2), ends, out=to_weight[part])
            change = torch.baddbmm(normed[part].flatten(1, 2), ends, weight[part].transpose(1, 2)).view_as(kept[part])
            # On normalised edges the norm's own derivative has mean 0 and deviation 1; the true deviation scales it.
            still = torch.zeros_like(deviations[part]), torch.ones_like(deviations[part])
            shape, wanted = kept.shape[-1:], [True, False, False]
            change, _, _ = torch.ops.aten.native_layer_norm_backward(change, kept[part], shape, *still, None, None, wanted)
            torch.addcmul(edges[part], change, deviations[part], out=to_edges[part])
        return to_edges, to_target, to_source, to_weight, None


def gather_edges(normed: Tensor, to_target: Tensor, to_source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_j a_ij ē_ij at the targets i and Σ_i a_ji ē_ij at the sources j.

    Args:
        normed: ē, (batch, targets, sources, d).
        to_target: Shares of messages to targets, (batch, targets, heads, sources).
        to_source: Shares of messages to sources, (batch, sources, heads, targets).

    Returns:
        (batch, targets, heads, d), (batch, sources, heads, d), normalised edges.
    """
    if not by_definition():
        return GatherEdges.apply(normed, to_target, to_source)
    if not torch.compiler.is_compiling():
        return to_target @ normed, to_source @ normed.transpose(1, 2), normed
    # A compiler fuses products and their sums; for a matrix product it would first copy the edges in another order.
    heads = range(to_target.shape[2])
    at_target = [(to_target[:, :, head, :, None] * normed).sum(2) for head in heads]
    at_source = [(to_source[:, :, head].transpose(1, 2).unsqueeze(-1) * normed).sum(1) for head in heads]
    return torch.stack(at_target, 2), torch.stack(at_source, 2), normed


class GatherEdges(Function):
    """:func:`gather_edges` that keeps no transposed copy of the edges."""

    apply: ClassVar[Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]]

    @staticmethod
    def forward(ctx: Any, normed: Tensor, to_target: Tensor, to_source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :func:`gather_edges`."""
        at_target = normed.new_empty(*to_target.shape[:3], normed.shape[-1])
        at_source = normed.new_empty(*to_source.shape[:3], normed.shape[-1])
        for part in parts(normed):
            at_target[part] = to_target[part] @ normed[part]
            at_source[part] = to_source[part] @ normed[part].transpose(1, 2)
        ctx.save_for_backward(normed, to_target, to_source)
        return at_target, at_source, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_target: Tensor, at_source: Tensor, through: Tensor) -> tuple[Tensor, ...]:
        """Gradients of outputs to gradients of inputs."""
        normed, to_target, to_source = ctx.saved_tensors
        change, change_target, change_source = (torch.empty_like(tensor) for tensor in ctx.saved_tensors)
        for part in parts(normed):
            change_target[part] = at_target[part] @ normed[part].transpose(2, 3)
            total = change[part].copy_(through[part])
            for head in range(to_target.shape[2]):
                value = at_source[part].unsqueeze(1)[..., head, :]
                total.addcmul_(to_target[part, :, head, :, None], at_target[part, :, head, None])
                total.addcmul_(to_source[part, :, head].transpose(1, 2).unsqueeze(-1), value)
                # Products and their sum: a matrix product would first copy the edges in another order.
                change_source[part, :, head] = (normed[part] * value).sum(-1).transpose(1, 2)
        return change, change_target, change_source


def update_edges(
    edges: Tensor, normed: Tensor, target: Tensor, source: Tensor, weight_in: Tensor, weight_out: Tensor
) -> Tensor:
    """e_ij + gelu(target_i + source_j + ē_ij W_in) W_out.

    Args:
        edges: e, (batch, targets, sources, d).
        normed: ē, of the same shape.
        target: Node parts of targets, (batch, targets, d).
        source: Node parts of sources, (batch, sources, d).
        weight_in: W_in of every network, (batch, d, d).
        weight_out: W_out of every network, (batch, d, d).

    Returns:
        (batch, targets, sources, d).
    """
    if not by_definition():
        return UpdateEdges.apply(edges, normed, target, source, weight_in, weight_out)
    hidden = torch.bmm(normed.flatten(1, 2), weight_in).view(edges.shape) + target.unsqueeze(2) + source.unsqueeze(1)
    return edges + torch.bmm(functional.gelu(hidden).flatten(1, 2), weight_out).view(edges.shape)


class UpdateEdges(Function):
    """:func:`update_edges` that keeps the activation's inputs, not its outputs."""

    apply: ClassVar[Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]]

    @staticmethod
    def forward(
        ctx: Any,
        edges: Tensor,
        normed: Tensor,
        target: Tensor,
        source: Tensor,
        weight_in: Tensor,
        weight_out: Tensor,
    ) -> Tensor:
        """See :func:`update_edges`."""
        # Contiguous, as products are written into views of them.
        hidden, new = (torch.empty_like(edges, memory_format=torch.contiguous_format) for _ in range(2))
        for part in parts(edges):
            torch.add(target[part].unsqueeze(2), source[part].unsqueeze(1), out=hidden[part])
            active = functional.gelu(hidden[part].flatten(1, 2).baddbmm_(normed[part].flatten(1, 2), weight_in[part]))
            torch.baddbmm(edges[part].flatten(1, 2), active, weight_out[part], out=new[part].flatten(1, 2))
        ctx.save_for_backward(normed, hidden, weight_in, weight_out)
        return new

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, new: Tensor) -> tuple[Tensor, ...]:
        """Gradients of outputs to gradients of inputs."""
        normed, hidden, weight_in, weight_out = ctx.saved_tensors
        to_normed = torch.empty_like(normed, memory_format=torch.contiguous_format)
        to_target, to_source = new[:, :, 0].clone(), new[:, 0].clone()
        to_in, to_out = torch.empty_like(weight_in), torch.empty_like(weight_out)
        for part in parts(normed):
            change, inner = new[part].flatten(1, 2), hidden[part].flatten(1, 2)
            if ctx.needs_input_grad[5]:
                torch.bmm(functional.gelu(inner).transpose(1, 2), change, out=to_out[part])
            change = torch.ops.aten.gelu_backward(torch.bmm(change, weight_out[part].transpose(1, 2)), inner)
            if ctx.needs_input_grad[4]:
                torch.bmm(normed[part].flatten(1, 2).transpose(1, 2), change, out=to_in[part])
            torch.bmm(change, weight_in[part].transpose(1, 2), out=to_normed[part].flatten(1, 2))
            change = change.view_as(new[part])
            torch.sum(change, 2, out=to_target[part])
            torch.sum(change, 1, out=to_source[part])
        return new, to_normed, to_target, to_source, to_in, to_out
