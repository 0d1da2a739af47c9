"""Everything about one set of networks: a row per network, one record for the set, and moments a tensor at a time."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor

from wflib.evaluation.copying import detectable_by_ratio, ratio_with_error
from wflib.evaluation.diversity import jensen_shannon_divergences, mean_over_pairs
from wflib.evaluation.function_novelty import largest_error_overlap
from wflib.evaluation.mistakes import PackedMistakes, training_mistakes
from wflib.evaluation.moments import MOMENT_SCHEMA, tensor_moments
from wflib.evaluation.novelty import NEIGHBOURS, error_overlap, nearest_candidate, nearest_distance, thin_trajectories
from wflib.evaluation.quality import bayesian_model_average, mean_and_std
from wflib.evaluation.score_errors import SCORE_ERRORS, SCORES, mean_error, score_errors, score_terms
from wflib.evaluation.variance import spread_ratio
from wflib.networks import Networks, accuracy, negative_log_likelihood, predict, require_classification, wrong_predictions
from wflib.rng import random_order
from wflib.symmetry import permute, weight_matching
from wflib.tasks import Split
from wflib.zoo import AnyZoo

__all__ = [
    "CURVE_SCHEMA",
    "GROUP_SCHEMA",
    "NETWORK_SCHEMA",
    "copying_ratio",
    "evaluate_networks",
    "sampling_quality",
    "training_mistakes",
]

NOVELTIES = ("nearest_distance", "error_overlap", "largest_error_overlap")
COPYING = ("copying_ratio", "copying_ratio_error", "detectable_by_ratio")
SETS = 3
"""Most sets of training trajectories of a copying ratio here, where many sources are compared; the audit takes more."""
ERRORS = ("diversity_error", "variance_ratio_error", *(f"{name}_error" for name in NOVELTIES))

NETWORK_SCHEMA: dict[str, str] = {
    "source": "str",
    "network": "int64",
    **dict.fromkeys([*SCORES, *NOVELTIES], "float64"),
}
"""Column → dtype of the table with one row per network; novelty is NaN where it does not apply.

``error_overlap`` is that with the training network nearest in weights, ``largest_error_overlap`` the largest with any, as in
:func:`~wflib.evaluation.function_novelty.largest_error_overlap`.
"""

GROUP_SCHEMA: dict[str, str] = {
    "source": "str",
    "networks": "int64",
    "novelty_networks": "int64",
    **dict.fromkeys(
        [
            *("accuracy_mean", "accuracy_std", "nll_mean", "nll_std", "ece_mean", "brier_mean"),
            *("bma_accuracy", "bma_nll", "bma_ece", "bma_brier"),
            *("diversity", "variance_ratio", "mean_shift", "error_overlap_mean", "largest_error_overlap_mean"),
            *("nearest_distance_mean", "nearest_distance_std", "nearest_distance_min", *COPYING),
            *(*SCORE_ERRORS, *ERRORS),
        ],
        "float64",
    ),
}
"""Column → dtype of the table with one row per source; what compares networks is NaN for a single one.

``novelty_networks`` is how many of them have a nearest distance. ``…_error`` are standard errors of means: of scores as
:func:`~wflib.evaluation.score_errors.score_errors` says, of all others over networks.
``mean_shift`` is the largest of :func:`~wflib.evaluation.moments.tensor_moments` over tensors, ``copying_ratio``, its error
and the share of copies that it would find are those of :func:`copying_ratio`.
"""

CURVE_SCHEMA: dict[str, str] = {
    "steps": "int64",
    **dict.fromkeys(["guidance", "accuracy_mean", "accuracy_std", "nll_mean", "nll_std"], "float64"),
}
"""Column → dtype of the table with one row per way of sampling."""


def sampling_quality(networks: Networks, split: Split) -> dict[str, float]:
    """Mean and deviation of accuracy and NLL over networks, by the column names of ``CURVE_SCHEMA``."""
    log_probabilities = predict(networks, split.inputs)
    found = {}
    for name, measure in (("accuracy", accuracy), ("nll", negative_log_likelihood)):
        found[f"{name}_mean"], found[f"{name}_std"] = mean_and_std(measure(log_probabilities, split.targets).double())
    return found


def novelty(
    networks: Networks,
    training: AnyZoo,
    generator: torch.Generator,
    trajectory: Tensor | None,
    snapshots: int,
    shortlist: int,
) -> tuple[Tensor, Tensor]:
    """Distance to and index of the nearest training network: first which trajectory, then which of its snapshots.

    Thinned trajectories keep the shortlist diverse; looking at all snapshots of the one found keeps copies of a snapshot
    that thinning dropped from looking new.

    Returns:
        Distance (networks,), infinite where no foreign trajectory exists, and index into ``training``, −1 there.
    """
    device = networks.device
    everything, kept = training.networks.to(device), thin_trajectories(training, snapshots)
    candidates = training.select(kept).networks.to(device)
    own = None if trajectory is None else trajectory.cpu()[:, None] == training.trajectory[kept][None, :]
    distance, index = nearest_distance(networks, candidates, generator, shortlist, excluded=own)
    index = torch.where(index < 0, -1, kept.to(device)[index.clamp_min(0)])
    siblings = all_of_trajectories(training.trajectory, index.cpu())
    refined, better = nearest_candidate(networks, everything, siblings, generator)
    closer = refined < distance
    return torch.where(closer, refined, distance), torch.where(closer, better, index)


def all_of_trajectories(trajectory: Tensor, index: Tensor) -> Tensor:
    """Indices of all networks of the trajectory that each of some is of, (some, most); −1 where there are fewer or none.

    Args:
        trajectory: Of each network, (networks,).
        index: Some of them, (some,); −1 for none.
    """
    numbers, order = trajectory.sort(stable=True)
    runs = trajectory[index.clamp_min(0)]
    first, last = (torch.searchsorted(numbers, runs, right=right) for right in (False, True))
    places = first[:, None] + torch.arange(int((last - first).max()))
    within = (places < last[:, None]) & (index >= 0)[:, None]
    return torch.where(within, order[places.clamp_max(len(order) - 1)], -1)


def copying_ratio(
    networks: Networks, training: AnyZoo, unseen: AnyZoo, generator: torch.Generator, shortlist: int = NEIGHBOURS
) -> dict[str, float]:
    """Mean distance to the nearest training network over that to the nearest of as many networks never learned from.

    Last snapshots of as many trajectories on both sides, of training ones a mean over several disjoint sets, the same for
    all networks that are compared with one zoo. One for networks of any distribution that know nothing of the
    training networks in particular, below one for copies: unlike a comparison with held-out networks' own distances it does
    not confuse copying with a distribution that is narrower or wider than the zoo's. A ratio of means has little power: few
    copies hardly move it, and those of trajectories that are not among the chosen ones not at all.

    Args:
        networks: In any neuron order.
        training: The part of the zoo that was learned from.
        unseen: The part that was held out.
        generator: For weight matching, and resamples.
        shortlist: Neighbours that are matched.

    Returns:
        ``copying_ratio``; ``copying_ratio_error``, its standard error over networks and, where there are several sets, over
        the choice of trajectories; ``detectable_by_ratio``, the share of verbatim copies that it finds with 95 %. NaN where
        either part is empty or all distances are zero, errors also for one network, and the share where not even copies
        alone are found.
    """
    sides = [part.select(thin_trajectories(part, 1)) for part in (training, unseen)]
    count = min(map(len, sides))
    if count == 0:
        return dict.fromkeys(COPYING, math.nan)
    choice = torch.Generator().manual_seed(0)
    chosen, other = (random_order(len(side), choice) for side in sides)
    parts = [(sides[0], some) for some in chosen.split(count)[: min(SETS, len(chosen) // count)]]
    *seen, unseen_distance = (
        nearest_distance(networks, side.select(some).networks.to(networks.device), generator, shortlist)[0].double().cpu()
        for side, some in [*parts, (sides[1], other[:count])]
    )
    distances = torch.stack(seen)
    if len(networks) == 1:
        return dict.fromkeys(COPYING, math.nan) | {"copying_ratio": (distances.mean() / unseen_distance).item()}
    found = ratio_with_error(distances, unseen_distance, generator)
    detectable = detectable_by_ratio(distances, unseen_distance, count / len(sides[0]), generator)
    error = found.error if len(seen) == 1 else math.hypot(found.error, found.error_trajectories)
    return dict(zip(COPYING, (found.ratio, error, detectable), strict=True))


@torch.no_grad()
def evaluate_networks(
    source: str,
    networks: Networks,
    split: Split,
    training: AnyZoo,
    bins: int,
    generator: torch.Generator,
    reference: Networks,
    *,
    trajectory: Tensor | None = None,
    unseen: AnyZoo | None = None,
    mistakes: Tensor | PackedMistakes | None = None,
    restarts: int = 3,
    snapshots: int = 2,
    shortlist: int = NEIGHBOURS,
    diversity_networks: int = 100,
    novelty_networks: int | None = None,
) -> tuple[pd.DataFrame, dict[str, str | int | float], pd.DataFrame]:
    """Align networks to the zoo's reference and measure quality, averaging, diversity, spread and novelty.

    Args:
        source: What the networks are, for the tables: ``"flow"``, ``"held-out"``, ``"gaussian-full"`` …
        networks: Classifiers of the architecture of ``training``, in any neuron order; canonical on both sides to compare
            modulo scalings too.
        split: Test examples.
        training: The aligned training part of the zoo.
        bins: Bins of the calibration error.
        generator: For weight matching, and for which networks enter the diversity.
        reference: The one network that ``training`` was aligned to.
        trajectory: Training run of each network, (networks,), when these are networks of the zoo: training networks of
            the same run then do not count as neighbours. None for drawn networks.
        unseen: The held-out part of the zoo, for the ``copying_ratio`` of drawn networks; None leaves it NaN.
        mistakes: :func:`training_mistakes` of the training networks, where several sources are compared with them; None
            computes them.
        restarts: Starts of the alignment to the reference.
        snapshots: Training networks per trajectory that compete for the shortlist of neighbours; all snapshots of the
            nearest trajectory are compared afterwards.
        shortlist: Neighbours that are matched, the most promising first.
        diversity_networks: Diversity is the mean over pairs of at most this many networks, a random subset of them.
        novelty_networks: How many networks, the first ones, have distances and error overlaps, the costliest columns, and a
            part in ``copying_ratio``; None for all. The others' are NaN.

    Returns:
        Rows with the columns of ``NETWORK_SCHEMA``, one record with the keys of ``GROUP_SCHEMA``, and rows with the columns
        of ``MOMENT_SCHEMA``, none for one network. What is undefined is NaN: deviations, diversity and variance ratio of
        one network, novelty of a network without foreign trajectories.

    Raises:
        ValueError: Regression, no networks, some that are not finite, or another architecture than the training networks'.
    """
    require_classification(networks.architecture, "evaluate_networks")
    if training.architecture != networks.architecture:
        raise ValueError(
            "evaluate_networks: expected the training networks' architecture, got another one; "
            "bring both to one form, ordinary or canonical."
        )
    count, device = len(networks), networks.device
    if count == 0:
        raise ValueError(f"evaluate_networks: expected at least one network of {source!r}, got none.")
    if trajectory is not None and tuple(trajectory.shape) != (count,):
        raise ValueError(f"Shape mismatch: trajectory expected ({count},), got {tuple(trajectory.shape)}.")
    networks = networks.to(training.networks.dtype)
    networks.require_finite(f"evaluate_networks: {source}")
    aligned = permute(networks, weight_matching(reference.to(device), networks, generator, restarts))
    log_probabilities = predict(aligned, split.inputs)
    terms = score_terms(log_probabilities, split.targets, bins)
    columns = {name: values.mean(1) for name, values in terms.items()}
    columns |= {name: torch.full((count,), math.nan) for name in NOVELTIES}
    asked = count if novelty_networks is None else min(novelty_networks, count)
    if asked:
        own = None if trajectory is None else trajectory[:asked]
        distance, index = novelty(aligned[:asked], training, generator, own, snapshots, shortlist)
        nearest = training.networks[index.clamp_min(0)].to(device)
        ours = wrong_predictions(log_probabilities[:asked], split.targets)
        overlap = error_overlap(ours, wrong_predictions(predict(nearest, split.inputs), split.targets)).diagonal()
        everyone = training_mistakes(training.networks.to(device), split) if mistakes is None else mistakes.to(device)
        runs = [None, None] if own is None else [each.to(device) for each in (own, training.trajectory)]
        largest = largest_error_overlap(ours, everyone, *runs)
        for name, values in zip(NOVELTIES, (distance, overlap, largest), strict=True):
            columns[name][:asked] = values.masked_fill(index < 0, math.nan).cpu()
    rows = pd.DataFrame(
        {
            "source": source,
            "network": range(count),
            **{name: values.double().cpu().numpy() for name, values in columns.items()},
        }
    )
    novel = {name: columns[name][: max(asked, 1)] for name in NOVELTIES}
    summary = {name: mean_and_std(values.double()) for name, values in (columns | novel).items()}
    average = score_terms(bayesian_model_average(log_probabilities)[None], split.targets, bins)
    subset = torch.randperm(count, generator=generator, device=generator.device)[:diversity_networks].to(device)
    several = count > 1
    moments = pd.DataFrame(columns=list(MOMENT_SCHEMA)).astype(MOMENT_SCHEMA)
    if several:
        moments = tensor_moments(source, networks, training.networks)
    group = {
        "source": source,
        "networks": count,
        **{f"{name}_mean": summary[name][0] for name in columns},
        **{f"{name}_std": summary[name][1] for name in ("accuracy", "nll", "nearest_distance")},
        "novelty_networks": asked,
        "nearest_distance_min": novel["nearest_distance"].double().min().item(),
        **dict.fromkeys(COPYING, math.nan),
        **{f"bma_{name}": values.mean().item() for name, values in average.items()},
        **score_errors(terms, average, trajectory),
        **dict.fromkeys(("diversity", "variance_ratio", *ERRORS), math.nan),
        "mean_shift": moments["shift"].max(),
    }
    if several:
        divergences = jensen_shannon_divergences(log_probabilities[subset])
        group["diversity"], group["diversity_error"] = mean_over_pairs(
            divergences, None if trajectory is None else trajectory[subset.cpu()]
        )
        spread = spread_ratio(aligned, training.networks, trajectory)
        group["variance_ratio"], group["variance_ratio_error"] = spread.mean, spread.error
        own = None if trajectory is None else trajectory[: max(asked, 1)]
        group |= {f"{name}_error": mean_error(novel[name], own) for name in NOVELTIES}
    if asked and unseen is not None:
        group |= copying_ratio(aligned[:asked], training, unseen, generator, shortlist)
    return rows.astype(NETWORK_SCHEMA), {name: group[name] for name in GROUP_SCHEMA}, moments
