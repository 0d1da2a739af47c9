"""The few numbers of an evaluation that are looked at first, small enough for one screen of ``dvc metrics diff``."""

from __future__ import annotations

import math

import pandas as pd

from wflib.evaluation.audit import Audit

__all__ = ["key_metrics"]

SOURCES = ("samples", "held-out")
PARTS = ("train", "test")
"""Examples that are many, which decide, and those that nothing else used."""


def key_metrics(groups: pd.DataFrame, parts: pd.DataFrame, audit: Audit | None) -> dict[str, dict[str, float]]:
    """What decides how good samples are: quality beside held-out networks', spread, and what tests say.

    Args:
        groups: One row a source, columns of ``GROUP_SCHEMA``.
        parts: One row a source and part of the data, columns of ``PART_SCHEMA``; no rows without examples.
        audit: Tests of the samples; None where there were none.

    Returns:
        ``samples`` and ``held-out``, each with accuracy and NLL [nats] of single networks on training and test examples and
        the NLL of their average; of samples also the variance ratio and the largest mean shift. ``audit``: rejected tests,
        whether copies were found, and AUC, difference in mean NLL and copying ratio, each with its standard error (of both
        networks and examples, or networks and trajectories, together). Without an audit the samples' copying ratio is that
        of ``groups``. What is undefined is left out.
    """
    quality = parts.set_index(["source", "part"])
    sets = groups.set_index("source")
    found: dict[str, dict[str, float]] = {}
    for source in SOURCES:
        rows = {part: quality.loc[(source, part)] for part in PARTS if (source, part) in quality.index}
        found[source] = {f"{part}_{name}": row[name] for part, row in rows.items() for name in ("accuracy", "nll")}
        found[source]["average_nll"] = sets.loc[source, "bma_nll"]
    spread = ("variance_ratio", "mean_shift", *(() if audit else ("copying_ratio", "copying_ratio_error")))
    found["samples"] |= {name: sets.loc["samples", name] for name in spread}
    if audit is not None:
        found["audit"] = audit_metrics(audit)
    defined = {
        name: {key: float(value) for key, value in values.items() if math.isfinite(value)} for name, values in found.items()
    }
    return {name: values for name, values in defined.items() if values}


def audit_metrics(audit: Audit) -> dict[str, float]:
    """The audit's most important numbers; errors of two kinds are added as independent ones."""
    figures, ratio = audit.figures, audit.copying.ratio
    over_trajectories = 0.0 if math.isnan(ratio.error_trajectories) else ratio.error_trajectories
    return {
        "tests_rejected": figures["tests_rejected"],
        "copies_found": figures["copies_found"],
        "classifier_auc": audit.classifier.auc,
        "classifier_auc_error": audit.classifier.error,
        "nll_difference": audit.loss.difference,
        "nll_difference_error": math.hypot(audit.loss.error_networks, audit.loss.error_examples),
        "copying_ratio": ratio.ratio,
        "copying_ratio_error": math.hypot(ratio.error, over_trajectories),
    }
