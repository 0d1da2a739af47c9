"""Relational layers on all edges at once by compiled kernels: float32 on CPU.

When each operation of a layer reads and writes all edges, memory bounds it. ``edge_kernels.cpp`` takes one network after
another through attention, and through the update, in parts that stay in a core's cache. It is compiled for the machine it
runs on, once for every number of features and heads, and kept in the user's cache folder.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pooch
import torch
from torch import Tensor

from wflib.graph.blocks import NeuralGraph
from wflib.storage import atomic_path

if TYPE_CHECKING:
    from wflib.velocity.relational_transformer import RelationalLayer

__all__ = ["EdgeKernels", "build_kernels", "relational_attention", "update_edges"]

SOURCE = Path(__file__).with_suffix(".cpp")
# Not -ffast-math: a library linked with it changes how the whole process rounds small numbers.
FLAGS = [
    *("-std=c++17", "-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"),
    *("-fPIC", "-shared", "-pthread"),
]
VECTOR = 16
"""Numbers in the longest vector of a processor; widths of products are multiples of it."""


def width(dimension: int, heads: int) -> int:
    """Queries and keys of both directions at one end of an edge."""
    return 2 * heads * -(-dimension // (2 * heads))


def compiler() -> list[str]:
    """The C++ compiler's command, which CXX may name."""
    return shlex.split(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


@functools.cache
def build_kernels(dimension: int, heads: int) -> ctypes.CDLL:
    """Compile the kernels, or find them compiled before.

    Args:
        dimension: Features of a node and of an edge, d; it and twice the width of queries and keys are multiples of 16.
        heads: Attention heads.

    Returns:
        Functions of ``edge_kernels.cpp``.

    Raises:
        RuntimeError: There is no C++ compiler, or it fails.
    """
    command = [*compiler(), *FLAGS, f"-DDIMENSION={dimension}", f"-DHEADS={heads}"]
    remedy = "name one that takes the options of g++ in CXX, or set training.compile: false"
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"training.compile needs a C++ compiler, and {command[0]!r} was not found; {remedy}.")
    try:
        # What the compiler predefines tells its version and the processor it compiles for.
        asked = [*command, "-dM", "-E", "-x", "c++", os.devnull]
        defined = subprocess.run(asked, capture_output=True, check=True).stdout
        name = hashlib.sha256(SOURCE.read_bytes() + defined + shlex.join(command).encode()).hexdigest()[:20]
        path = Path(pooch.os_cache("wflib")) / "kernels" / f"{name}.so"
        if not path.exists():
            with atomic_path(path) as temporary:
                subprocess.run([*command, str(SOURCE), "-o", str(temporary)], capture_output=True, check=True)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-2000:]
        raise RuntimeError(f"training.compile: {command[0]} cannot compile {SOURCE.name}; {remedy}.\n{said}") from error
    return ctypes.CDLL(str(path))


class EdgeKernels:
    """How a relational layer works on all edges in one tensor (batch, E, d).

    Args:
        graph: Of the base network.
        dimension: Features of a node and of an edge, d.
        heads: Attention heads.
    """

    def __init__(self, graph: NeuralGraph, dimension: int, heads: int) -> None:
        build_kernels(dimension, heads)
        place, ends = graph.place, []
        for block in graph.edges:
            groups = (torch.arange(place[group].start, place[group].stop) for group in (block.target, block.source))
            ends.append(torch.cartesian_prod(*groups))
        self.sizes = [len(pairs) for pairs in ends]
        self.ends = torch.cat(ends).t().to(torch.int32).contiguous()

    @staticmethod
    def support(dimension: int, heads: int) -> bool:
        """Whether there are kernels for these sizes on this system."""
        return sys.platform != "win32" and dimension % VECTOR == 0 and 2 * width(dimension, heads) % VECTOR == 0

    @staticmethod
    def take(edges: Tensor) -> bool:
        """Whether the kernels work on edges of this kind: float32 on CPU, seen by no transform of ``torch.func``."""
        plain = not torch._C._are_functorch_transforms_active()
        return edges.device.type == "cpu" and edges.dtype == torch.float32 and plain

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
        return update_edges(*kept, *at_ends, weight_in, weight_out, self.ends)


def run(name: str, heads: int, ends: Tensor, edges: Tensor, nodes: int, *tensors: Tensor) -> None:
    """Call a kernel on contiguous tensors."""
    batch, count, dimension = edges.shape
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
    run("attention", heads, ends, given[0], nodes, *given[1:], shares, mixed, carried)
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
    run("attention_backward", shares.shape[1] // 2, ends, given[0], target.shape[1], *given[1:], *found)
    return tuple(found)


@relational_attention_backward.register_fake
def _(edges: Tensor, target: Tensor, source: Tensor, weight: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(empty_like(edges, target, source, weight))


def keep_for_attention(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple) -> None:
    """What the backward pass of attention needs."""
    *tensors, _ = inputs
    ctx.save_for_backward(*tensors, output[-1])


def through_attention(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of outputs to gradients of inputs."""
    *outputs, _ = gradients
    return (*relational_attention_backward(*ctx.saved_tensors, *outputs), None, None)


relational_attention.register_autograd(through_attention, setup_context=keep_for_attention)


@torch.library.custom_op("wflib::update_edges", mutates_args=())
def update_edges(
    edges: Tensor, passed: Tensor, target: Tensor, source: Tensor, weight_in: Tensor, weight_out: Tensor, ends: Tensor
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

    Returns:
        (batch, E, d).
    """
    given = [tensor.contiguous() for tensor in (edges, target, source, weight_in, weight_out)]
    (updated,) = empty_like(edges)
    run("update", 1, ends, given[0], target.shape[1], *given[1:], updated)
    return updated


@update_edges.register_fake
def _(edges: Tensor, *_: Tensor) -> Tensor:
    return empty_like(edges)[0]


@torch.library.custom_op("wflib::update_edges_backward", mutates_args=())
def update_edges_backward(
    edges: Tensor,
    target: Tensor,
    source: Tensor,
    weight_in: Tensor,
    weight_out: Tensor,
    ends: Tensor,
    updated: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradient at the updated edges → gradients at edges, target, source, weight_in and weight_out."""
    given = [tensor.contiguous() for tensor in (edges, target, source, weight_in, weight_out, updated)]
    found = empty_like(*given[:5])
    run("update_backward", 1, ends, given[0], target.shape[1], *given[1:], *found)
    return tuple(found)


@update_edges_backward.register_fake
def _(
    edges: Tensor, target: Tensor, source: Tensor, weight_in: Tensor, weight_out: Tensor, *_: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return tuple(empty_like(edges, target, source, weight_in, weight_out))


def keep_for_update(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    """What the backward pass of an update needs."""
    edges, _, *tensors = inputs
    ctx.save_for_backward(edges, *tensors)


def through_update(ctx: torch.autograd.function.FunctionCtx, updated: Tensor) -> tuple[Tensor | None, ...]:
    """Gradient of the output to gradients of inputs."""
    return (None, *update_edges_backward(*ctx.saved_tensors, updated), None)


update_edges.register_autograd(through_update, setup_context=keep_for_update)
