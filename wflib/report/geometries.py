"""What flows of several geometries draw from one zoo, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from wflib.evaluation import GROUP_SCHEMA
from wflib.report.tables import fixed, markdown_table, mean_and_error, mean_std, number

__all__ = ["geometries_markdown"]

HEAD = (
    *("Accuracy", "NLL [nats]", "Average: accuracy", "Average: NLL"),
    *("Diversity [nats]", "Variance ratio", "Mean shift", "Nearest distance", "Copying ratio"),
)
EXPLAINED = (
    "Test data; single networks as mean ± standard deviation, and the Bayesian model average of all of the set's networks. "
    "Variance ratio, the largest shift of a tensor's mean in standard deviations of the zoo, and the distance to the "
    "nearest training network (mean ± standard error) are of the coordinates that the flow works in: compare with the "
    "held-out trajectories of the same geometry. Copying ratio: distance to the nearest training network over that to the "
    "nearest of as many held-out networks, one without copying."
)


def geometries_markdown(
    metrics: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Mapping[str, Any]], widths: Mapping[str, pd.DataFrame]
) -> str:
    """Tables of samples, held-out trajectories and other widths.

    Args:
        metrics: Geometry → what evaluate wrote as ``details.json``.
        facts: Geometry → what train-flow wrote of itself: ``iterations`` and ``training_seconds``.
        widths: Geometry → rows ``width``, ``networks``, ``accuracy_mean``, ``nll_mean``, ``bma_accuracy``.

    Returns:
        Markdown.

    Raises:
        ValueError: Metrics without samples, zoo or held-out networks.
    """
    quality, wide = [], []
    for geometry, found in metrics.items():
        for source in ("samples", "zoo", "held-out"):
            if source not in found:
                raise ValueError(f"{geometry}/metrics.json: expected the source {source}, found {', '.join(found)}.")
            row = dict.fromkeys(GROUP_SCHEMA, math.nan) | found[source]  # metrics leave out what is undefined
            name = f"{geometry}: {source}"
            measured = [fixed(row["bma_accuracy"]), fixed(row["bma_nll"])]
            spread = [number(row[column]) for column in ("diversity", "variance_ratio")]
            spread += [fixed(row["mean_shift"]), mean_and_error(row, "nearest_distance"), fixed(row["copying_ratio"])]
            quality.append([name, mean_std(row, "accuracy"), mean_std(row, "nll"), *measured, *spread])
        for row in widths[geometry].to_dict("records"):
            scores = [mean_std(row, "accuracy"), mean_std(row, "nll"), fixed(row["bma_accuracy"])]
            wide.append([geometry, f"{row['width']:.0f}", *scores])
    took = [
        f"{name} {fact['training_seconds'] / 60:.1f} minutes for {fact['iterations']:,} iterations"
        for name, fact in facts.items()
    ]
    networks = next(iter(widths.values())).networks.iloc[0]
    wide_head = ["Geometry", "Hidden width", "Accuracy", "NLL [nats]", f"Average of {networks}: accuracy"]
    return (
        f"{markdown_table(['Networks', *HEAD], quality)}\n\n{EXPLAINED} Flow training: {', '.join(took)}.\n\n"
        f"{markdown_table(wide_head, wide)}\n\n"
        "Samples of other hidden widths from the same flows, without retraining.\n"
    )
