"""Small tables behind figures, for ``dvc plots diff`` to draw the curves of several runs over one another."""

from __future__ import annotations

import pandas as pd

from wflib.report.data import ReportData
from wflib.report.theme import ordered

__all__ = ["plot_tables"]

PARTS = ("train", "test")


def plot_tables(data: ReportData) -> dict[str, str]:
    """Name → CSV with a head, and no rows where the run has none of that.

    ``sets``: one row a set of networks, mean accuracy and NLL [nats] of single ones on training and test examples, expected
    calibration error of single ones and of their average on test examples. ``steps``: one row a number of steps,
    accuracy and NLL of samples drawn with the weakest guidance of the run, which is none by default. ``reliability``: a row
    a bin of confidence, mean confidence and accuracy of the samples' predictions on test examples.
    """
    tables = {
        "sets": sets(data.groups, data.parts),
        "steps": steps(data.curve),
        "reliability": reliability(data.reliability),
    }
    return {name: table.to_csv(index=False, float_format="%.6g", lineterminator="\n") for name, table in tables.items()}


def sets(groups: pd.DataFrame, parts: pd.DataFrame) -> pd.DataFrame:
    """Quality of every set that has any."""
    table = groups.set_index("source")
    chosen = {"ece": table["ece_mean"], "average_ece": table["bma_ece"]}
    for part in PARTS:
        rows = parts[parts["part"] == part].set_index("source")
        chosen |= {f"{part}_{name}": rows[name] for name in ("accuracy", "nll")}
    found = pd.DataFrame(chosen).astype(float).dropna(how="all")
    return found.loc[ordered(found.index)].rename_axis("set").reset_index()


def steps(curve: pd.DataFrame) -> pd.DataFrame:
    """Quality by number of steps."""
    weakest = curve[curve["guidance"] == curve["guidance"].min()].sort_values("steps")
    table = weakest[["steps", "accuracy_mean", "nll_mean"]]
    return table.rename(columns={"accuracy_mean": "accuracy", "nll_mean": "nll"})


def reliability(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by confidence."""
    return table.loc[table["source"] == "samples", ["confidence", "accuracy", "share"]]
