"""Nearest neighbours in weights for tests of copying: distances of the same networks to several sets, compared alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from wflib.evaluation.clusters import one_per_cluster
from wflib.evaluation.copying import (
    CloseTest,
    CopyingRatio,
    ShareTest,
    close_test,
    detectable_by_closeness,
    detectable_by_ratio,
    ratio_with_error,
    share_test,
)
from wflib.evaluation.novelty import nearest_candidate, shortlists, thin_trajectories
from wflib.networks import Networks
from wflib.rng import random_order
from wflib.zoo import AnyZoo, StoredNetworks

__all__ = ["CopyingAudit", "audit_copying", "nearest_of_sets"]

Some = TypeVar("Some", Networks, StoredNetworks)
"""Networks in memory, or on disk: parts of one zoo are of one kind."""

SETS = 5
"""Most disjoint sets of training trajectories, each as large as the held-out part, that the copying ratio is a mean over."""


@dataclass(frozen=True)
class CopyingAudit:
    """What :func:`audit_copying` returns.

    Attributes:
        ratio: Nearest training over nearest of as many held-out trajectories.
        share: Networks whose nearest neighbour of all is a training network.
        close: Networks nearer to a training network by far, relative to held-out ones, than any held-out network.
        detectable_by_ratio: Share of verbatim copies that a test of the ratio alone, at 5 %, finds with 95 %.
        detectable_by_closeness: Share that ``close`` finds with 95 %, at the given level.
    """

    ratio: CopyingRatio
    share: ShareTest
    close: CloseTest
    detectable_by_ratio: float
    detectable_by_closeness: float


@torch.no_grad()
def nearest_of_sets(
    queries: Networks,
    networks: Networks | StoredNetworks,
    sets: list[Tensor],
    generator: torch.Generator,
    shortlist: int = 5,
    excluded: Tensor | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Distance modulo permutation to the nearest network of each of several sets; the costly bound is computed once.

    Args:
        queries: In any neuron order.
        networks: In any neuron order, on the same device.
        sets: Which networks each set has, (networks,) bool each.
        generator: For weight matching.
        shortlist: Candidates per query and set that are matched.
        excluded: Pairs that do not count, (queries, networks) bool; None for none.

    Returns:
        For each set distance and index as of :func:`~wflib.evaluation.novelty.nearest_candidate`, infinite and −1 for none.
    """
    near = shortlists(queries, networks, sets, shortlist, excluded)
    return [nearest_candidate(queries, networks, candidates, generator) for candidates in near]


def together(one: Some, other: Some) -> Some:
    """The networks of both parts of a zoo, in memory or on disk as the parts are."""
    if isinstance(one, StoredNetworks):
        return one.joined(other)
    return Networks.from_flat(one.architecture, torch.cat([one.flat, other.flat]))


@torch.no_grad()
def audit_copying(
    networks: Networks,
    training: AnyZoo,
    unseen: AnyZoo,
    generator: torch.Generator,
    trajectory: Tensor | None = None,
    snapshots: int = 1,
    shortlist: int = 5,
    permutations: int = 999,
    level: float = 0.05,
) -> CopyingAudit:
    """All tests of copying of independent networks, in weights modulo permutation.

    Half of the held-out trajectories are queries of :func:`~wflib.evaluation.copying.close_test`, the other half what
    closeness is relative to, so that queries are no neighbours of each other and all networks are treated alike.

    Args:
        networks: In any neuron order; canonical as the zoo's, to compare modulo scalings too.
        training: The part of the zoo that was learned from.
        unseen: The part that was held out, of four trajectories at least.
        generator: Chooses trajectories and resamples.
        trajectory: Training run of each network, (networks,), where they are training networks, whose own does not count.
        snapshots: Networks per trajectory that are neighbours, the last one and earlier ones.
        shortlist: Neighbours that are matched, the most promising first.
        permutations: Relabellings of the test of shares.
        level: Below which the p-value of ``close`` counts, for the share of copies that it finds: of several tests together
            the adjusted one.

    Returns:
        The tests and what share of copies they would find.

    Raises:
        ValueError: No training networks, or fewer than four held-out trajectories.
    """
    sides = [part.select(thin_trajectories(part, snapshots)) for part in (training, unseen)]
    numbers, run = torch.cat([side.trajectory for side in sides]).unique(return_inverse=True)
    learned = torch.arange(len(run)) < len(sides[0])
    of_training = torch.zeros(len(numbers), dtype=torch.bool).index_fill_(0, run[learned], True)
    trained, held = run[learned].unique(), run[~learned].unique()
    if len(trained) < 2 or len(held) < 4:
        raise ValueError(
            "audit_copying: expected at least two training and four held-out trajectories, "
            f"got {len(trained)} and {len(held)}."
        )
    neighbours = together(*(side.networks for side in sides)).to(networks.device)
    held = held[random_order(len(held), generator)]
    asking, relative_to = held[: len(held) // 2], torch.isin(run, held[len(held) // 2 :])
    size = min(len(trained), len(held))
    equal = trained[random_order(len(trained), generator)].split(size)[: min(SETS, len(trained) // size)]
    as_many = held[random_order(len(held), generator)[:size]]
    sets = [torch.ones_like(learned), learned, relative_to, *(torch.isin(run, part) for part in (as_many, *equal))]
    own = None if trajectory is None else trajectory.cpu()[:, None] == numbers[run][None, :]
    everything, *others = nearest_of_sets(networks, neighbours, sets, generator, shortlist, own)
    seen, reference, unseen_equal, *seen_sets = (distance.double().cpu() for distance, _ in others)
    seen_equal = torch.stack(seen_sets)
    candidates = unseen.select(torch.isin(unseen.trajectory, numbers[asking]))
    candidates = candidates[one_per_cluster(candidates.trajectory, generator)]
    asked = nearest_of_sets(candidates.networks.to(networks.device), neighbours, sets[1:3], generator, shortlist)
    asked_seen, asked_reference = (distance.double().cpu() for distance, _ in asked)
    tiny = torch.finfo(torch.float64).tiny
    return CopyingAudit(
        ratio=ratio_with_error(seen_equal, unseen_equal, generator),
        share=share_test(run[everything[1].cpu()], of_training, generator, permutations),
        close=close_test(seen / reference.clamp_min(tiny), asked_seen / asked_reference.clamp_min(tiny)),
        detectable_by_ratio=detectable_by_ratio(seen_equal, unseen_equal, size / len(trained), generator),
        detectable_by_closeness=detectable_by_closeness(len(seen), len(asked_seen), level),
    )
