"""How uncertain the scores of a set of networks and of their average are, over networks and over examples."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from wflib.evaluation.clusters import clustered_mean, numbered
from wflib.evaluation.quality import brier_terms, calibration_terms
from wflib.evaluation.standard_errors import error_over_examples, estimate_mean
from wflib.networks import example_losses, wrong_predictions

__all__ = ["SCORES", "SCORE_ERRORS", "mean_error", "score_errors", "score_terms"]

SCORES = ("accuracy", "nll", "ece", "brier")
SCORE_ERRORS = (*(f"{name}_error" for name in SCORES), *(f"bma_{name}_error" for name in SCORES))


def score_terms(log_probabilities: Tensor, targets: Tensor, bins: int) -> dict[str, Tensor]:
    """What every example adds to a network's scores: accuracy, NLL, ECE and Brier score are the means of these.

    That the signs and bins of :func:`~wflib.evaluation.quality.calibration_terms` would be others with other examples is
    left out of its error (the delta method).

    Args:
        log_probabilities: (networks, examples, classes).
        targets: (examples,) class indices.
        bins: Bins of the calibration error.

    Returns:
        Score → (networks, examples).
    """
    return {
        "accuracy": (~wrong_predictions(log_probabilities, targets)).to(log_probabilities.dtype),
        "nll": example_losses(log_probabilities, targets),
        "ece": calibration_terms(log_probabilities, targets, bins),
        "brier": brier_terms(log_probabilities, targets),
    }


def score_errors(
    terms: Mapping[str, Tensor], average: Mapping[str, Tensor], trajectory: Tensor | None = None
) -> dict[str, float]:
    """Standard errors of mean scores and of the scores of averaged probabilities.

    Of a mean over networks: over networks, trajectories counted once, and over examples together, the root of the sum of
    squares; over examples alone for networks of one trajectory. Of the average: over examples, for these very networks.

    Args:
        terms: :func:`score_terms` of the networks, (networks, examples) each.
        average: Those of the average of their probabilities, (1, examples) each.
        trajectory: Training run of each network, (networks,); None for independent ones.

    Returns:
        The names of ``SCORE_ERRORS``; NaN for one example.
    """
    networks, examples = next(iter(terms.values())).shape
    if examples < 2:
        return dict.fromkeys(SCORE_ERRORS, math.nan)
    clusters = len(numbered(trajectory, networks).unique())
    found = {}
    for name, values in terms.items():
        values = values.double().cpu()
        if clusters > 1:
            estimate = estimate_mean(values, trajectory)
            found[f"{name}_error"] = math.hypot(estimate.error_networks, estimate.error_examples)
        else:
            found[f"{name}_error"] = error_over_examples(values.mean(0))
    return found | {f"bma_{name}_error": error_over_examples(values[0].double()) for name, values in average.items()}


def mean_error(values: Tensor, clusters: Tensor | None = None) -> float:
    """Standard error of a mean over networks, those of one cluster counted once; NaN for fewer than two clusters.

    Args:
        values: (networks,), NaN where undefined, which are left out.
        clusters: (networks,); None where networks are independent.
    """
    known = values.isfinite().cpu()
    label = numbered(clusters, len(values))[known]
    if len(label.unique()) < 2:
        return math.nan
    return clustered_mean(values.cpu()[known][:, None], label)[1].item()
