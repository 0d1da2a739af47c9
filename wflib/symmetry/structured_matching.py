"""Weight matching for networks of every kind: residual streams, flattened channels, heads with their widths.

Coordinate descent as in :mod:`wflib.symmetry.matching` (Ainsworth, Hayase and Srinivasa, "Git Re-Basin", 2023), over groups
with those nested in them: which head takes which place is decided by how well the best orders of their widths fit.
Statistics are permuted along, but stay out of the cost.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture, Block
from wflib.symmetry.assignment import solve_assignments
from wflib.symmetry.permutation import Permutations, identity, permute, permute_axis, random_permutations

__all__ = ["structured_matching"]


def structured_matching(
    architecture: Architecture,
    reference: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    generator: torch.Generator,
    restarts: int,
    max_sweeps: int,
) -> Permutations:
    """Permutations that (locally) minimize ‖θ_reference − π(θ)‖² over all parameters for every network.

    For :func:`~wflib.symmetry.weight_matching`, which checks the arguments.

    Args:
        architecture: Which places of which tensor belong to which neurons.
        reference: One network for all, tensors of shape (1, *shape), or one per network, (networks, *shape).
        weights: Networks to align, tensors of shape (networks, *shape).
        generator: Draws where descents after the first start, and their orders of groups; the first starts at the identity
            and follows the network.
        restarts: Number of descents, at least one; each network keeps its best.
        max_sweeps: Bound on sweeps over the groups of one descent.

    Returns:
        Indices per group, to be applied with :func:`~wflib.symmetry.permutation.permute`.
    """
    networks = len(next(iter(weights.values())))
    best, lowest = identity(architecture, networks), distance(architecture, reference, weights)
    families = [group.name for group in architecture.hidden_groups if group.parent is None]
    for restart in range(restarts):
        current = random_permutations(architecture, networks, generator) if restart else best
        for _ in range(max_sweeps):
            before = {name: indices.clone() for name, indices in current.items()}
            order = torch.randperm(len(families), generator=generator) if restart else torch.arange(len(families))
            for place in order.tolist():
                current |= best_family(architecture, reference, weights, families[place], current)
            if all(torch.equal(before[name], current[name]) for name in current):
                break
        found = distance(architecture, reference, permute(architecture, weights, current))
        better = found < lowest
        best = {
            name: torch.where(better.view(-1, *(1 for _ in new.shape[1:])), new, best[name]) for name, new in current.items()
        }
        lowest = torch.minimum(found, lowest)
    return best


def distance(architecture: Architecture, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """‖θ_A − θ_B‖² per network over parameters, without statistics."""
    statistics = set(architecture.statistics)
    names = [name for name, _ in architecture.shapes if name not in statistics]
    return sum(((a[name] - b[name]) ** 2).flatten(1).sum(1) for name in names)


def best_family(
    architecture: Architecture,
    reference: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    group: str,
    current: Permutations,
) -> Permutations:
    """The best order of one group and of those nested in it, all others held as they are."""
    size, networks = architecture.size(group), len(next(iter(weights.values())))
    children = [other.name for other in architecture.hidden_groups if other.parent == group]
    held = {name: indices for name, indices in current.items() if name not in (group, *children)}
    gains = torch.zeros(networks, size, size, dtype=torch.float64)
    for block, ours, theirs in parts(architecture, reference, weights, group, held, current):
        gains = gains + torch.einsum("nkf,njf->nkj", slices(block, ours), slices(block, theirs)).double().cpu()
    inner: Permutations = {}
    for child in children:
        width = architecture.size(child)
        fits = torch.zeros(networks, size, size, width, width, dtype=torch.float64)
        for block, ours, theirs in parts(architecture, reference, weights, child, held, current):
            one, other = (slices(block, side) for side in (ours, theirs))
            fits = fits + torch.einsum("npkf,nqjf->npqkj", one, other).double().cpu()
        inner[child] = solve_assignments(fits.flatten(0, 2)).view(networks, size, size, width)
        gains = gains + fits.gather(-1, inner[child].unsqueeze(-1)).sum((-1, -2))
    found = {group: solve_assignments(gains)}
    for child, orders in inner.items():
        chosen = found[group][:, :, None, None].expand(-1, -1, 1, orders.shape[-1])
        found[child] = orders.gather(2, chosen).squeeze(2)
    return found


def parts(architecture, reference, weights, group: str, held: Permutations, current: Permutations):
    """For every axis that counts a group: its block, and both sides' tensors with that axis in front.

    Other axes stand in their current order, so that a group on two axes of one tensor is matched on one at a time.

    Yields:
        The block, the reference's tensor and the networks' tensor.
    """
    statistics = set(architecture.statistics)
    parents = {other.name: other.parent for other in architecture.hidden_groups if other.parent is not None}
    for name, _ in architecture.shapes:
        axes = architecture.axes(name)
        for place, axis in enumerate(axes, 1):
            blocks = [block for block in axis.blocks if block.group == group and block.rows is None]
            if name in statistics or not blocks:
                continue
            moved = weights[name]
            for other, one in enumerate(axes, 1):
                moved = permute_axis(moved, other, one, held if other == place else current, parents)
            for block in blocks:
                yield block, reference[name].movedim(place, 1), moved.movedim(place, 1)


def slices(block: Block, tensor: Tensor) -> Tensor:
    """What belongs to each neuron, as one vector: (networks, neurons, …), nested (networks, parents, neurons, …)."""
    taken = tensor[:, block.places.to(tensor.device)]
    return taken.flatten(block.places.ndim)
