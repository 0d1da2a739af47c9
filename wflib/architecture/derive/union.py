"""Union-find over integers, many unions at a time."""

from __future__ import annotations

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

__all__ = ["Partition", "distinct_pairs", "distinct_rows"]


class Partition:
    """Integers 0, 1, … in classes; each class is named by its smallest member."""

    def __init__(self, size: int) -> None:
        self.names = torch.arange(size)

    def grow(self, count: int) -> Tensor:
        """Members that are classes of their own: (count,)."""
        new = torch.arange(len(self.names), len(self.names) + count)
        self.names = torch.cat([self.names, new])
        return new

    def of(self, members: Tensor) -> Tensor:
        """Names of the members' classes."""
        return self.names[members]

    def unite(self, a: Tensor, b: Tensor) -> Tensor:
        """Make one class of a's and b's, pair by pair: (pairs,). Returns the names that lost theirs to a smaller one."""
        pairs = distinct_pairs(self.of(a), self.of(b))[0]
        pairs = pairs[:, pairs[0] != pairs[1]]
        if not pairs.shape[1]:
            return pairs[0]
        involved: Tensor
        involved, places = pairs.unique(return_inverse=True)
        ones = torch.ones(places.shape[1], dtype=torch.bool)
        graph = coo_matrix((ones.numpy(), (places[0].numpy(), places[1].numpy())), shape=[len(involved)] * 2)
        labels = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
        smallest = torch.full((int(labels.max()) + 1,), len(self.names)).scatter_reduce_(0, labels, involved, "amin")
        renamed = torch.arange(len(self.names))
        renamed[involved] = smallest[labels]
        self.names = renamed[self.names]
        return involved[smallest[labels] != involved]


def distinct_pairs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of numbers below 2³¹ without repetition, (2, pairs), and for every given one which it is."""
    keys, which = ((a << 32) | b).unique(return_inverse=True)
    return torch.stack([keys >> 32, keys & 0xFFFFFFFF]), which


def distinct_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows without repetition, and for every row which it is."""
    if (rows == rows[:1]).all():
        return rows[:1], torch.zeros(len(rows), dtype=torch.int64)
    found: tuple[Tensor, Tensor] = rows.unique(dim=0, return_inverse=True)
    return found
