"""Rows of cells as numbers of the page: means over seeds, with both deviations, or a dash where nothing was computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from wflib.measurements import Cells
from wflib.pages.paper.thesis import Pair

__all__ = ["MISSING", "Section", "both", "chosen", "first_of", "plain", "published", "single", "table_of"]

MISSING = "—"
"""A cell that has not been computed."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        blocks: Markdown, tables and paragraphs.
        figures: Name → SVG and caption.
    """

    title: str
    blocks: list[str]
    figures: Mapping[str, tuple[bytes, str]] = field(default_factory=dict)


def table_of(cells: Cells, measurement: str, name: str = "rows") -> pd.DataFrame:
    """Rows of all cells of a measurement; an empty table where there are none."""
    return cells.table(measurement, name) if cells.has(measurement) else pd.DataFrame()


def chosen(rows: pd.DataFrame, **labels: object) -> pd.DataFrame:
    """Rows with these labels; none where a label is no column."""
    for name, value in labels.items():
        if name not in rows.columns:
            return rows.iloc[:0]
        rows = rows[rows[name] == value]
    return rows


def published(pair: Pair | None, digits: int = 3) -> str:
    """The thesis' number."""
    return MISSING if pair is None else f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


def both(rows: pd.DataFrame, measure: str, digits: int = 3) -> str:
    """Mean over seeds ± mean deviation over samples ± deviation over seeds, the last where there are several seeds."""
    name = f"{measure}_mean"
    if rows.empty or name not in rows.columns or rows[name].isna().all():
        return MISSING
    text = f"{rows[name].mean():.{digits}f} ± {rows[f'{measure}_std'].mean():.{digits}f}"
    return text if rows[name].count() < 2 else f"{text} ± {rows[name].std():.{digits}f}"


def single(rows: pd.DataFrame, column: str, digits: int = 3) -> str:
    """Mean over seeds ± deviation over seeds of a number that a cell has one of."""
    if rows.empty or column not in rows.columns or rows[column].isna().all():
        return MISSING
    text = f"{rows[column].mean():,.{digits}f}"
    return text if rows[column].count() < 2 else f"{text} ± {rows[column].std():,.{digits}f}"


def plain(rows: pd.DataFrame, column: str, digits: int = 3) -> str:
    """Mean over seeds of a number that is an error itself."""
    value = first_of(rows, column)
    return MISSING if math.isnan(value) else f"{value:.{digits}f}"


def first_of(rows: pd.DataFrame, column: str) -> float:
    """Mean of a column, NaN where there is none."""
    return float(rows[column].mean()) if len(rows) and column in rows.columns else math.nan
