"""Weight matching: permute every network's hidden neurons to bring it as close as possible to a reference.

Ainsworth, Hayase and Srinivasa, "Git Re-Basin" (2023), section 3.2; coordinate descent over hidden groups, each step an
exact linear assignment, here for a whole zoo at once and with random restarts.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Container, Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture, is_perceptron
from wflib.networks import Networks
from wflib.symmetry.assignment import solve_assignments
from wflib.symmetry.distance import squared_distance
from wflib.symmetry.permutation import Permutations, identity, permute, permute_tensor, random_permutations
from wflib.symmetry.structured_matching import START_DONE, own_order, structured_matching

__all__ = ["order_free_matching", "weight_matching"]


def matching_gains(
    architecture: Architecture,
    reference: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    group: str,
    others: Container[str] = (),
) -> Tensor:
    """Inner products between the reference's neurons k and the networks' neurons j of one group.

    gains[n, k, j] = Σ over tensors of the group of ⟨reference slice k, network n's slice j⟩, but for tensors of ``others``.
    """
    gains = torch.zeros(())
    for spec in architecture.tensors:
        if group not in spec.axes or any(axis in others for axis in spec.axes):
            continue
        letters = string.ascii_lowercase[: len(spec.axes)]
        here = letters[spec.axes.index(group)]
        ours = letters.replace(here, "K")
        theirs = letters.replace(here, "J")
        gains = gains + torch.einsum(f"N{ours},N{theirs}->NKJ", reference[spec.name], weights[spec.name])
    return gains


def order_free_matching(reference: Networks, networks: Networks) -> Permutations:
    """Permutations by the weights of one hidden group each: the same networks result for every order of neurons given.

    Weights between two hidden groups, or between neurons of one, have inner products that depend on other orders, and are
    left out; so are running statistics. Nested groups are matched inside each pair of parents, which are matched by how well
    that fits. A good start for :func:`weight_matching`, and its result where there is one hidden group and no weight between
    its own neurons.

    Args:
        reference: One network per network to match.
        networks: Those to match.

    Returns:
        Indices per hidden group; the identity for groups without weights of their own.
    """
    architecture = networks.architecture
    found = identity(architecture, len(networks))
    if not is_perceptron(architecture):
        for family in (group.name for group in architecture.hidden_groups if group.parent is None):
            found |= own_order(reference, networks, family)
        return found
    for group in found:
        gains = matching_gains(architecture, reference.weights, networks.weights, group, found.keys() - {group})
        if gains.ndim:
            found[group] = solve_assignments(gains)
    return found


def weight_matching(
    reference: Networks,
    networks: Networks,
    generator: torch.Generator,
    restarts: int = 1,
    max_sweeps: int = 100,
    progress: Callable[[str], None] | None = None,
    first: Permutations | None = None,
) -> Permutations:
    """Permutations that (locally) minimize ‖θ_reference − π(θ)‖² for every network.

    Exact for one hidden group; for more, a coordinate descent whose result depends on where it starts, so the best of
    several starts is kept. The first start is the identity unless told otherwise, so the result is never worse than no
    alignment. Networks that are no perceptrons go to :func:`~wflib.symmetry.structured_matching.structured_matching`.

    Args:
        reference: One network for all, or one per network.
        networks: Those to align.
        generator: Draws the starts after the first.
        restarts: Number of starts, at least one.
        max_sweeps: Bound on sweeps over the groups; the objective grows with every sweep, so it ends by itself.
        progress: Called with a line of text after each start.
        first: Where the first descent starts, to sweep from the last group to the first; None for the order given, and for
            random sweeps (from the first group to the last in networks that are no perceptrons). Which group comes first
            decides which local optimum is found, by a percent or so of the distance: what is compared must be swept alike.

    Returns:
        Indices per hidden group, to be applied with :func:`~wflib.symmetry.permutation.permute`.

    Raises:
        ValueError: ``restarts`` is below one, there is neither one reference nor one per network, or a network holds NaN or
            infinity.
    """
    if restarts < 1:
        raise ValueError(f"weight_matching: restarts must be at least 1, got {restarts}.")
    for side, name in ((networks, "weights"), (reference, "the reference")):
        side.require_finite(f"weight_matching: {name}")
    architecture, count = networks.architecture, len(networks)
    if len(reference) not in (1, count):
        raise ValueError(f"weight_matching: expected 1 reference or one for each of {count} networks, got {len(reference)}.")
    if not is_perceptron(architecture):
        return structured_matching(reference, networks, generator, restarts, max_sweeps, first, progress)
    reference = reference.map(lambda tensor: tensor.expand(count, *tensor.shape[1:]))
    best, best_distance = identity(architecture, count), None
    for restart in range(restarts):
        if restart == 0 and first:
            start, orders = first, [list(range(len(first)))[::-1]] * max_sweeps
        else:
            start = random_permutations(architecture, count, generator) if restart > 0 else best
            # Drawn at once, so that what one network needs shifts no other network's random numbers.
            orders = torch.rand(max_sweeps, len(start), generator=generator, device=generator.device).argsort(1).tolist()
        found = descend(reference, networks, start, orders)
        distance = squared_distance(reference, permute(networks, found)).cpu()  # where permutations are
        if best_distance is None:
            best, best_distance = found, distance
        else:
            better = distance < best_distance
            best = {name: torch.where(better[:, None], found[name], best[name]) for name in best}
            best_distance = torch.minimum(distance, best_distance)
        if progress is not None:
            progress(START_DONE.format(restart + 1, restarts, best_distance.mean()))
    return best


def descend(reference: Networks, networks: Networks, start: Permutations, orders: list[list[int]]) -> Permutations:
    """Coordinate descent from one start, by one order of groups a sweep.

    A group's assignment is solved again only where a group that it shares a tensor with has moved since.
    """
    architecture, found = networks.architecture, {name: indices.clone() for name, indices in start.items()}
    groups = list(found)
    tied = torch.tensor(
        [[any({one, other} <= {*spec.axes} for spec in architecture.tensors) for other in groups] for one in groups]
    )
    stale = torch.ones(len(groups), len(networks), dtype=torch.bool)
    for order in orders:
        if not stale.any():
            break
        for position in order:
            active, group = stale[position].nonzero().squeeze(1), groups[position]
            if len(active) == 0:
                continue
            indices = found[group][active]
            others = {name: found[name][active] for name in groups if name != group}
            specs = [spec for spec in architecture.tensors if group in spec.axes]
            target = {spec.name: reference.weights[spec.name][active] for spec in specs}
            moving = {spec.name: permute_tensor(spec, networks.weights[spec.name][active], others) for spec in specs}
            gains = matching_gains(architecture, target, moving, group)
            proposal = solve_assignments(gains)
            # Compare objectives, not indices: ties must not count as progress or the sweep would never end.
            gain = gains.gather(2, proposal.unsqueeze(2).to(gains.device)).sum((1, 2)).cpu()
            before = gains.gather(2, indices.unsqueeze(2).to(gains.device)).sum((1, 2)).cpu()
            better = gain > before + 1e-6 * before.abs().clamp_min(1e-6)
            found[group][active] = torch.where(better[:, None], proposal, indices)
            stale[:, active[better]] |= tied[position][:, None]
            stale[position, active] = False
    return found
