"""Whether a flow's density knows the zoo: log-likelihoods of groups of networks, and how well they tell groups apart."""

from __future__ import annotations

import math
from collections.abc import Collection

import pandas as pd
from torch import Tensor

__all__ = ["density_table", "ranking_quality"]


def ranking_quality(better: Tensor, worse: Tensor) -> float:
    """Area under the ROC curve: the share of pairs (a of ``better``, b of ``worse``) with a > b, ties counting half.

    Args:
        better: Log-likelihoods that should be the larger ones, (n,).
        worse: (m,).

    Returns:
        One where all pairs are ranked right, a half for a coin.
    """
    from sklearn.metrics import roc_auc_score  # slow to import, and few evaluations need it

    labels = [1] * len(better) + [0] * len(worse)
    return float(roc_auc_score(labels, [*better.tolist(), *worse.tolist()]))


def density_table(log_likelihoods: dict[str, Tensor], reference: str, copies: Collection[str] = ()) -> pd.DataFrame:
    """Mean and deviation of each group's log-likelihood, and how well it is told from the reference group.

    Args:
        log_likelihoods: Group → (networks,) in nats.
        reference: The group that is expected to have the larger ones.
        copies: Groups whose i-th network was made from the reference's i-th.

    Returns:
        ``networks`` (the group), ``count``, ``log_likelihood_mean``, ``log_likelihood_std``, ``auc`` (the
        :func:`ranking_quality` of the reference over the group) and ``paired``: the share of a copy's originals that have
        the larger log-likelihood, NaN for other groups.
    """
    originals = log_likelihoods[reference]
    return pd.DataFrame(
        [
            {
                "networks": name,
                "count": len(values),
                "log_likelihood_mean": values.mean().item(),
                "log_likelihood_std": values.std().item(),
                "auc": ranking_quality(originals, values),
                "paired": (originals > values).double().mean().item() if name in copies else math.nan,
            }
            for name, values in log_likelihoods.items()
        ]
    )
