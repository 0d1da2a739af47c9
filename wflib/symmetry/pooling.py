"""Statistics of zoos that respect permutation symmetry: shared by all coordinates that a permutation can exchange."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.architecture import Architecture, Axis

__all__ = ["pool", "pooling_index"]


def pooling_index(architecture: Architecture, identities: bool = False) -> Tensor:
    """For each coordinate of the flat vector, the pool it belongs to; a pool of its own with ``identities``.

    Coordinates of one tensor share a pool when they differ only along axes of permutable groups. The number of pools does
    not depend on hidden widths, so statistics of one width serve another.

    Returns:
        (D,) int64.
    """
    pieces, offset = [], 0
    for name, shape in architecture.shapes:
        index = torch.zeros(shape, dtype=torch.int64)
        count = 1
        for place, axis in enumerate(architecture.axes(name)):
            classes = torch.arange(axis.size) if identities else exchangeable_places(axis)
            size = int(classes.max()) + 1
            index = index * size + classes.view([-1 if other == place else 1 for other in range(len(shape))])
            count *= size
        pieces.append(index.reshape(-1) + offset)
        offset += count
    return torch.cat(pieces)


def exchangeable_places(axis: Axis) -> Tensor:
    """For each place of an axis its class: places that a permutation can exchange share one. (size,) int64."""
    classes = torch.arange(axis.size)
    for block in axis.blocks:
        places = block.places.reshape(-1, block.places.shape[-1])
        classes[places] = places[0].expand(places.shape)
    found: Tensor = classes.unique(return_inverse=True)[1]
    return found


def pool(values: Tensor, index: Tensor) -> Tensor:
    """Mean of per-coordinate values over each pool: (D,) → (pools,)."""
    pools = int(index.max()) + 1
    totals = values.new_zeros(pools).index_add_(0, index, values)
    mean: Tensor = totals / torch.bincount(index, minlength=pools)
    return mean
