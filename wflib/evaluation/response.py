"""Whether a conditioned flow gives what it is asked for."""

from __future__ import annotations

import pandas as pd

__all__ = ["response_summary", "response_tenths"]


def response_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per strength of guidance: how answers follow wishes.

    Args:
        rows: One per network: ``strength``, ``asked``, ``found`` (the figure on the examples it is defined on) and
            ``test_loss``.

    Returns:
        ``strength``, Spearman's ``rank_correlation`` of what was asked and found, one where every larger wish gets a larger
        answer, and ``rank_correlation_test`` of what was asked and the test loss.
    """
    found = []
    for strength, part in rows.groupby("strength", sort=False):
        correlations = part[["asked", "found", "test_loss"]].corr("spearman").asked
        found.append(
            {
                "strength": strength,
                "rank_correlation": correlations.found,
                "rank_correlation_test": correlations.test_loss,
            }
        )
    return pd.DataFrame(found)


def response_tenths(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over tenths of the networks by what was asked; rows of :func:`response_summary`.

    Returns:
        ``strength``, ``asked``, ``found``, ``found_std`` and ``test_loss``; ten rows per strength, fewer for fewer networks.
    """
    place = rows.groupby("strength").asked.rank(method="first") - 1
    tenth = (place * 10 // rows.groupby("strength").asked.transform("size")).rename("tenth")
    groups = rows.groupby(["strength", tenth], sort=True)
    means = groups[["asked", "found", "test_loss"]].mean()
    means.insert(2, "found_std", groups.found.std())
    return means.reset_index().drop(columns="tenth")
