"""Which of a zoo's networks are read: decided from labels and figures of merit, without randomness, before weights are.

In this order: the first runs; steps after a run has settled; every k-th step, given steps, or the last; conditions.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from wflib.config import ReadConfig
from wflib.networks.names import listed, natural_order
from wflib.zoo.sources.base import LABELS, Contents

__all__ = ["held_out_by_name", "select"]

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


def select(path: object, contents: Contents, config: ReadConfig) -> pd.DataFrame:
    """The rows to read, runs in the natural order of their names and steps rising in each.

    Args:
        path: Where they come from, for errors.
        contents: All networks; what is not chosen is counted there.
        config: Section ``zoo.read``.

    Returns:
        Rows of ``contents.rows``, at least one.

    Raises:
        ValueError: Two networks of one run and step, a figure of merit that is not there, or nothing left.
    """
    rows = contents.rows
    if not len(rows):
        raise ValueError(f"{path}: expected networks, found none.")
    if not pd.api.types.is_integer_dtype(rows["step"]) or not rows["step"].between(0, 2**62).all():
        raise ValueError(f"{path}: expected steps between 0 and 2⁶², found {rows['step'].min()} to {rows['step'].max()}.")
    order = {name: place for place, name in enumerate(sorted(rows["run"].unique(), key=natural_order))}
    rows = rows.assign(order=rows["run"].map(order)).sort_values(["order", "step"], kind="stable", ignore_index=True)
    if config.trajectories == "each":
        rows = rows.assign(order=range(len(rows)), run=rows["run"] + rows["step"].map("@{}".format), initial=False)
    if (twice := rows.duplicated(["order", "step"])).any():
        first = rows[twice].iloc[0]
        raise ValueError(
            f"{path}: expected one network for each run and step, found several of run {first['run']} at step "
            f"{first['step']}; "
            "tell runs and steps apart with zoo.read.pattern, or count each network as a run with "
            "zoo.read.trajectories: each."
        )
    for what, keep in (
        ("other runs than the first", first_runs),
        ("before their run settled", settled),
        ("other steps", steps),
    ):
        kept = keep(path, rows, config)
        contents.leave_out(what, names(rows[~rows.index.isin(kept.index)]))
        rows = kept
    for condition in config.where:
        keep = holds(path, rows, condition)
        contents.leave_out(f"not {condition}", names(rows[~keep]))
        rows = rows[keep]
    if not len(rows):
        raise ValueError(
            f"{path}: none of {len(contents.rows)} networks is left by zoo.read: {told(contents)}; ask for less."
        )
    return rows.drop(columns="order").reset_index(drop=True)


def told(contents: Contents) -> str:
    """What was left out and why, in numbers."""
    return "; ".join(f"{len(found)} {reason}" for reason, found in contents.left_out.items()) or "nothing left out"


def names(rows: pd.DataFrame) -> list[str]:
    """Networks for a count and its examples."""
    return [f"{run} {step}" for run, step in zip(rows["run"], rows["step"], strict=True)]


def first_runs(path: object, rows: pd.DataFrame, config: ReadConfig) -> pd.DataFrame:
    """Rows of the first runs."""
    return rows if config.first_runs is None else rows[rows["order"].rank(method="dense") <= config.first_runs]


def settled(path: object, rows: pd.DataFrame, config: ReadConfig) -> pd.DataFrame:
    """Rows from the first on whose loss ℓ has (ℓ − min ℓ) / (max ℓ − min ℓ) ≤ ``settled`` in its run, over finite losses."""
    if config.settled is None:
        return rows
    loss = figure(path, rows, config.settled_by, "zoo.read.settled_by")
    loss = loss.astype(float).where(np.isfinite(loss.astype(float)))
    runs = loss.groupby(rows["order"])
    low, high = runs.transform("min"), runs.transform("max")
    below = loss <= low + config.settled * (high - low)  # nowhere without a finite loss
    return rows[below.groupby(rows["order"]).cummax()]


def steps(path: object, rows: pd.DataFrame, config: ReadConfig) -> pd.DataFrame:
    """Rows of given steps, of every k-th counted back from a run's last, or of the last."""
    if config.steps is not None:
        rows = rows[rows["step"].isin(config.steps)]
    from_last = rows.groupby("order").cumcount(ascending=False)
    return rows[from_last == 0] if config.snapshots == "last" else rows[from_last % config.every == 0]


def figure(path: object, rows: pd.DataFrame, name: str, option: str) -> pd.Series:
    """A column of numbers.

    Raises:
        ValueError: There is none of this name, it is empty, or text; says which there are, or an example.
    """
    if name == "step":
        return rows["step"]
    filled = rows.drop(columns=[*LABELS, "order"], errors="ignore").dropna(axis="columns", how="all")
    known = [str(column) for column in filled if pd.api.types.is_numeric_dtype(filled[column])]
    if name in known:
        return rows[name]
    if name in filled:
        text = next(value for value in filled[name] if isinstance(value, str))
        raise ValueError(
            f"{path}: {option} asks for {name!r}, expected numbers, found text such as {text!r}; where zoo.read.pattern "
            "takes it from paths, let its group end with the number."
        )
    raise ValueError(f"{path}: {option} asks for {name!r}; the figures of merit here are {listed(['step', *known])}.")


def holds(path: object, rows: pd.DataFrame, condition: str) -> pd.Series:
    """Where a condition holds; nowhere a figure is missing.

    Raises:
        ValueError: It is no comparison of a figure with a number.
    """
    found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|==|!=|>|<)\s*([-+.\deE]+)\s*", condition)
    try:
        name, sign, bar = found.groups() if found else ("", "", "")
        number = float(bar)
    except ValueError as error:
        raise ValueError(f"zoo.read.where: expected comparisons such as test_accuracy >= 0.9, got {condition!r}.") from error
    values = figure(path, rows, name, "zoo.read.where")
    where: pd.Series = COMPARISONS[sign](values, number) & values.notna()
    return where


def held_out_by_name(path: object, runs: pd.Series, patterns: list[str]) -> pd.Series:
    """Which networks belong to the runs that nothing may learn from.

    Raises:
        ValueError: A pattern that fits no run.
    """
    fits = {pattern: runs.map(lambda run, p=pattern: fnmatchcase(run, p)) for pattern in patterns}
    if empty := [pattern for pattern, found in fits.items() if not found.any()]:
        raise ValueError(
            f"{path}: zoo.read.held_out_runs: {listed(empty)} fits none of the runs {listed(runs.unique(), 6)}."
        )
    return pd.DataFrame(fits).any(axis=1)
