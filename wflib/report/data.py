"""What a report is made of: the tables of one pipeline run, checked for their columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from wflib.report.cost import Cost

__all__ = ["COLUMNS", "ReportData"]

SCORES = ("accuracy", "nll", "ece", "brier")
COLUMNS: dict[str, tuple[str, ...]] = {
    "networks": (
        "source",
        "network",
        "accuracy",
        "nll",
        "ece",
        "brier",
        "nearest_distance",
        "error_overlap",
        "largest_error_overlap",
    ),
    "groups": (
        *("source", "networks", "novelty_networks"),
        *("accuracy_mean", "accuracy_std", "nll_mean", "nll_std", "ece_mean", "brier_mean"),
        *("bma_accuracy", "bma_nll", "bma_ece", "bma_brier", "diversity", "variance_ratio", "mean_shift"),
        *("nearest_distance_mean", "nearest_distance_std", "nearest_distance_min", "error_overlap_mean"),
        *("largest_error_overlap_mean", "copying_ratio", "copying_ratio_error", "detectable_by_ratio"),
        *(f"{score}_error" for score in (*SCORES, *(f"bma_{name}" for name in SCORES))),
        *("diversity_error", "variance_ratio_error", "nearest_distance_error"),
        *("error_overlap_error", "largest_error_overlap_error"),
    ),
    "moments": ("source", "tensor", "shift", "spread"),
    "barriers": ("stage", "i", "j", "midpoint", "excess", "maximal"),
    "curve": ("steps", "guidance", "accuracy_mean", "accuracy_std", "nll_mean", "nll_std"),
    "history": ("iteration", "seconds", "loss", "validation_loss", "learning_rate"),
    "stages": ("stage", "seconds"),
    "reliability": ("source", "confidence", "accuracy", "share"),
    "pictures": ("network", "distance", "tensor", "unit", "channel", "y", "x", "value"),
    "parts": (
        *("source", "part", "networks", "examples"),
        *(f"{name}{end}" for name in ("accuracy", "nll") for end in ("", "_error_networks", "_error_examples")),
    ),
}


def no_rows(name: str) -> Callable[[], pd.DataFrame]:
    return lambda: pd.DataFrame(columns=list(COLUMNS[name]))


@dataclass(frozen=True)
class ReportData:
    """The tables of one run; what is left out, or has no rows, is left out of the report.

    Attributes:
        networks: One row a network: its source, quality, and novelty (NaN where that does not apply).
        groups: One row a source: means, model average, diversity, novelty.
        moments: One row a source and tensor: how far its mean and variance are from the zoo's.
        barriers: One row a pair of networks and stage (``unaligned``, ``aligned``).
        curve: Quality of samples by number of steps and guidance strength.
        history: Training of the flow; ``validation_loss`` is NaN between validations.
        stages: Seconds of each pipeline stage, in order.
        parts: Quality on training, validation and test examples, one row a source and part, with both standard errors.
        reliability: Mean confidence and accuracy of test predictions, one row a source and bin of confidence.
        pictures: Weights of a zoo network, a sample, and the training network nearest to it, one row a weight.
        settings: Every setting of the run, nested by section.
        verdict: Sentences of the audit, which come first.
        cost: Seconds of drawing and of training.
        facts: What else a reader needs. ``task``, ``geometry``, ``coupling`` and ``velocity_parameters`` go into the
            introduction, everything into a table.

    Raises:
        ValueError: A table lacks a column.
    """

    networks: pd.DataFrame
    groups: pd.DataFrame
    moments: pd.DataFrame = field(default_factory=no_rows("moments"))
    barriers: pd.DataFrame = field(default_factory=no_rows("barriers"))
    curve: pd.DataFrame = field(default_factory=no_rows("curve"))
    history: pd.DataFrame = field(default_factory=no_rows("history"))
    stages: pd.DataFrame = field(default_factory=no_rows("stages"))
    parts: pd.DataFrame = field(default_factory=no_rows("parts"))
    reliability: pd.DataFrame = field(default_factory=no_rows("reliability"))
    pictures: pd.DataFrame = field(default_factory=no_rows("pictures"))
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    verdict: Sequence[str] = ()
    cost: Cost | None = None

    def __post_init__(self) -> None:
        for name, columns in COLUMNS.items():
            found = getattr(self, name).columns
            if missing := [column for column in columns if column not in found]:
                raise ValueError(f"{name}: expected columns {list(columns)}, missing {missing}; rerun the stage evaluate.")
