"""Groups of neurons that may be exchanged: those that stand at the same places of the same tensors.

A neuron is what operations have tied together: entries that they made, each in a part of its own (query or key). Its
colour is the multiset of its places (tensor, axes, role); colours are refined by those of parents and members until nothing
changes. Neurons of one colour form a group; where their parents are several of one colour too, the group is nested: members
are exchanged within a parent, and move along with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wflib.architecture.derive.facts import Site
from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.union import distinct_pairs
from wflib.architecture.derive.wires import NOBODY, mix, sequence_hash

__all__ = ["Membership", "NeuronGroup", "composite_parts", "find_groups", "unique_names"]


@dataclass(frozen=True)
class NeuronGroup:
    """Neurons that may be exchanged for one another, or that have a fixed meaning (input, output).

    Attributes:
        name: Of the value in which its neurons appear first.
        size: Number of neurons; in a nested group, of those of one parent.
        permutable: Whether they may be exchanged.
        parent: For a nested group, the group whose neurons each have such members: heads, groups of channels.
    """

    name: str
    size: int
    permutable: bool
    parent: str | None = None


@dataclass(frozen=True)
class Membership:
    """Which group every neuron belongs to (-1 for none), and its place there, under its parent's."""

    groups: tuple[NeuronGroup, ...]
    group: Tensor
    parent: Tensor
    member: Tensor
    sites: tuple[Site, ...]


def find_groups(ledger: Ledger) -> Membership:
    """All groups of neurons, in the order in which they appear in the network."""
    sites = merged_sites(ledger)
    parts = parts_played(ledger) if ledger.parts is None else ledger.parts
    sites = tuple(replace(site, roles=mix(site.roles, parts[site.neurons])) for site in sites)
    locked = torch.zeros(len(ledger.neurons.names), dtype=torch.bool)
    locked[NOBODY] = True
    while True:
        names = ledger.neurons.names
        locked |= locked_neurons(ledger, locked, parts)
        children, parents = family(ledger)
        colour = refined_colours(ledger, sites, locked, children, parents)
        alike, count = colour.unique(return_inverse=True, return_counts=True)[1:]
        several = (count[alike] > 1) & ~locked
        nested = several[parents] & (alike[children] != alike[parents])
        children, parents = children[nested], parents[nested]
        crowded = torch.bincount(children, minlength=len(names)) > 1
        deep = torch.isin(parents, children)
        if crowded.any():
            # Two sets with the same members are one; if that makes sets overlap, locked_neurons will see it.
            for child in crowded.nonzero().squeeze(1):
                both = parents[children == child]
                ledger.tie(both[:-1], both[1:])
        elif deep.any():
            locked[children[deep]] = True
        else:
            return membership(ledger, sites, alike, locked, children, parents)


def merged_sites(ledger: Ledger) -> tuple[Site, ...]:
    """One site for every place, tied where several operations use it; those of values reduced to the axis that counts."""
    found: dict[tuple[str, tuple[int, ...], bool], Site] = {}
    sites = [site for site in ledger.sites if not site.axes]
    for site in (site for site in ledger.sites if site.axes):
        key = (site.tensor, site.axes, site.within)
        if key in found:
            first = found[key]
            ledger.tie(first.neurons, site.neurons)
            used = first.neurons != NOBODY
            neurons = torch.where(used, first.neurons, site.neurons)
            # The same tensor at two places of the network: a neuron stands in both.
            roles = torch.where(used & (site.neurons != NOBODY), mix(first.roles, site.roles), first.roles + site.roles)
            found[key] = Site(site.tensor, site.axes, neurons, roles, site.within)
        else:
            found[key] = site
    return (*(one_axis(ledger, site) for site in found.values()), *sites)


def one_axis(ledger: Ledger, site: Site) -> Site:
    """A site that spans axes of which only one counts neurons, on that axis; neurons of others are fixed."""
    if len(site.axes) < 2 or site.within:
        return site
    neurons = ledger.neurons.of(site.neurons)
    counting = counting_axes(ledger, site)
    if len(counting) > 1:
        ledger.fix(neurons)
    roles = torch.zeros_like(neurons) if ledger.parts is None else mix(ledger.parts[site.neurons])
    for axis in reversed([axis for axis in site.axes if axis not in counting[:1]]):
        neurons, roles = neurons.select(axis, 0), sequence_hash(roles, axis)
    if not counting:
        return Site(site.tensor, (), neurons.view(1), mix(torch.zeros(1, dtype=torch.int64)))
    return Site(site.tensor, tuple(counting[:1]), neurons, roles)


def counting_axes(ledger: Ledger, site: Site) -> list[int]:
    """The axes of a site along which neurons are several."""
    neurons = ledger.neurons.of(site.neurons)
    return [axis for axis in site.axes if (neurons != neurons.narrow(axis, 0, 1)).any()]


def parts_played(ledger: Ledger) -> Tensor:
    """A hash for every name that a neuron was born with: which operation made it, and what it was tied to where."""
    starts = torch.tensor([start for _, start, _ in ledger.names])
    parts = mix(torch.searchsorted(starts, torch.arange(len(ledger.neurons.names)), right=True))
    for _ in range(4):
        met = torch.zeros_like(parts)
        for key, ((a, b), where) in enumerate(ledger.ties):
            met.index_add_(0, a, mix(parts[b], key, 0, where))
            met.index_add_(0, b, mix(parts[a], key, 1, where))
        parts = mix(parts, met)
    return parts


def composite_parts(ledger: Ledger) -> Tensor | None:
    """What :func:`parts_played` says, if an operation made several of what became one neuron; else None.

    Entries of a parameter that are alike in one neuron, as at several positions, are told apart by their order.
    """
    merged_sites(ledger)
    names, parts = ledger.neurons.names, parts_played(ledger)
    starts = torch.tensor([start for _, start, _ in ledger.names])
    makers = torch.searchsorted(starts, torch.arange(1, len(names)), right=True)
    if (torch.stack([names[1:], makers]).unique(dim=1, return_counts=True)[1] == 1).all():
        return None
    soft = ledger.soft.nonzero().squeeze(1)
    which, count = torch.stack([names[soft], parts[soft]]).unique(dim=1, return_inverse=True, return_counts=True)[1:]
    order = which.argsort(stable=True)
    rank = torch.arange(len(soft)) - (count.cumsum(0) - count)[which[order]]
    parts[soft[order]] = mix(parts[soft[order]], rank)
    return parts


def locked_neurons(ledger: Ledger, locked: Tensor, parts: Tensor) -> Tensor:
    """Neurons that nothing may be exchanged with: fixed ones, and those in which several of one part ended up.

    What became one neuron against its operation's sense has members that are no longer apart: these are locked, too.
    """
    names, found = ledger.neurons.names, locked.clone()
    for neurons in ledger.fixed:
        found[names[neurons]] = True
    merged = torch.zeros_like(found)
    for neurons in ledger.born:
        if len(names[neurons].unique()) < len(neurons):
            roles = torch.stack([names[neurons], parts[neurons]]).unique(dim=1, return_counts=True)
            merged[roles[0][0, roles[1] > 1]] = True
    children, parents = family(ledger)
    return found | merged | torch.zeros_like(found).index_put_((children[merged[parents]],), torch.tensor(True))


def family(ledger: Ledger) -> tuple[Tensor, Tensor]:
    """Pairs of child and parent, each once, under their names."""
    if not ledger.children:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    pairs = torch.stack([torch.cat(side) for side in zip(*ledger.children, strict=True)])
    pairs = distinct_pairs(*ledger.neurons.of(pairs))[0]
    children, parents = pairs[:, (pairs[0] != pairs[1]) & (pairs != NOBODY).all(0)]
    return children, parents


def refined_colours(ledger: Ledger, sites: tuple[Site, ...], locked: Tensor, children: Tensor, parents: Tensor) -> Tensor:
    """A hash for every neuron; equal for those that stand at the same places and have the same relatives."""
    names = ledger.neurons.names
    colour = torch.zeros_like(names)
    keys: dict[tuple[str, tuple[int, ...]], int] = {}
    for site in sites:
        key = keys.setdefault((site.tensor, site.axes), len(keys))
        owners = names[site.neurons].reshape(-1)
        colour.index_add_(0, owners, mix(site.roles.reshape(-1), key))
    everyone = torch.arange(len(names))
    colour = torch.where(locked, mix(everyone, -1), colour)
    for _ in range(8):
        before = len(colour.unique())
        above = torch.zeros_like(colour).index_add_(0, children, mix(colour[parents], 1))
        below = torch.zeros_like(colour).index_add_(0, parents, mix(colour[children], 2))
        colour = torch.where(locked, colour, mix(colour, above, below))
        if len(colour.unique()) == before:
            break
    return torch.where(names == everyone, colour, mix(everyone, -2))


def membership(
    ledger: Ledger, sites: tuple[Site, ...], alike: Tensor, locked: Tensor, children: Tensor, parents: Tensor
) -> Membership:
    """Groups from classes of colours."""
    names = ledger.neurons.names
    parent_of = torch.full_like(names, -1)
    parent_of[children] = parents
    present = torch.zeros_like(locked)
    for site in sites:
        if site.axes:
            present[names[site.neurons.reshape(-1)]] = True
    present[parents] = True
    candidates = (present & ~locked & (names == torch.arange(len(names)))).nonzero().squeeze(1)
    group, parent, member = (torch.full_like(names, -1) for _ in range(3))
    starts = torch.tensor([start for _, start, _ in ledger.names])
    classes = [candidates[alike[candidates] == one] for one in alike[candidates].unique()]
    # Parents first, so that their places are known where members are counted.
    classes.sort(key=lambda ids: (int(parent_of[ids[0]]) >= 0, int(ids[0])))
    entries: list[tuple[int, str, int, int]] = []
    for index, ids in enumerate(classes):
        above = parent_of[ids]
        operation = ledger.names[int(torch.searchsorted(starts, ids[0], right=True)) - 1][0]
        if above[0] < 0:
            member[ids], parent[ids] = torch.arange(len(ids)), 0
        else:
            parent[ids] = member[above]
            order = parent[ids].argsort(stable=True)
            sets = len(above.unique())
            member[ids[order]] = torch.arange(len(ids)) % (len(ids) // sets)
        group[ids] = index
        is_parent = bool(torch.isin(ids, parents).any())
        size = int(member[ids].max()) + 1
        owner = int(group[above[0]]) if above[0] >= 0 else -1
        entries.append((int(ids[0]), f"{operation}.groups" if is_parent else operation, size, owner))
    titles = unique_names([title for _, title, _, _ in entries])
    groups = [
        NeuronGroup(title, size, True, titles[owner] if owner >= 0 else None)
        for title, (_, _, size, owner) in zip(titles, entries, strict=True)
    ]
    order = torch.tensor([first for first, _, _, _ in entries], dtype=torch.int64).argsort()
    place = torch.cat([order.argsort(), torch.tensor([-1])])
    return Membership(tuple(groups[i] for i in order), place[group[names]], parent[names], member[names], sites)


def unique_names(names: list[str]) -> list[str]:
    """The same names, with #2, #3, … behind those that have occurred before."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return found
