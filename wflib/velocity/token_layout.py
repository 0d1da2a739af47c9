"""Which tokens attend to which. Groups of tokens are numbered: the global token is group 0, groups of nodes follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import Tensor

from wflib.graph import NeuralGraph

__all__ = ["AttentionView", "TokenLayout", "attention_views"]


@dataclass(frozen=True)
class AttentionView:
    """Groups of tokens that attend to the same groups of tokens. The global token is group 0.

    Attributes:
        queries: Consecutive groups that attend.
        keys: Groups they attend to, in order.
        edges: Blocks of edges between the two: which, its direction (0 towards targets), rows and columns of the attention.
    """

    queries: slice
    keys: tuple[int, ...]
    edges: tuple[tuple[int, int, slice, slice], ...]


def attention_views(sizes: list[int], ends: list[tuple[int, int]]) -> list[AttentionView]:
    """Who attends to whom: one view if all groups share weights, otherwise one for each group.

    Args:
        sizes: Tokens of each group, the global one first.
        ends: Target and source group of each block of edges.
    """
    groups = range(len(sizes))
    near = {group: {0, group} for group in groups} | {0: set(groups)}
    for target, source in ends:
        near[target].add(source)
        near[source].add(target)
    merged = all(len(near[group]) == len(sizes) for group in groups)
    views = []
    for queries in [slice(None)] if merged else [slice(group, group + 1) for group in groups]:
        rows = within(sizes, groups[queries])
        keys = tuple(sorted(near[groups[queries][0]]))
        columns = within(sizes, keys)
        edges = [
            (index, direction, rows[receiver], columns[sender])
            for index, (target, source) in enumerate(ends)
            for direction, (receiver, sender) in enumerate([(target, source), (source, target)])
            if receiver in rows
        ]
        views.append(AttentionView(queries, keys, tuple(edges)))
    return views


def within(sizes: list[int], groups: Sequence[int]) -> dict[int, slice]:
    """Where groups lie if they alone stand side by side."""
    bounds = pairwise(accumulate((sizes[group] for group in groups), initial=0))
    return {group: slice(*bound) for group, bound in zip(groups, bounds, strict=True)}


class TokenLayout:
    """The tokens of a graph: the global one, then one for each node.

    Args:
        graph: Of the base network.

    Attributes:
        ends: Target and source group of each block of edges.
        sizes: Tokens of each group.
        views: Who attends to whom.
    """

    def __init__(self, graph: NeuralGraph) -> None:
        index = {group.name: place for place, group in enumerate(graph.groups, 1)}
        self.ends = [(index[block.target], index[block.source]) for block in graph.edges]
        self.sizes = [1, *(group.size for group in graph.groups)]
        self.views = attention_views(self.sizes, self.ends)

    def split(self, tokens: Tensor, axis: int = 1) -> tuple[Tensor, ...]:
        """Tokens of each group, the global one first."""
        found: tuple[Tensor, ...] = tokens.split(self.sizes, axis)
        return found
