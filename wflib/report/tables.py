"""Numbers and settings as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wflib.report.theme import label, ordered

__all__ = [
    "duration",
    "facts_table",
    "fixed",
    "markdown_table",
    "mean_std",
    "moments_table",
    "novelty_table",
    "number",
    "parts_table",
    "quality_table",
    "scored",
    "settings_table",
    "stage_table",
    "with_error",
]

NOTHING = "–"


def quality_table(groups: pd.DataFrame) -> str:
    """Quality of single networks and of their model average, one row a source; empty where no source has any."""
    if groups["accuracy_mean"].isna().all():
        return ""
    head = ["Source", "Networks", "Accuracy", "NLL [nats]", "ECE", "Brier"]
    head += [f"Average: {score}" for score in ("accuracy", "NLL", "ECE", "Brier")]
    rows = []
    for row in sorted_rows(groups):
        cells = [f"{scored(row, name)}{deviation(row, name)}" for name in ("accuracy", "nll")]
        cells += [scored(row, name) for name in ("ece", "brier")]
        cells += [with_error(row[f"bma_{name}"], row[f"bma_{name}_error"]) for name in ("accuracy", "nll", "ece", "brier")]
        rows.append([named(row), f"{row['networks']:.0f}", *cells])
    return markdown_table(head, rows)


def novelty_table(groups: pd.DataFrame) -> str:
    """Diversity and novelty, one row a source; empty where no source has any."""
    heads = {
        "diversity": "Diversity [nats]",
        "variance_ratio": "Variance ratio",
        "mean_shift": "Mean shift",
        "nearest_distance_mean": "Nearest distance",
        "nearest_distance_min": "Smallest",
        "copying_ratio": "Copying ratio",
        "detectable_by_ratio": "Copies it finds",
        "error_overlap_mean": "Error overlap",
        "largest_error_overlap_mean": "Largest overlap",
    }
    rows = []
    for row in sorted_rows(groups.dropna(subset=[*heads], how="all")):
        errors = {column: row.get(f"{column.removesuffix('_mean')}_error", np.nan) for column in heads}
        cells = {column: with_error(row[column], errors[column]) for column in heads}
        cells["nearest_distance_mean"] = scored(row, "nearest_distance")
        rows.append([named(row), *cells.values()])
    head = ["Source", *heads.values()]
    return markdown_table(head, rows)


def parts_table(parts: pd.DataFrame) -> str:
    """Accuracy and loss on every part of the data, one row a source; empty without rows."""
    names = list(dict.fromkeys(parts["part"]))
    head = ["Source", *(f"{part}: {what}" for part in names for what in ("accuracy", "NLL [nats]"))]
    rows = []
    for source in ordered(parts["source"]):
        table = parts[parts["source"] == source].set_index("part")
        cells = [both_errors(table.loc[part], what) for part in names for what in ("accuracy", "nll")]
        rows.append([f"**{label(source)}**" if source == "samples" else label(source), *cells])
    return markdown_table(head, rows)


def both_errors(row: pd.Series, what: str) -> str:
    """A mean with its standard errors over networks and over examples."""
    errors = [float(row[f"{what}_error_{over}"]) for over in ("networks", "examples")]
    if not np.isfinite(errors).all():
        return f"{row[what]:.4f}"
    return f"{row[what]:.4f} ± {errors[0]:.4f} ± {errors[1]:.4f}"


def moments_table(moments: pd.DataFrame) -> str:
    """Shift and spread of each tensor, one row a tensor, samples beside held-out networks; empty without either."""
    sources = [source for source in ("samples", "held-out") if (moments["source"] == source).any()]
    head = ["Tensor", *(f"{label(source)}: {what}" for source in sources for what in ("shift", "spread"))]
    tables = [moments[moments["source"] == source].set_index("tensor") for source in sources]
    names = tables[0].index if tables else []
    rows = [
        [cell(name), *(fixed(float(table.loc[name, what])) for table in tables for what in ("shift", "spread"))]
        for name in names
    ]
    return markdown_table(head, rows)


def stage_table(stages: pd.DataFrame) -> str:
    """Seconds of each stage and their total; empty without stages."""
    seconds = stages["seconds"].astype(float)
    rows = [[cell(stage), f"{value:.1f}"] for stage, value in zip(stages["stage"], seconds, strict=True)]
    total = [["**total**", f"**{seconds.sum():.1f}**"]] if rows else []
    return markdown_table(["Stage", "Seconds"], [*rows, *total])


def settings_table(settings: Mapping[str, Any]) -> str:
    """Every setting with its dotted name; empty without settings."""
    return markdown_table(
        ["Setting", "Value"], [[code(name), cell(shown(value))] for name, value in flat(settings)], right=()
    )


def facts_table(facts: Mapping[str, Any]) -> str:
    """Facts of the run; empty without facts."""
    rows = [[cell(name.replace("_", " ")), cell(shown(value))] for name, value in flat(facts)]
    return markdown_table(["Fact", "Value"], rows, right=())


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] | None = None) -> str:
    """A Markdown table, columns from the second on right-aligned unless ``right`` names others; empty without rows."""
    if not rows:
        return ""
    aligned = range(1, len(head)) if right is None else right
    rule = ["---:" if column in aligned else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def fixed(value: float, digits: int = 3) -> str:
    """A number with so many decimals; large ones with three significant digits, NaN as a dash."""
    if not np.isfinite(value):
        return NOTHING
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.3g}"


def number(value: float) -> str:
    """A number with three significant digits, NaN as a dash."""
    if not np.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    exponent = int(np.floor(np.log10(abs(value))))
    return f"{value:.{max(0, 2 - exponent)}f}" if -4 < exponent < 6 else f"{value:.2e}"


def mean_std(row: pd.Series, metric: str) -> str:
    """``mean ± std`` of a metric, without ``± std`` where there is one network only."""
    mean, std = row[f"{metric}_mean"], row[f"{metric}_std"]
    single = not np.isfinite(std) or row["networks"] == 1
    return fixed(mean) if single or not np.isfinite(mean) else f"{fixed(mean)} ± {fixed(std)}"


def scored(row: pd.Series, score: str) -> str:
    """Mean score of a source's networks ± its standard error, as exactly as the error allows; without one three digits."""
    return with_error(row[f"{score}_mean"], row[f"{score}_error"])


def deviation(row: pd.Series, score: str) -> str:
    """Deviation over networks in brackets, nothing for one network."""
    single = not np.isfinite(row[f"{score}_std"]) or row["networks"] == 1
    return "" if single else f" ({fixed(row[f'{score}_std'])})"


def with_error(mean: float, error: float) -> str:
    """``mean ± error``, as exactly as the error allows; without an error three significant digits."""
    if not np.isfinite([mean, error]).all() or error <= 0:
        return number(mean)
    digits = min(max(0, 1 - int(np.floor(np.log10(error)))), 6)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def sorted_rows(groups: pd.DataFrame) -> Iterator[pd.Series]:
    table = groups.set_index("source")
    for source in ordered(table.index):
        yield table.loc[source].astype(float).rename(source)


def named(row: pd.Series) -> str:
    name = cell(label(str(row.name)))
    return f"**{name}**" if row.name == "samples" else name


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(item) for item in value)
    if value is None:
        return NOTHING
    return f"{value:g}" if isinstance(value, float) else str(value)


def cell(text: Any) -> str:
    escaped = "".join(f"\\{letter}" if letter in "\\`*_[]<>|~" else letter for letter in str(text))
    return " ".join(escaped.split())


def code(name: str) -> str:
    return f"`{name.replace('|', chr(92) + '|')}`"
