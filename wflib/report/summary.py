"""What the numbers say, in sentences that follow from them and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from wflib.report.barriers import mean_excess
from wflib.report.data import ReportData
from wflib.report.sources import VARIANCE_RANGE
from wflib.report.tables import duration, fixed, number, scored, with_error
from wflib.report.theme import label, ordered

__all__ = ["summary"]

SHIFT = 0.2  # of a standard deviation
NO_RIVALS = ("samples", "zoo", "held-out", "training-noise", "memorizer")  # copies, with noise or without, are no rivals


def summary(data: ReportData) -> list[str]:
    """Sentences for the head of the report, behind the verdict; one whose numbers are missing is left out.

    Args:
        data: The run.

    Returns:
        Sentences in reading order.
    """
    groups = data.groups.set_index("source").astype(float)
    sentences = [
        sentence(groups) for sentence in (accuracy, loss, simpler_models, averaging, variance, shift, distance, overlap)
    ]
    sentences += [alignment(data.barriers), guidance(data.curve), time(data.stages)]
    return [sentence for sentence in sentences if sentence]


def accuracy(groups: pd.DataFrame) -> str | None:
    if missing(groups, "accuracy_mean"):
        return None
    samples, zoo = groups.loc["samples"], groups.loc["zoo"]
    verdict = compare(samples["accuracy_mean"], zoo["accuracy_mean"], fixed, "better", "worse")
    return (
        f"Samples reach mean accuracy {scored(samples, 'accuracy')}, {verdict} the zoo's {scored(zoo, 'accuracy')}"
        f"{distance_in_std(samples, zoo, 'accuracy')}."
    )


def loss(groups: pd.DataFrame) -> str | None:
    if missing(groups, "nll_mean"):
        return None
    samples, zoo = groups.loc["samples"], groups.loc["zoo"]
    verdict = compare(samples["nll_mean"], zoo["nll_mean"], fixed, "worse", "better")
    return (
        f"Their mean negative log-likelihood is {scored(samples, 'nll')} nats, {verdict} the zoo's {scored(zoo, 'nll')}"
        f"{distance_in_std(samples, zoo, 'nll')}."
    )


def simpler_models(groups: pd.DataFrame) -> str | None:
    rivals = groups.drop(index=[name for name in NO_RIVALS if name in groups.index])
    parts = []
    for column, name, best, better in (
        ("accuracy_mean", "mean accuracy", pd.Series.idxmax, np.greater),
        ("nll_mean", "mean negative log-likelihood", pd.Series.idxmin, np.less),
    ):
        values = rivals[column].dropna()
        if missing(groups, column, "samples") or values.empty:
            continue
        winner, sample = best(values), groups.loc["samples", column]
        if fixed(sample) == fixed(values[winner]):
            verdict = "equal it"
        else:
            verdict = "beat it" if better(sample, values[winner]) else "do not beat it"
        numbers = f"{fixed(values[winner])} against the samples' {fixed(sample)}"
        parts.append(f"the best in {name} is the {label(winner)} ({numbers}: the samples {verdict})")
    if not parts:
        return None
    names = ", ".join(label(source) for source in ordered(rivals.index))
    return f"Of the simpler models ({names}), {', and '.join(parts)}."


def averaging(groups: pd.DataFrame) -> str | None:
    if missing(groups, "bma_nll") or missing(groups, "nll_mean", "samples"):
        return None
    samples, zoo = groups.loc["samples"], groups.loc["zoo"]
    gain = "lowers" if samples["bma_nll"] < samples["nll_mean"] else "does not lower"
    accuracies = "" if missing(groups, "bma_accuracy") else f" (accuracy {erring(samples, 'bma_accuracy')})"
    verdict = compare(samples["bma_nll"], zoo["bma_nll"], fixed, "worse", "better")
    return (
        f"Averaging the predictions of all samples {gain} the negative log-likelihood, to {erring(samples, 'bma_nll')} nats"
        f"{accuracies}, {verdict} the zoo's average, {erring(zoo, 'bma_nll')}."
    )


def variance(groups: pd.DataFrame) -> str | None:
    if missing(groups, "variance_ratio", "samples"):
        return None
    ratio, (low, high) = groups.loc["samples", "variance_ratio"], VARIANCE_RANGE
    scope = f"{low} to {high}"
    if ratio < low:
        verdict = f"below {scope}: the samples are too much alike"
    elif ratio > high:
        verdict = f"above {scope}: the samples spread wider than the zoo"
    else:
        verdict = f"inside {scope}: the flow keeps the zoo's spread"
    told = erring(groups.loc["samples"], "variance_ratio")
    text = f"The variance of the samples' weights is {told} times the zoo's, {verdict}"
    if missing(groups, "diversity"):
        return f"{text}."
    samples, zoo = groups.loc["samples"], groups.loc["zoo"]
    verdict, ours, theirs = (
        compare(samples["diversity"], zoo["diversity"], number),
        *(erring(row, "diversity") for row in (samples, zoo)),
    )
    return f"{text}; their diversity in predictions is {ours}, {verdict} the zoo's {theirs}."


def shift(groups: pd.DataFrame) -> str | None:
    if missing(groups, "mean_shift", "samples", "held-out"):
        return None
    samples, unseen = groups.loc["samples", "mean_shift"], groups.loc["held-out", "mean_shift"]
    # What the means of so many networks differ by anyway.
    limit = max(SHIFT, 2 * unseen, 3 / np.sqrt(groups.loc["samples", "networks"]))
    verdict = "no tensor is far off" if samples < limit else "a tensor is off, whatever the quality says"
    return (
        f"The largest shift of a tensor's mean is {fixed(samples, 2)} of the zoo's standard deviations "
        f"({fixed(unseen, 2)} for held-out networks): {verdict}."
    )


def distance(groups: pd.DataFrame) -> str | None:
    column = "nearest_distance_mean"
    if missing(groups, column, "samples", "held-out"):
        return None
    samples, unseen = groups.loc["samples"], groups.loc["held-out"]
    ours, theirs = (scored(row, "nearest_distance") for row in (samples, unseen))
    # The error of the difference if samples spread like held-out networks: copies must not widen what they are judged by.
    error = unseen["nearest_distance_error"] * np.sqrt(1 + unseen["novelty_networks"] / samples["novelty_networks"])
    if samples["nearest_distance_min"] < unseen["nearest_distance_min"] / 2:
        closest, least = (fixed(row["nearest_distance_min"]) for row in (samples, unseen))
        verdict = (
            f"against {theirs} for held-out networks, but the closest is at {closest} ({least}): some are copies, or nearly"
        )
    elif samples[column] >= unseen[column]:
        verdict = f"no smaller than for held-out networks ({theirs}): no sign of copying"
    elif unseen[column] - samples[column] <= 2 * error:
        verdict = f"within two standard errors of that of held-out networks ({theirs}): no sign of copying"
    else:
        verdict = (
            f"smaller than for held-out networks ({theirs}; ratio {fixed(samples[column] / unseen[column])}): samples lie "
            f"closer to the training networks than unseen networks do{cause(samples)}"
        )
    return f"The distance from a sample to the nearest training network is {ours} on average, {verdict}."


def cause(samples: pd.Series) -> str:
    """What the copying ratio says of samples that lie too close."""
    ratio, error = samples["copying_ratio"], np.nan_to_num(samples["copying_ratio_error"])
    if not np.isfinite(ratio):
        return ", which may be copying or a lack of spread"
    if ratio < 1 - 2 * error:
        return f" and closer than to as many held-out networks (ratio {with_error(ratio, error)}): a sign of copying"
    return f", but as close to as many held-out networks (ratio {with_error(ratio, error)}): a lack of spread, no copying"


def overlap(groups: pd.DataFrame) -> str | None:
    column = "error_overlap_mean"
    if missing(groups, column, "samples", "held-out"):
        return None
    ours, theirs = groups.loc["samples"], groups.loc["held-out"]
    error = np.hypot(*np.nan_to_num([ours["error_overlap_error"], theirs["error_overlap_error"]]))
    samples, unseen = (with_error(row[column], row["error_overlap_error"]) for row in (ours, theirs))
    if ours[column] <= theirs[column]:
        verdict = f"no more than for held-out networks ({unseen}): no sign of copying"
    elif ours[column] <= theirs[column] + 2 * error:
        verdict = f"within two standard errors of that of held-out networks ({unseen}): no sign of copying"
    else:
        verdict = f"more than for held-out networks ({unseen}): a sign of copying or of a common bias"
    return f"A sample's errors overlap with those of the training network most like it by {samples} (IoU), {verdict}."


def alignment(barriers: pd.DataFrame) -> str | None:
    (before, _), (after, _) = found = [mean_excess(barriers, stage) for stage in ("unaligned", "aligned")]
    if not np.isfinite([before, after]).all():
        return None
    first, second = (with_error(*excess) for excess in found)
    if fixed(before) == fixed(after):
        return f"Alignment leaves the mean loss barrier between two networks at {second} nats."
    verb = "lowers" if after < before else "raises"
    return f"Alignment {verb} the mean loss barrier between two networks from {first} to {second} nats."


def guidance(curve: pd.DataFrame) -> str | None:
    table = curve.dropna(subset=["nll_mean"]).pivot_table(index="steps", columns="guidance", values="nll_mean").astype(float)
    if 0 not in table or len(table.columns) < 2:
        return None
    strength = table.columns.max()
    both = table[[0, strength]].dropna()
    if both.empty:
        return None
    steps = both.index.max()
    before, after = both.loc[steps, 0], both.loc[steps, strength]
    verb = "lowers" if after < before else "does not lower"
    return (
        f"Guidance (λ = {strength:g}, {steps} steps) {verb} the mean negative log-likelihood: "
        f"{fixed(after)} with it, {fixed(before)} without (deviations are in the figure of steps)."
    )


def erring(row: pd.Series, column: str) -> str:
    """A number ± its standard error."""
    return with_error(row[column], row[f"{column}_error"])


def time(stages: pd.DataFrame) -> str | None:
    return f"All stages together took {duration(float(stages['seconds'].sum()))}." if len(stages) else None


def missing(groups: pd.DataFrame, column: str, *sources: str) -> bool:
    return any(name not in groups.index or np.isnan(groups.loc[name, column]) for name in sources or ("samples", "zoo"))


def compare(ours: float, theirs: float, shown: Callable[[float], str], above: str = "", below: str = "") -> str:
    if shown(ours) == shown(theirs):
        return "equal to"
    word, meaning = ("above", above) if ours > theirs else ("below", below)
    return f"{word} ({meaning} than)" if meaning else word


def distance_in_std(samples: pd.Series, zoo: pd.Series, metric: str) -> str:
    gap, std = abs(samples[f"{metric}_mean"] - zoo[f"{metric}_mean"]), zoo[f"{metric}_std"]
    return f", {gap / std:.1f} standard deviations of the zoo away" if std > 0 else ""
