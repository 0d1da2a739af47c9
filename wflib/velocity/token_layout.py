"""Which weights are features of which tokens, which are edges between tokens, and which tokens attend to which.

Groups of tokens are numbered: the global token is group 0, hidden layers follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import Tensor

from wflib.architecture import Architecture

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
    """Which tensor becomes a feature of which tokens, read off the architecture's axes."""

    def __init__(self, architecture: Architecture) -> None:
        permutable = [group.name for group in architecture.hidden_groups]
        self.groups = permutable
        self.tokens: dict[str, list[tuple[str, int]]] = {group: [] for group in permutable}
        self.edges: list[tuple[str, str, str]] = []
        self.fixed: list[str] = []
        for spec in architecture.tensors:
            where = [(axis, group) for axis, group in enumerate(spec.axes, 1) if group in permutable]
            if len(where) == 0:
                self.fixed.append(spec.name)
            elif len(where) == 1:
                self.tokens[where[0][1]].append((spec.name, where[0][0]))
            elif len(where) == 2 == len(spec.axes):
                self.edges.append((spec.name, where[0][1], where[1][1]))
            else:
                raise ValueError(f"NeuronTokens: {spec.name} with axes {spec.axes} has no place as token or edge.")
        sizes = {spec.name: math.prod(architecture.shape(spec.name)) for spec in architecture.tensors}
        self.token_width = {
            group: sum(sizes[name] // architecture.size(group) for name, _ in members)
            for group, members in self.tokens.items()
        }
        self.fixed_width = sum(sizes[name] for name in self.fixed)
        index = {group: place for place, group in enumerate(permutable, 1)}
        self.ends = [(index[target], index[source]) for _, target, source in self.edges]
        self.sizes = [1, *map(architecture.size, permutable)]
        self.views = attention_views(self.sizes, self.ends)

    def split(self, tokens: Tensor, axis: int = 1) -> tuple[Tensor, ...]:
        """Tokens of each group, the global one first."""
        return tokens.split(self.sizes, axis)
