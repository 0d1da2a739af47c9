"""Averages of one, two, … networks' predictions: what more networks are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from wflib.evaluation.quality import bayesian_model_average, brier_score, expected_calibration_error
from wflib.evaluation.uncertainty import out_of_distribution_auroc, selective_accuracy
from wflib.networks import Networks, accuracy, negative_log_likelihood, predict
from wflib.tasks import Split

__all__ = ["AVERAGED", "COVERAGES", "average_curve", "average_scores", "nested_averages"]

AVERAGED = (1, 2, 5, 10, 20, 50, 100)
COVERAGES = (0.5, 0.8, 0.9)
"""Shares of examples that are answered, the surest ones."""


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
        order = torch.rand(repeats, len(networks), generator=generator, device=generator.device).cpu().argsort(1)[:, :count]
        averages = torch.stack([bayesian_model_average(log_probabilities[some]) for some in order])
        found[f"average_{count}"] = negative_log_likelihood(averages, split.targets).double().mean().item()
    return found


def nested_averages(log_probabilities: Tensor, order: Tensor, counts: Sequence[int]) -> Tensor:
    """log 1/k Σ_{n ≤ k} p_order(n) for each k: averages of the first networks of an order, each holding those before.

    Args:
        log_probabilities: (networks, examples, classes).
        order: Indices of networks, (networks,).
        counts: Every k, rising, none above the number of networks.

    Returns:
        (counts, examples, classes).

    Raises:
        ValueError: Counts that do not rise from one at least to the number of networks at most.
    """
    steps = [after - before for before, after in zip([0, *counts], counts, strict=False)]
    if not counts or min(steps) < 1 or counts[-1] > len(order):
        raise ValueError(f"nested_averages: expected rising counts from 1 to {len(order)} at most, got {list(counts)}.")
    parts = order[: counts[-1]].to(log_probabilities.device).split(steps)
    sums = torch.stack([log_probabilities[part].logsumexp(0) for part in parts]).logcumsumexp(0)
    return sums - torch.tensor(counts, dtype=sums.dtype, device=sums.device).log()[:, None, None]


@torch.no_grad()
def average_scores(
    networks: Networks,
    split: Split,
    outside: Mapping[str, Tensor],
    generator: torch.Generator,
    bins: int,
    counts: Sequence[int] = AVERAGED,
    repeats: int = 10,
) -> pd.DataFrame:
    """What averages of k random networks' predicted probabilities are worth, for several k, and for all networks.

    Args:
        networks: Classifiers.
        split: Examples.
        outside: Name → inputs of another kind, which predictive entropy should tell from the examples.
        generator: Chooses the networks.
        bins: Of confidences, for the calibration error.
        counts: Every k; those above the number of networks are left out.
        repeats: Averages of each k; the same networks on examples and outside.

    Returns:
        One row a k, means over repeats: ``averaged`` (k), ``nll`` in nats, ``brier``, ``accuracy``, ``ece``,
        ``selective_accuracy_<percent answered>`` and ``auroc_<name>``.
    """
    counts = [*(count for count in counts if count < len(networks)), len(networks)]
    orders = torch.rand(repeats, len(networks), generator=generator, device=generator.device).cpu().argsort(1)

    def averages(inputs: Tensor) -> Tensor:
        log_probabilities = predict(networks, inputs)
        return torch.stack([nested_averages(log_probabilities, order, counts) for order in orders]).flatten(0, 1)

    inside, targets = averages(split.inputs), split.targets
    scores = {
        "nll": negative_log_likelihood(inside, targets),
        "brier": brier_score(inside, targets),
        "accuracy": accuracy(inside, targets),
        "ece": expected_calibration_error(inside, targets, bins),
    }
    selective = torch.stack([selective_accuracy(one, targets, COVERAGES) for one in inside])
    names = [f"selective_accuracy_{round(100 * share)}" for share in COVERAGES]
    scores |= dict(zip(names, selective.T, strict=True))
    for name, inputs in outside.items():
        pairs = zip(inside, averages(inputs), strict=True)
        scores[f"auroc_{name}"] = torch.tensor([out_of_distribution_auroc(known, strange) for known, strange in pairs])
    means = {name: values.double().view(repeats, len(counts)).mean(0).cpu().numpy() for name, values in scores.items()}
    return pd.DataFrame({"averaged": counts, **means})
