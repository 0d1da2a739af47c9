"""Can a classifier tell drawn networks from held-out ones? The strongest of the tests, as it chooses what to look at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from wflib.evaluation.features import Features

__all__ = ["ClassifierTest", "classifier_test"]


@dataclass(frozen=True)
class ClassifierTest:
    """What :func:`classifier_test` returns.

    Attributes:
        auc: Share of pairs (one network of each side) that out-of-fold scores rank right; a half for equal distributions.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: Of scores that know nothing, one-sided.
    """

    auc: float
    low: float
    high: float
    p_value: float


def classifier_test(
    ours: Features, theirs: Features, generator: torch.Generator, folds: int = 5, components: int = 30, rounds: int = 100
) -> ClassifierTest:
    """Classifier two-sample test (Lopez-Paz and Oquab 2017) by gradient boosting and out-of-fold AUC.

    The function's features are reduced to their leading principal components, fitted on the training folds as boosting is.
    The AUC is the mean of the folds' and its interval adds their DeLong variances (LeDell, Petersen and van der Laan 2015).
    The p-value compares it with the Mann–Whitney variance (n + m + 1) / (12 n m) of each fold: its scores are a classifier's
    that never saw the fold, so they are exchangeable between sides where distributions are equal, whatever it has learned.

    Args:
        ours: Features of independent networks: one of each trajectory, see
            :func:`~wflib.evaluation.clusters.one_per_cluster`. With several, snapshots in other folds would betray theirs.
        theirs: Features of other independent networks, as many or not.
        generator: Deals networks to folds.
        folds: Parts of the data, each scored by a classifier of the others.
        components: Principal components of the function's features, at most as many as there are.
        rounds: Trees of boosting.

    Returns:
        AUC, interval and p-value.

    Raises:
        ValueError: Fewer networks of a side than two for each fold, or features that do not fit.
    """
    for name, side in (("ours", ours), ("theirs", theirs)):
        if folds < 2 or len(side) < 2 * folds:
            raise ValueError(f"classifier_test: expected at least 2 folds and networks of 2 a fold, got {folds} folds and "
                             f"{len(side)} networks of {name}.")  # fmt: skip
    if ours.function.shape[1] != theirs.function.shape[1] or ours.summaries.shape[1] != theirs.summaries.shape[1]:
        raise ValueError("classifier_test: expected the same features of both sides; compute both on the same examples.")
    label = np.repeat([1, 0], [len(ours), len(theirs)])
    function, summaries = (
        torch.cat([getattr(ours, name), getattr(theirs, name)]).double().numpy() for name in ("function", "summaries")
    )
    dealt = np.concatenate([torch.randperm(len(side), generator=generator).numpy() % folds for side in (ours, theirs)])
    areas, variances, nulls = [], [], []
    for fold in range(folds):
        rest, scored = dealt != fold, dealt == fold
        scores = fitted_scores(function, summaries, label, rest, scored, components, rounds)
        first, second = scores[label[scored] == 1], scores[label[scored] == 0]
        area, variance = delong(first, second)
        areas.append(area)
        variances.append(variance)
        nulls.append((len(first) + len(second) + 1) / (12 * len(first) * len(second)))
    auc, error = float(np.mean(areas)), math.sqrt(sum(variances)) / folds
    statistic = (auc - 0.5) / (math.sqrt(sum(nulls)) / folds)
    p_value = math.erfc(statistic / math.sqrt(2)) / 2
    return ClassifierTest(auc, max(0.0, auc - 1.96 * error), min(1.0, auc + 1.96 * error), p_value)


def fitted_scores(
    function: np.ndarray,
    summaries: np.ndarray,
    label: np.ndarray,
    rest: np.ndarray,
    scored: np.ndarray,
    components: int,
    rounds: int,
) -> np.ndarray:
    """Scores of some networks by a classifier that was fitted on the rest."""
    from sklearn.decomposition import PCA  # slow to import, and few evaluations need it
    from sklearn.ensemble import HistGradientBoostingClassifier

    reduced = PCA(min(components, *function[rest].shape), svd_solver="covariance_eigh").fit(function[rest])
    features = np.concatenate([reduced.transform(function), summaries], 1)
    # No early stopping: it would set networks apart by chance, and a few hundred of them need no more than 100 small trees.
    model = HistGradientBoostingClassifier(max_iter=rounds, max_leaf_nodes=15, early_stopping=False, random_state=0)
    return model.fit(features[rest], label[rest]).decision_function(features[scored])


def delong(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve, ties counting half, and its variance (DeLong, DeLong and Clarke-Pearson 1988)."""
    from scipy.stats import rankdata

    n, m = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    # Share of negatives below each positive, and of positives above each negative, by midranks.
    above = (ranks[:n] - rankdata(positive)) / m
    below = 1 - (ranks[n:] - rankdata(negative)) / n
    return float(above.mean()), float(above.var(ddof=1) / n + below.var(ddof=1) / m)
