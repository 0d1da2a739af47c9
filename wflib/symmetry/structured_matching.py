"""Weight matching for networks of every kind: residual streams, flattened channels, heads with their widths.

Coordinate descent as in :mod:`wflib.symmetry.matching` (Ainsworth, Hayase and Srinivasa, "Git Re-Basin", 2023), over groups
with those nested in them: which head takes which place is decided by how well the best orders of their widths fit.
Statistics are permuted along, but stay out of the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from wflib.architecture import Architecture, Axis, Block
from wflib.networks import Networks
from wflib.symmetry.assignment import solve_families
from wflib.symmetry.distance import squared_distance
from wflib.symmetry.permutation import Permutations, identity, permute, permute_axis, random_permutations

__all__ = ["own_order", "structured_matching"]

START_DONE = "start {}/{}: mean squared distance {:.4f}"
"""What is said after each start: its number, of how many, and how near the best so far are."""
Pairs = Iterator[tuple[Block, Tensor, Tensor]]
"""Blocks of a group, with both sides' tensors whose first axis after the networks is the block's."""


def structured_matching(
    reference: Networks,
    networks: Networks,
    generator: torch.Generator,
    restarts: int,
    max_sweeps: int,
    first: Permutations | None = None,
    progress: Callable[[str], None] | None = None,
) -> Permutations:
    """Permutations that (locally) minimize ‖θ_reference − π(θ)‖² over all parameters for every network.

    For :func:`~wflib.symmetry.weight_matching`, which checks the arguments.

    Args:
        reference: One network for all, or one per network.
        networks: Those to align.
        generator: Draws where descents after the first start, and their orders of groups; the first starts at the identity
            and follows the network.
        restarts: Number of descents, at least one; each network keeps its best.
        max_sweeps: Bound on sweeps over the groups of one descent.
        first: Where the first descent starts, to sweep from the last group to the first; None for the identity.
        progress: Called with a line of text after each start.

    Returns:
        Indices per group, to be applied with :func:`~wflib.symmetry.permutation.permute`; no worse than where the first
        descent started.
    """
    architecture = networks.architecture
    best = first or identity(architecture, len(networks))
    lowest = squared_distance(reference, permute(networks, best))
    families = [group.name for group in architecture.hidden_groups if group.parent is None]
    for restart in range(restarts):
        if restart:
            start = random_permutations(architecture, len(networks), generator)
            # Drawn at once, so that what one network needs shifts no other network's random numbers.
            orders = torch.rand(max_sweeps, len(families), generator=generator, device=generator.device).argsort(1).tolist()
        else:
            start, orders = best, [list(range(len(families)))[:: -1 if first else 1]] * max_sweeps
        sweeps = [[families[place] for place in order] for order in orders]
        current = descend(reference, networks, start, sweeps)
        found = squared_distance(reference, permute(networks, current))
        better = (found < lowest).cpu()
        best = {
            name: torch.where(better.view(-1, *(1 for _ in new.shape[1:])), new, best[name]) for name, new in current.items()
        }
        lowest = torch.minimum(found, lowest)
        if progress is not None:
            progress(START_DONE.format(restart + 1, restarts, lowest.mean()))
    return best


def descend(reference: Networks, networks: Networks, start: Permutations, sweeps: list[list[str]]) -> Permutations:
    """Coordinate descent from one start; networks that a sweep has not moved take part in no other."""
    current = {name: indices.clone() for name, indices in start.items()}
    active = torch.arange(len(networks))
    for families in sweeps:
        if len(active) == 0:
            break
        aims = reference if len(reference) == 1 else reference[active]
        before = {name: indices[active] for name, indices in current.items()}
        now = dict(before)
        for family in families:
            now |= best_family(aims, networks[active], family, now)
        moved = torch.zeros(len(active), dtype=torch.bool)
        for name, indices in now.items():
            current[name][active] = indices
            moved |= (indices != before[name]).flatten(1).any(1)
        active = active[moved]
    return current


def best_family(reference: Networks, networks: Networks, group: str, current: Permutations) -> Permutations:
    """The best order of one group and of those nested in it, all others held as they are."""
    architecture = networks.architecture
    held = {name: indices for name, indices in current.items() if name not in (group, *children(architecture, group))}
    return matched(networks, group, lambda name: parts(reference, networks, name, held, current))


def own_order(reference: Networks, networks: Networks, group: str) -> Permutations:
    """The best order of one group and of those nested in it by what belongs to no other permutable neuron besides."""
    return matched(networks, group, lambda name: own_parts(reference, networks, name))


def children(architecture: Architecture, group: str) -> list[str]:
    """Names of the groups that are nested in a group."""
    return [other.name for other in architecture.hidden_groups if other.parent == group]


def matched(networks: Networks, group: str, pairs: Callable[[str], Pairs]) -> Permutations:
    """The best order of a group and of those nested in it, by the inner products of pairs of tensors."""
    architecture, count = networks.architecture, len(networks)
    size = architecture.size(group)
    gains = torch.zeros(count, size, size, dtype=torch.float64)
    for block, ours, theirs in pairs(group):
        gains = gains + torch.einsum("nkf,njf->nkj", slices(block, ours), slices(block, theirs)).double().cpu()
    fits = {}
    for child in children(architecture, group):
        width = architecture.size(child)
        fits[child] = torch.zeros(count, size, size, width, width, dtype=torch.float64)
        for block, ours, theirs in pairs(child):
            one, other = (slices(block, side) for side in (ours, theirs))
            fits[child] += torch.einsum("npkf,nqjf->npqkj", one, other).double().cpu()
    found, inner = solve_families(gains, fits)
    return {group: found, **inner}


def counting(architecture: Architecture, group: str) -> Iterator[tuple[str, int, tuple[Axis, ...], Block]]:
    """Where learned tensors count a group in the same order in every row: tensor, axis (from 1 on), all axes, block."""
    statistics = set(architecture.statistics)
    for name, _ in architecture.shapes:
        axes = architecture.axes(name)
        for place, axis in enumerate(axes, 1):
            for block in axis.blocks:
                if block.group == group and block.rows is None and name not in statistics:
                    yield name, place, axes, block


def parts(reference: Networks, networks: Networks, group: str, held: Permutations, current: Permutations) -> Pairs:
    """For every block of a group: the tensor it is in, with the block's axis in front.

    Other axes stand in their current order, so that a group on two axes of one tensor is matched on one at a time.

    Yields:
        The block, the reference's tensor and the networks' tensor.
    """
    architecture = networks.architecture
    parents = {other.name: other.parent for other in architecture.hidden_groups if other.parent is not None}
    for name, place, axes, block in counting(architecture, group):
        moved = networks.weights[name]
        for other, axis in enumerate(axes, 1):
            moved = permute_axis(moved, other, axis, held if other == place else current, parents)
        yield block, reference.weights[name].movedim(place, 1), moved.movedim(place, 1)


def own_parts(reference: Networks, networks: Networks, group: str) -> Pairs:
    """As :func:`parts`, without what lies where other axes count permutable neurons, so that no order matters.

    Yields:
        The block, the reference's tensor and the networks' tensor.
    """
    for name, place, axes, block in counting(networks.architecture, group):
        sides = [reference.weights[name], networks.weights[name]]
        for other, axis in enumerate(axes, 1):
            if other != place:
                sides = [side.index_select(other, axis.fixed.to(side.device)) for side in sides]
        yield block, sides[0].movedim(place, 1), sides[1].movedim(place, 1)


def slices(block: Block, tensor: Tensor) -> Tensor:
    """What belongs to each neuron, as one vector: (networks, neurons, …), nested (networks, parents, neurons, …)."""
    places = block.places
    if places.numel() != tensor.shape[1] or not torch.equal(places.flatten(), torch.arange(places.numel())):
        tensor = tensor.index_select(1, places.flatten().to(tensor.device))
    parted: Tensor = tensor.unflatten(1, places.shape)
    return parted.flatten(places.ndim)
