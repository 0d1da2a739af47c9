"""What can be said of networks without examples: spread, moments and novelty in weights, nothing of what they predict."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor

from wflib.evaluation.moments import MOMENT_SCHEMA, tensor_moments
from wflib.evaluation.novelty import NEIGHBOURS
from wflib.evaluation.quality import mean_and_std
from wflib.evaluation.score_errors import mean_error
from wflib.evaluation.summary import GROUP_SCHEMA, NETWORK_SCHEMA, copying_ratio, novelty
from wflib.evaluation.variance import spread_ratio
from wflib.networks import Networks
from wflib.symmetry import permute, weight_matching
from wflib.tasks import Dataset
from wflib.zoo import AnyZoo

__all__ = ["evaluate_weights", "weights_alone"]


def weights_alone(dataset: Dataset) -> str:
    """What a report without classified examples says first."""
    lacking = "classes" if dataset.has_examples else "examples"
    return (
        f"the task {dataset.task} has no {lacking}: networks are compared in their weights alone (novelty, variance ratio, "
        "moments), and nothing here says how well they predict."
    )


@torch.no_grad()
def evaluate_weights(
    source: str,
    networks: Networks,
    training: AnyZoo,
    generator: torch.Generator,
    reference: Networks,
    *,
    trajectory: Tensor | None = None,
    unseen: AnyZoo | None = None,
    novelty_networks: int | None = None,
    restarts: int = 3,
    snapshots: int = 2,
    shortlist: int = NEIGHBOURS,
) -> tuple[pd.DataFrame, dict[str, str | int | float], pd.DataFrame]:
    """The part of :func:`wflib.evaluation.evaluate_networks` that needs no examples; what does is NaN.

    Args:
        source: What the networks are, for the tables.
        networks: Of the architecture of ``training``, classifiers or not, in any neuron order.
        training: The aligned training part of the zoo.
        generator: For weight matching.
        reference: The one network that ``training`` was aligned to.
        trajectory: Training run of each network of a zoo, (networks,); None for drawn networks.
        unseen: The held-out part of the zoo, for the ``copying_ratio`` of drawn networks.
        novelty_networks: How many networks, the first ones, have a nearest distance; None for all.
        restarts: Starts of the alignment to the reference.
        snapshots: Training networks per trajectory that compete for the shortlist of neighbours.
        shortlist: Neighbours that are matched.

    Returns:
        Rows of ``NETWORK_SCHEMA``, a record of ``GROUP_SCHEMA``, rows of ``MOMENT_SCHEMA``.

    Raises:
        ValueError: No networks, some that are not finite, or another architecture than the training networks'.
    """
    if training.architecture != networks.architecture or not len(networks):
        raise ValueError(
            f"evaluate_weights: {source}: expected networks of the training networks' architecture, got "
            f"{len(networks)} of {'another' if len(networks) else 'it'}; bring both to one form, ordinary or canonical."
        )
    networks.require_finite(f"evaluate_weights: {source}")
    count, several = len(networks), len(networks) > 1
    aligned = permute(networks, weight_matching(reference.to(networks.device), networks, generator, restarts))
    asked = count if novelty_networks is None else min(novelty_networks, count)
    nearest = torch.full((count,), math.nan, dtype=torch.float64)
    if asked:
        own = None if trajectory is None else trajectory[:asked]
        distance, index = novelty(aligned[:asked], training, generator, own, snapshots, shortlist)
        nearest[:asked] = distance.masked_fill(index < 0, math.nan).double().cpu()
    rows = pd.DataFrame({name: pd.Series([math.nan] * count) for name in NETWORK_SCHEMA})
    rows["source"], rows["network"], rows["nearest_distance"] = source, range(count), nearest.numpy()
    moments = pd.DataFrame(columns=list(MOMENT_SCHEMA)).astype(MOMENT_SCHEMA)
    if several:
        moments = tensor_moments(source, networks, training.networks)
    group: dict[str, str | int | float] = dict.fromkeys(GROUP_SCHEMA, math.nan)
    found = nearest[: max(asked, 1)]
    mean, deviation = mean_and_std(found)
    group |= {"source": source, "networks": count, "novelty_networks": asked, "mean_shift": moments["shift"].max()}
    group |= {"nearest_distance_mean": mean, "nearest_distance_std": deviation, "nearest_distance_min": found.min().item()}
    if several:
        spread = spread_ratio(aligned, training.networks, trajectory)
        group |= {"variance_ratio": spread.mean, "variance_ratio_error": spread.error}
        group["nearest_distance_error"] = mean_error(found, None if trajectory is None else trajectory[: max(asked, 1)])
    if asked and unseen is not None:
        group |= copying_ratio(aligned[:asked], training, unseen, generator, shortlist)
    return rows.astype(NETWORK_SCHEMA), group, moments
