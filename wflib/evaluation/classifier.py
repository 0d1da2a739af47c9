"""Can a classifier tell drawn networks from held-out ones? The strongest of the tests, as it chooses what to look at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from wflib.evaluation.features import Features
from wflib.rng import random_order

__all__ = ["ClassifierTest", "classifier_test"]


@dataclass(frozen=True)
class ClassifierTest:
    """What :func:`classifier_test` returns.

    Attributes:
        auc: Share of pairs (one network of each side) that out-of-fold scores rank right; a half for equal distributions.
        low: Lower end of its 95 % interval.
        high: Upper end.
        error: Standard error that the interval is of, before it ends at 0 and 1.
        p_value: Of scores that know nothing, one-sided; of other classifiers than the AUC's, see :func:`classifier_test`.
    """

    auc: float
    low: float
    high: float
    error: float
    p_value: float


def classifier_test(
    ours: Features, theirs: Features, generator: torch.Generator, folds: int = 5, components: int = 30, rounds: int = 100
) -> ClassifierTest:
    """Classifier two-sample test (Lopez-Paz and Oquab 2017) by gradient boosting and out-of-fold AUC.

    The function's features are reduced to their leading principal components, fitted where boosting is. The AUC is the mean
    over folds, each scored by a classifier of all others (LeDell, Petersen and van der Laan 2015). Its interval takes twice
    the folds' DeLong variances: where distributions are equal, networks of two folds meet in the scores of either.

    By that dependence a test of these folds would say no at twice its level, so the p-value takes another order: fold f is
    scored by a classifier of the folds before it. Given those, its scores are exchangeable between sides where distributions
    are equal, whatever was learned. So AUC_f − ½ are martingale differences of variance (n + m + 1) / (12 n m), and the sum
    of their standardized values, weighted by √f for what a larger training part sees, is standard normal.

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
    dealt = np.concatenate([random_order(len(side), generator).numpy() % folds for side in (ours, theirs)])
    given = (function, summaries, label, components, rounds)
    folded = [scored(*given, dealt != fold, dealt == fold) for fold in range(folds)]
    areas, variances = zip(*(delong(*sides) for sides in folded), strict=True)
    auc, error = float(np.mean(areas)), math.sqrt(2 * sum(variances)) / folds
    statistic = 0.0
    for fold in range(1, folds):
        first, second = scored(*given, dealt < fold, dealt == fold)
        deviation = math.sqrt((len(first) + len(second) + 1) / (12 * len(first) * len(second)))
        statistic += math.sqrt(fold) * (delong(first, second)[0] - 0.5) / deviation
    statistic /= math.sqrt(folds * (folds - 1) / 2)
    p_value = math.erfc(statistic / math.sqrt(2)) / 2
    return ClassifierTest(auc, max(0.0, auc - 1.96 * error), min(1.0, auc + 1.96 * error), error, p_value)


def scored(
    function: np.ndarray,
    summaries: np.ndarray,
    label: np.ndarray,
    components: int,
    rounds: int,
    learned: np.ndarray,
    asked: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of some networks, ours and theirs, by a classifier that was fitted on others."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to import, and few evaluations need it

    features = np.concatenate([principal_scores(function, learned, components), summaries], 1)
    # No early stopping: it would set networks apart by chance, and a few hundred of them need no more than 100 small trees.
    model = HistGradientBoostingClassifier(max_iter=rounds, max_leaf_nodes=15, early_stopping=False, random_state=0)
    scores = model.fit(features[learned], label[learned]).decision_function(features[asked])
    return scores[label[asked] == 1], scores[label[asked] == 0]


def principal_scores(function: np.ndarray, learned: np.ndarray, components: int) -> np.ndarray:
    """Scores of all networks in the leading principal components of some, at most as many as these or answers.

    Where networks are fewer than answers, by their products: scores are K u / √λ of eigenpairs of the centred K = X Xᵀ,
    signs are those of X's own decomposition, whose largest entry is positive. Products square how far λ are apart, so that
    the decomposition itself is taken where some are too small for them.
    """
    from sklearn.decomposition import PCA  # slow to import, and few evaluations need it

    seen = function[learned]
    most = min(components, *seen.shape)
    if len(seen) < seen.shape[1]:
        from scipy.linalg import eigh

        centred = function - seen.mean(0)
        products = centred @ centred[learned].T
        values, vectors = eigh(products[learned], subset_by_index=(len(seen) - most, len(seen) - 1))
        values, vectors = values[::-1], vectors[:, ::-1]
        if values[-1] > 1e-10 * values[0]:
            directions = vectors.T @ centred[learned]
            signs = np.sign(directions[np.arange(most), np.abs(directions).argmax(1)])
            scores: np.ndarray = products @ (vectors * signs / np.sqrt(values))
            return scores
    solver = "covariance_eigh" if len(seen) >= seen.shape[1] else "full"
    with np.errstate(invalid="ignore"):  # Networks may all be equal: shares of no variance, which nothing uses.
        projected: np.ndarray = PCA(most, svd_solver=solver).fit(seen).transform(function)
    return projected


def delong(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve, ties counting half, and its variance (DeLong, DeLong and Clarke-Pearson 1988)."""
    from scipy.stats import rankdata

    n, m = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    # Share of negatives below each positive, and of positives above each negative, by midranks.
    above = (ranks[:n] - rankdata(positive)) / m
    below = 1 - (ranks[n:] - rankdata(negative)) / n
    return float(above.mean()), float(above.var(ddof=1) / n + below.var(ddof=1) / m)
