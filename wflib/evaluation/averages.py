"""Averages of one, two, … networks' predictions: what more networks are worth."""

from __future__ import annotations

import torch

from wflib.evaluation.quality import bayesian_model_average
from wflib.networks import Networks, negative_log_likelihood, predict
from wflib.tasks import Split

__all__ = ["AVERAGED", "average_curve"]

AVERAGED = (1, 2, 5, 10, 20, 50, 100)


@torch.no_grad()
def average_curve(
    networks: Networks, split: Split, generator: torch.Generator, counts: tuple[int, ...] = AVERAGED, repeats: int = 20
) -> dict[str, float]:
    """Mean loss of averages of k random networks' predicted probabilities, for several k.

    Args:
        networks: Classifiers.
        split: Examples.
        generator: Chooses the networks.
        counts: Every k; those above the number of networks are left out.
        repeats: Averages of each k, whose losses' mean is returned.

    Returns:
        ``average_<k>`` → nats.
    """
    log_probabilities, found = predict(networks, split.inputs), {}
    for count in counts:
        if count > len(networks):
            break
        order = torch.rand(repeats, len(networks), generator=generator).argsort(1)[:, :count]
        averages = torch.stack([bayesian_model_average(log_probabilities[some]) for some in order])
        found[f"average_{count}"] = negative_log_likelihood(averages, split.targets).double().mean().item()
    return found
