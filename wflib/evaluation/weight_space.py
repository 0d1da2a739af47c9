"""What can be said of networks without examples: spread, moments and novelty in weights, nothing of what they predict."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor

from wflib.evaluation.moments import MOMENT_SCHEMA, tensor_moments
from wflib.evaluation.novelty import NEIGHBOURS
from wflib.evaluation.quality import mean_and_std
from wflib.evaluation.summary import GROUP_SCHEMA, NETWORK_SCHEMA, copying_ratio, novelty
from wflib.evaluation.variance import variance_ratio
from wflib.networks import Networks
from wflib.symmetry import permute, weight_matching
from wflib.zoo import Zoo

__all__ = ["NO_EXAMPLES", "evaluate_weights"]

NO_EXAMPLES = (
    "the task none has no examples: networks are compared in their weights alone (novelty, variance ratio, moments), and "
    "nothing here says how well they predict."
)
"""What a report without examples says first."""


@torch.no_grad()
def evaluate_weights(
    source: str,
    networks: Networks,
    training: Zoo,
    generator: torch.Generator,
    reference: Networks,
    *,
    trajectory: Tensor | None = None,
    unseen: Zoo | None = None,
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
    distance, index = novelty(aligned, training, generator, trajectory, snapshots, shortlist)
    nearest = distance.masked_fill(index < 0, math.nan).double().cpu()
    rows = pd.DataFrame({name: pd.Series([math.nan] * count) for name in NETWORK_SCHEMA})
    rows["source"], rows["network"], rows["nearest_distance"] = source, range(count), nearest.numpy()
    moments = pd.DataFrame(columns=list(MOMENT_SCHEMA)).astype(MOMENT_SCHEMA)
    if several:
        moments = tensor_moments(source, networks, training.networks)
    group: dict[str, str | int | float] = dict.fromkeys(GROUP_SCHEMA, math.nan)
    mean, deviation = mean_and_std(nearest)
    group |= {"source": source, "networks": count, "mean_shift": moments["shift"].max()}
    group |= {"nearest_distance_mean": mean, "nearest_distance_std": deviation, "nearest_distance_min": nearest.min().item()}
    if several:
        group["variance_ratio"] = variance_ratio(aligned.flat, training.networks.flat).mean
    if unseen is not None:
        group["copying_ratio"] = copying_ratio(aligned, training, unseen, generator, shortlist)
    return rows.astype(NETWORK_SCHEMA), group, moments
