"""Axes of tensors: which of their places belong to which neurons of which groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.architecture.derive.facts import Site
from wflib.architecture.derive.groups import Membership

__all__ = ["Axis", "Block", "find_axes", "in_order"]


@dataclass(frozen=True, eq=False)
class Block:
    """The places of an axis that belong to one group.

    Attributes:
        group: Name of the group.
        places: (size, copies), in a nested group (parents, size, copies): places of each neuron, which has several where
            positions were flattened. With ``rows``, always (sets, size, copies).
        rows: None, or for each place of axis 0 the set (parent) whose members the places of this axis are, -1 for none.
    """

    group: str
    places: Tensor
    rows: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of one tensor; places that no block holds are fixed."""

    name: str
    size: int
    blocks: tuple[Block, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that it counts."""
        return tuple(block.group for block in self.blocks)

    @property
    def fixed(self) -> Tensor:
        """Places that no block holds, increasing: (places,) int64."""
        free = torch.ones(self.size, dtype=torch.bool)
        for block in self.blocks:
            free[block.places] = False
        return free.nonzero().squeeze(1)

    @property
    def is_group(self) -> bool:
        """Whether it counts the neurons of one group in their order, and nothing else."""
        return (
            len(self.blocks) == 1
            and self.blocks[0].rows is None
            and bool(
                self.blocks[0].places.shape == (self.size, 1)
                and (self.blocks[0].places[:, 0] == torch.arange(self.size)).all()
            )
        )


def find_axes(members: Membership, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[Axis, ...]]:
    """For every tensor its axes, named ``tensor[place]``."""
    sites: dict[tuple[str, int], list[Site]] = {}
    for site in members.sites:
        if site.axes:
            sites.setdefault((site.tensor, site.axes[-1]), []).append(site)
    return {
        tensor: tuple(
            Axis(f"{tensor}[{place}]", size, tuple(blocks(members, sites.get((tensor, place), []))))
            for place, size in enumerate(shape)
        )
        for tensor, shape in shapes.items()
    }


def blocks(members: Membership, sites: list[Site]) -> list[Block]:
    """One block for every group on an axis."""
    found = []
    for site in sites:
        groups = members.group[site.neurons]
        for index in groups[groups >= 0].unique().tolist():
            group, inside = members.groups[index], groups == index
            if site.within:
                found.append(within_block(members, site, group.name, inside))
                continue
            places = inside.nonzero().squeeze(1)
            neurons, roles = site.neurons[places], site.roles[places]
            parent, member = members.parent[neurons], members.member[neurons]
            shape = (group.size, -1) if group.parent is None else (int(parent.max()) + 1, group.size, -1)
            found.append(Block(group.name, places[in_order(parent, member, roles)].view(shape)))
    return found


def within_block(members: Membership, site: Site, group: str, inside: Tensor) -> Block:
    """The block of an axis whose places belong to different parents' members in different rows."""
    concerned = inside.any(1)
    parents = members.parent[site.neurons]
    rows = torch.where(concerned, torch.where(inside, parents, -1).max(1).values, -1)
    sets = []
    for parent in range(int(rows.max()) + 1):
        row = int((rows == parent).nonzero()[0])
        places = inside[row].nonzero().squeeze(1)
        roles, member = site.roles[row, places], members.member[site.neurons[row, places]]
        sets.append(places[in_order(member, roles)].view(int(member.max()) + 1, -1))
    return Block(group, torch.stack(sets), rows)


def in_order(*keys: Tensor) -> Tensor:
    """The order by the first key, then the next, then places as they are."""
    order = torch.arange(len(keys[0]))
    for key in reversed(keys):
        order = order[key[order].argsort(stable=True)]
    return order
