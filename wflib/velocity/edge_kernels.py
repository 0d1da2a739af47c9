"""Relational layers on all edges at once by compiled kernels: float32 on CPU.

When each operation of a layer reads and writes all edges, memory bounds it. ``edge_kernels.cpp`` takes one network after
another through attention, and through the update, in parts that stay in a core's cache; threads share a batch's networks.
"""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wflib.graph import NeuralGraph
from wflib.velocity.edge_functions import keys_per_head, transformed
from wflib.velocity.kernel_library import build_kernels

if TYPE_CHECKING:
    from wflib.velocity.relational_transformer import RelationalLayer

__all__ = ["EdgeKernels", "relational_attention", "relational_update"]

VECTOR = 16
"""Numbers in the longest vector of a processor; widths of products are multiples of it."""


class EdgeKernels:
    """How a relational layer works on all edges in one tensor (batch, E, d).

    Args:
        graph: Of the base network.
        dimension: Features of a node and of an edge, d.
        heads: Attention heads.

    Raises:
        RuntimeError: The kernels cannot be built.
    """

    def __init__(self, graph: NeuralGraph, dimension: int, heads: int) -> None:
        build_kernels(dimension, heads)
        place, ends = graph.place, []
        for block in graph.edges:
            groups = (place[group] for group in (block.target, block.source))
            ends.append(torch.cartesian_prod(*(torch.arange(where.start, where.stop, device="cpu") for where in groups)))
        self.sizes = [len(pairs) for pairs in ends]
        self.ends = torch.cat(ends).t().to(torch.int32).contiguous()

    @staticmethod
    def support(dimension: int, heads: int) -> bool:
        """Whether there are kernels for these sizes on this system."""
        columns = 4 * heads * keys_per_head(dimension, heads)
        return sys.platform != "win32" and dimension % VECTOR == 0 and columns % VECTOR == 0

    @staticmethod
    def take(edges: Tensor) -> bool:
        """Whether the kernels work on edges of this kind: float32 on CPU, seen by no transform of ``torch.func``."""
        return edges.device.type == "cpu" and edges.dtype == torch.float32 and not transformed()

    def pack(self, edges: list[Tensor]) -> Tensor:
        """Blocks (batch, targets, sources, d) → (batch, E, d)."""
        return torch.cat([edge.flatten(1, 2) for edge in edges], 1)

    def unpack(self, edges: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
        """Inverse of :meth:`pack`, for blocks of these shapes."""
        return [part.view(shape) for part, shape in zip(edges.split(self.sizes, 1), shapes, strict=True)]

    def attend(
        self, layer: RelationalLayer, nodes: Tensor, edges: Tensor, scale: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As :meth:`EdgeBlocks.attend <wflib.velocity.edge_blocks.EdgeBlocks.attend>`, on edges (batch, E, d)."""
        batch, count, dimension = nodes.shape
        at_ends = layer.node_target(nodes), layer.node_source(nodes)
        mixed, carried, passed, _ = relational_attention(edges, *at_ends, layer.edge_ends(scale), self.ends, layer.heads)
        carried = (carried * scale.view(batch, 1, 1, 1, dimension)).flatten(3)
        to, back = (values.view(dimension, layer.heads, -1).transpose(0, 1) for values in layer.edge_values)
        from_edges = torch.einsum("bnhk,hkv->bnhv", carried, torch.cat([to, back], 1))
        return mixed + from_edges.reshape(batch, count, dimension), (edges, passed)

    def update(
        self, layer: RelationalLayer, nodes: Tensor, kept: tuple[Tensor, Tensor], weight_in: Tensor, weight_out: Tensor
    ) -> Tensor:
        """As :meth:`EdgeBlocks.update <wflib.velocity.edge_blocks.EdgeBlocks.update>`, on edges (batch, E, d)."""
        at_ends = layer.update_target(nodes), layer.update_source(nodes)
        updated: Tensor = relational_update(*kept, *at_ends, weight_in, weight_out, self.ends, layer.heads)
        return updated


def run(name: str, heads: int, ends: Tensor, edges: Tensor, nodes: int, *tensors: Tensor) -> None:
    """Call a kernel on contiguous tensors.

    Raises:
        ValueError: A tensor is not what a kernel would read.
    """
    batch, count, dimension = edges.shape
    expected = [(ends, torch.int32, 2), *((tensor, torch.float32, batch) for tensor in (edges, *tensors))]
    for tensor, dtype, length in expected:
        if (tensor.device.type, tensor.dtype, len(tensor)) != ("cpu", dtype, length):
            found = f"{len(tensor)} × … {tensor.dtype} on {tensor.device.type}"
            raise ValueError(f"{name}: expected a tensor of {length} × … {dtype} on cpu, found {found}.")
    sizes = (ctypes.c_int64(size) for size in (batch, nodes, count, torch.get_num_threads()))
    pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (ends, edges, *tensors))
    getattr(build_kernels(dimension, heads), name)(*sizes, *pointers)


def empty_like(*tensors: Tensor) -> list[Tensor]:
    """Dense tensors of the same shapes."""
    return [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in tensors]


@torch.library.custom_op("wflib::relational_attention", mutates_args=())
def relational_attention(
    edges: Tensor, target: Tensor, source: Tensor, weight: Tensor, ends: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attention along edges in both directions, as :mod:`wflib.velocity.relational_transformer` states it.

    Args:
        edges: e, (batch, E, d).
        target: Of every node as a target: query, key of the reverse direction, value, (batch, N, width + d).
        source: Of every node as a source: key, query of the reverse direction, value, (batch, N, width + d).
        weight: Queries and keys of normalised edges at the target, then at the source, (batch, d, 2 width).
        ends: Nodes that an edge goes to and comes from, int32, (2, E).
        heads: Attention heads.

    Returns:
        Shares times values of neighbours (batch, N, d); shares times normalised edges as a target and as a source
        (batch, N, heads, 2, d); a stand-in for the edges, zeros without memory, by which gradients that reach them later
        come back; shares (batch, 2 heads, E), which have no gradient.
    """
    (batch, count, dimension), nodes = edges.shape, target.shape[1]
    given = [tensor.contiguous() for tensor in (edges, target, source, weight)]
    shares = edges.new_empty(batch, 2 * heads, count)
    mixed, carried = edges.new_empty(batch, nodes, dimension), edges.new_empty(batch, nodes, heads, 2, dimension)
    run("attention", heads, ends.contiguous(), given[0], nodes, *given[1:], shares, mixed, carried)
    return mixed, carried, edges.new_zeros(()).expand(edges.shape), shares


@relational_attention.register_fake
def _(
    edges: Tensor, target: Tensor, source: Tensor, weight: Tensor, ends: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (batch, count, dimension), nodes = edges.shape, target.shape[1]
    mixed, carried = edges.new_empty(batch, nodes, dimension), edges.new_empty(batch, nodes, heads, 2, dimension)
    return mixed, carried, edges.new_zeros(()).expand(edges.shape), edges.new_empty(batch, 2 * heads, count)


@torch.library.custom_op("wflib::relational_attention_backward", mutates_args=())
def relational_attention_backward(
    edges: Tensor,
    target: Tensor,
    source: Tensor,
    weight: Tensor,
    ends: Tensor,
    shares: Tensor,
    mixed: Tensor,
    carried: Tensor,
    passed: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients at ``mixed``, ``carried`` and ``passed`` → gradients at edges, target, source and weight."""
    given = [tensor.contiguous() for tensor in (edges, target, source, weight, shares, mixed, carried, passed)]
    found = empty_like(*given[:4])
    run("attention_backward", shares.shape[1] // 2, ends.contiguous(), given[0], target.shape[1], *given[1:], *found)
    return found[0], found[1], found[2], found[3]


@relational_attention_backward.register_fake
def _(edges: Tensor, target: Tensor, source: Tensor, weight: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found = empty_like(edges, target, source, weight)
    return found[0], found[1], found[2], found[3]


def keep_for_attention(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """What the backward pass of attention needs."""
    *tensors, _ = inputs
    ctx.save_for_backward(*tensors, output[-1])


def through_attention(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of outputs to gradients of inputs."""
    *outputs, _ = gradients
    return (*relational_attention_backward(*ctx.saved_tensors, *outputs), None, None)


relational_attention.register_autograd(through_attention, setup_context=keep_for_attention)


@torch.library.custom_op("wflib::relational_update", mutates_args=())
def relational_update(
    edges: Tensor,
    passed: Tensor,
    target: Tensor,
    source: Tensor,
    weight_in: Tensor,
    weight_out: Tensor,
    ends: Tensor,
    heads: int,
) -> Tensor:
    """e_ij + gelu(target_i + source_j + ē_ij W_in) W_out with ē = norm(e).

    Args:
        edges: e, (batch, E, d); its gradient goes to ``passed``.
        passed: Stand-in for the edges from :func:`relational_attention`.
        target: Node parts of targets, (batch, N, d).
        source: Node parts of sources, (batch, N, d).
        weight_in: W_in of every network, (batch, d, d).
        weight_out: W_out of every network, (batch, d, d).
        ends: Nodes that an edge goes to and comes from, int32, (2, E).
        heads: Attention heads, which name the library.

    Returns:
        (batch, E, d).
    """
    given = [tensor.contiguous() for tensor in (edges, target, source, weight_in, weight_out)]
    (updated,) = empty_like(edges)
    run("update", heads, ends.contiguous(), given[0], target.shape[1], *given[1:], updated)
    return updated


@relational_update.register_fake
def _(edges: Tensor, *_: object) -> Tensor:
    return empty_like(edges)[0]


@torch.library.custom_op("wflib::relational_update_backward", mutates_args=())
def relational_update_backward(
    edges: Tensor,
    target: Tensor,
    source: Tensor,
    weight_in: Tensor,
    weight_out: Tensor,
    ends: Tensor,
    heads: int,
    updated: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradient at the updated edges → gradients at edges, target, source, weight_in and weight_out."""
    given = [tensor.contiguous() for tensor in (edges, target, source, weight_in, weight_out, updated)]
    found = empty_like(*given[:5])
    run("update_backward", heads, ends.contiguous(), given[0], target.shape[1], *given[1:], *found)
    return found[0], found[1], found[2], found[3], found[4]


@relational_update_backward.register_fake
def _(
    edges: Tensor, target: Tensor, source: Tensor, weight_in: Tensor, weight_out: Tensor, *_: object
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    found = empty_like(edges, target, source, weight_in, weight_out)
    return found[0], found[1], found[2], found[3], found[4]


def keep_for_update(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """What the backward pass of an update needs."""
    edges, _, *tensors, ctx.heads = inputs
    ctx.save_for_backward(edges, *tensors)


def through_update(ctx: Any, updated: Tensor) -> tuple[Tensor | None, ...]:
    """Gradient of the output to gradients of inputs."""
    return (None, *relational_update_backward(*ctx.saved_tensors, ctx.heads, updated), None, None)


relational_update.register_autograd(through_update, setup_context=keep_for_update)
