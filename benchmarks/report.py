"""Tables and a figure of the benchmarks, all of them ratios within one run.

python -m benchmarks.report STEPS.json QUALITY.csv reports/benchmarks
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import seaborn as sns
import typer
from matplotlib.figure import Figure

from benchmarks.quality import TARGET_NLL
from stages.common import application
from wflib.report.tables import markdown_table
from wflib.report.theme import INK, svg_bytes, theme
from wflib.storage import atomic_path

FITTED_FROM = 5_000
ALLOWED = 1.1
"""An exponent of growth, drawn beside the measurements."""

app = application("report")


def read(path: Path) -> pd.DataFrame:
    """pytest-benchmark's file as one row per measurement: its facts and the median seconds."""
    found = json.loads(path.read_text())["benchmarks"]
    rows = pd.DataFrame([{**item["extra_info"], "seconds": item["stats"]["median"]} for item in found])
    return rows.astype({"memory": float, "operations": float})


def step_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Per kind, size and precision: seconds of a step, and ratios to all-pairs attention and to the matrix-product limit."""
    steps = rows[rows.group == "step"].copy()
    pairs = steps[steps.kind == "all-pairs"].set_index("widths")
    per_network = pairs.seconds / pairs.batch, pairs.memory / pairs.batch
    steps["times_faster_than_all_pairs"] = steps.widths.map(per_network[0]) / (steps.seconds / steps.batch)
    steps["share_of_its_memory"] = (steps.memory / steps.batch) / steps.widths.map(per_network[1])
    steps["times_the_limit"] = steps.seconds / (steps.operations / steps.rate)
    columns = ["kind", "widths", "batch", "precision", "seconds", "memory"]
    return steps[[*columns, "times_faster_than_all_pairs", "share_of_its_memory", "times_the_limit"]]


def exponents(rows: pd.DataFrame) -> pd.DataFrame:
    """Fitted exponents of seconds and of memory in the number of base weights, from 5,000 weights on."""
    growth, found = rows[(rows.group == "growth") & (rows.weights >= FITTED_FROM)], []
    for kind, part in growth.groupby("kind", sort=False):
        slopes = [np.polyfit(np.log(part.weights), np.log(part[measure]), 1)[0] for measure in ("seconds", "memory")]
        found.append({"kind": kind, "time_exponent": f"{slopes[0]:.2f}", "memory_exponent": f"{slopes[1]:.2f}"})
    return pd.DataFrame(found)


def seconds_to_target(quality: pd.DataFrame) -> pd.DataFrame:
    """Training seconds at the first measurement whose mean sample NLL is on target, and the last NLL."""
    found = []
    for (kind, loss, optimizer), part in quality.groupby(["kind", "loss", "optimizer"], sort=False):
        reached = part[part.nll_mean <= TARGET_NLL]
        when = f"{reached.seconds.iloc[0]:.0f}" if len(reached) else f"not in {part.seconds.max():.0f}"
        facts = {"kind": kind, "loss": loss, "optimizer": optimizer}
        found.append({**facts, f"seconds_to_{TARGET_NLL}": when, "last_nll": part.nll_mean.iloc[-1]})
    return pd.DataFrame(found)


def figure(rows: pd.DataFrame, quality: pd.DataFrame) -> bytes:
    """Seconds and memory against base weights; NLL and validation loss against training seconds."""
    growth = rows[rows.group == "growth"].copy()
    growth["grown"] = np.where(growth.widths.str.count("-") > 3, "depth", "width")
    kinds = list(dict.fromkeys([*growth.kind, *quality.kind]))
    palette = dict(zip(kinds, sns.color_palette("colorblind", len(kinds)), strict=True))
    ways = quality.assign(way=quality.loss + ", " + quality.optimizer)
    with theme():
        sheet = Figure(figsize=(10, 7), layout="constrained")
        axes = sheet.subplots(2, 2)
        costs = {"seconds": "seconds of a step", "memory": "peak MB of a step"}
        for ax, (measure, label) in zip(axes[0], costs.items(), strict=True):
            look = {"hue": "kind", "palette": palette, "style": "grown", "legend": measure == "memory"}
            sns.scatterplot(growth, x="weights", y=measure, ax=ax, s=40, **look)
            ends = np.array([FITTED_FROM, growth.weights.max()])
            line = 0.3 * growth[growth.weights == ends[1]][measure].min() * (ends / ends[1]) ** ALLOWED
            ax.plot(ends, line, color=INK, linewidth=0.8)
            ax.annotate(f"exponent {ALLOWED}", (ends.prod() ** 0.5, line.prod() ** 0.5), va="top", fontsize="small")
            ax.set(xscale="log", yscale="log", xlabel="base weights", ylabel=label)
        curves = {"nll_mean": "mean NLL of samples [nats]", "validation_loss": "validation loss"}
        for ax, (measure, label) in zip(axes[1], curves.items(), strict=True):
            look = {"hue": "kind", "palette": palette, "style": "way", "legend": measure == "validation_loss"}
            sns.lineplot(ways, x="seconds", y=measure, marker="o", ax=ax, **look)
            ax.set(xlabel="training seconds", ylabel=label, xscale="log", yscale="log")
        axes[1, 0].axhline(TARGET_NLL, color=INK, linewidth=0.8)
        for ax in axes[:, 1]:
            sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1))
        return svg_bytes(sheet)


def markdown(table: pd.DataFrame) -> str:
    """A table with two significant digits, or all before the point."""

    def text(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return "" if np.isnan(value) else f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"

    rows = [[text(value) for value in row] for row in table.to_numpy()]
    return markdown_table([column.replace("_", " ") for column in table.columns], rows, [])


@app.command()
def main(
    steps: Annotated[Path, typer.Argument(help="JSON file of pytest-benchmark.")],
    quality: Annotated[Path, typer.Argument(help="CSV file of benchmarks.quality.")],
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
) -> None:
    """Write steps.csv, growth.csv, benchmarks.md and benchmarks.svg."""
    rows, learned = read(steps), pd.read_csv(quality)
    table, slopes, target = step_table(rows), exponents(rows), seconds_to_target(learned)
    growth = rows[rows.group == "growth"][["kind", "widths", "weights", "seconds", "memory"]]
    rate = (rows[rows.group == "step"].groupby("precision").rate.median() / 1e9).round().astype(int)
    rates = ", ".join(f"{value} GFLOP/s in {precision}" for precision, value in rate.items())
    text = (
        f"Medians; CPU threads: {rows.threads.max()}. Seconds are of one training step (forward, backward, Adam); memory is "
        "what a step adds, in MB, to the peak of a fresh process. Products are in the given precision (bfloat16: autocast). "
        "Ratios to all-pairs attention (float32) are per network of the batch. The limit is the time that the operations a "
        f"step needs would take at the rate of a large matrix product in the same precision, measured right "
        f"before and after: {rates}.\n\n"
        f"{markdown(table)}\n\n"
        f"Growth: exponents of seconds and MB in the number of base weights, fitted from {FITTED_FROM:,} to "
        f"{growth.weights.max():,} weights over hidden widths and depths:\n\n"
        f"{markdown(slopes)}\n\nTraining seconds to a mean sample NLL of {TARGET_NLL} nats on WDBC:\n\n{markdown(target)}\n"
    )
    for name, content in {"steps.csv": table.to_csv(index=False), "growth.csv": growth.to_csv(index=False)}.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(content)
    with atomic_path(out / "benchmarks.md") as temporary:
        temporary.write_text(text)
    with atomic_path(out / "benchmarks.svg") as temporary:
        temporary.write_bytes(figure(rows, learned))


if __name__ == "__main__":
    app()
