"""Reliability diagrams: how often predictions of some confidence are right."""

from __future__ import annotations

import pandas as pd
import torch

from wflib.evaluation.quality import confidence_bins
from wflib.networks import Networks, predict, require_classification, wrong_predictions
from wflib.tasks import Split

__all__ = ["RELIABILITY_SCHEMA", "reliability_table"]

RELIABILITY_SCHEMA: dict[str, str] = {
    "source": "str",
    **dict.fromkeys(["confidence", "accuracy", "share"], "float64"),
}
"""Column → dtype of the table with one row per source and bin of confidence."""


def reliability_table(source: str, networks: Networks, split: Split, bins: int) -> pd.DataFrame:
    """Mean confidence and accuracy of single networks' predictions, over networks and examples, by bins of confidence.

    Bins are ((b − 1)/B, b/B] of the most probable class' probability, those of
    :func:`~wflib.evaluation.expected_calibration_error`; networks that say how sure they are have both alike in every bin
    (DeGroot and Fienberg 1983).

    Args:
        source: What the networks are.
        networks: Classifiers.
        split: Examples.
        bins: B.

    Returns:
        Rows with the columns of ``RELIABILITY_SCHEMA`` in rising confidence, for bins with predictions alone; shares add up
        to one.

    Raises:
        ValueError: ``bins`` is below one, or no classifiers.
    """
    require_classification(networks.architecture, "reliability_table")
    if bins < 1:
        raise ValueError(f"reliability_table: bins must be at least 1, got {bins}.")
    log_probabilities = predict(networks, split.inputs)
    confidence, index = (values.flatten() for values in confidence_bins(log_probabilities, bins))
    right = (~wrong_predictions(log_probabilities, split.targets)).double().flatten()
    count = torch.bincount(index, minlength=bins)
    found = {
        "confidence": torch.bincount(index, confidence.double(), bins) / count,
        "accuracy": torch.bincount(index, right, bins) / count,
        "share": count / len(index),
    }
    table = pd.DataFrame({name: values[count > 0].cpu().numpy() for name, values in found.items()})
    table.insert(0, "source", source)
    return table
