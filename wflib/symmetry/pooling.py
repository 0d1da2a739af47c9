"""Statistics of zoos that respect permutation symmetry: shared by all coordinates that a permutation can exchange."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wflib.architecture import Architecture

__all__ = ["pool", "pooling_index"]


def pooling_index(architecture: Architecture, identities: bool = False) -> Tensor:
    """For each coordinate of the flat vector, the pool it belongs to; a pool of its own with ``identities``.

    Coordinates of one tensor share a pool when they differ only along axes of permutable groups. The number of pools does
    not depend on hidden widths, so statistics of one width serve another.

    Returns:
        (D,) int64.
    """
    permutable = set() if identities else {group.name for group in architecture.hidden_groups}
    pieces, offset = [], 0
    for spec in architecture.tensors:
        shape = architecture.shape(spec.name)
        compact = [1 if axis in permutable else size for axis, size in zip(spec.axes, shape, strict=True)]
        count = math.prod(compact)
        pieces.append((torch.arange(count).view(compact).expand(shape) + offset).reshape(-1))
        offset += count
    return torch.cat(pieces)


def pool(values: Tensor, index: Tensor) -> Tensor:
    """Mean of per-coordinate values over each pool: (D,) → (pools,)."""
    pools = int(index.max()) + 1
    totals = values.new_zeros(pools).index_add_(0, index, values)
    return totals / torch.bincount(index, minlength=pools)
