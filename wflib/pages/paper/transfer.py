"""Section 7.3.3: MNIST's flows on Fashion-MNIST, by guidance (table 7.3) and as initial weights (figure 7.6)."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from wflib.measurements import Cells
from wflib.pages.paper.numbers import MISSING, Section, both, chosen, published, single, table_of
from wflib.pages.paper.quality import GEOMETRIES, METHODS
from wflib.pages.paper.thesis import TRANSFER
from wflib.report.curves import framed
from wflib.report.tables import markdown_table
from wflib.report.theme import svg_bytes, theme

__all__ = ["best_by_validation", "start_sentences", "steps_to", "transfer"]

WAYS = (
    "guided as published",
    "guided",
    "not guided",
    "sees the other task",
    "trained from the prior",
    "trained from draws",
    "trained for epochs",
)
START_COLOURS = {
    "flow": "#D55E00",
    "guided flow": "#E6AB02",
    "zoo": "#0072B2",
    "few-steps": "#66A61E",
    "gaussian": "#999999",
    "wide-gaussian": "#CC79A7",
    "he": "#333333",
}
DRAWN, RANDOM = ("flow", "guided flow"), ("gaussian", "wide-gaussian", "he")
ENOUGH = 0.80
EXPLAINED = (
    "Fashion-MNIST's test data; guidance and training see its training data alone, the strength λ or the learning rate is "
    "the one with the lowest validation loss of those tried. Every Euler step takes one gradient, as every step of training "
    "by Adam does, of 256 examples. Guided as published: λ = 0.1, by 64 examples. The project's flows see the loss' "
    "gradient, where they are guided that of Fashion-MNIST: what this does without guidance says “sees the other task”. "
    "Losses without scale are those that the thesis has of normalized and geometric flows. Seconds of one network, drawing "
    "counted."
)


def best_by_validation(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each seed, way and number of steps the row of the setting with the lowest validation loss."""
    places = rows.groupby(["seed", "way", "steps"], sort=False).validation_nll.idxmin()
    return rows.loc[places]


def transfer(cells: Cells) -> Section:
    """Table 7.3 and figure 7.6."""
    rows, starts = table_of(cells, "transfer"), table_of(cells, "starts")
    blocks = ["### Table 7.3", guided_table(rows), EXPLAINED, *guided_sentences(rows)]
    figures = {}
    if len(starts):
        blocks += ["### Figure 7.6", starts_table(starts), *start_sentences(starts)]
        caption = "Figure 7.6: training on Fashion-MNIST by Adam from several starts: means of runs, bands their extremes."
        figures["starts"] = (starts_figure(starts), caption)
    else:
        blocks += ["### Figure 7.6", MISSING]
    return Section("7.3.3 Transfer to Fashion-MNIST", blocks, figures)


def guided_table(rows: pd.DataFrame) -> str:
    """A row for each geometry, method, way and number of steps."""
    head = [
        "Flow",
        "Method",
        "Way",
        "Steps",
        "Chosen λ or rate",
        "Thesis: accuracy",
        "Thesis: loss",
        "Accuracy",
        "Loss",
        "Loss without scale",
    ]
    lines = []
    for geometry in GEOMETRIES:
        for method in METHODS:
            part = chosen(rows, geometry=geometry, method=method)
            if part.empty:
                lines.append(line_of(geometry, method, "guided as published", None, part))
                continue
            best = best_by_validation(part)
            for way in WAYS:
                for steps, found in best[best.way == way].groupby("steps"):
                    lines.append(line_of(geometry, method, way, int(steps), found))
    return markdown_table([*head, "Validation loss", "Seconds"], lines, [])


def line_of(geometry: str, method: str, way: str, steps: int | None, found: pd.DataFrame) -> list[str]:
    """One line of the table."""
    numbers = TRANSFER.get(geometry if way == "guided as published" else way, (None, None))
    settings = ", ".join(f"{value:g}" for value in sorted(set(found.setting))) if len(found) else MISSING
    line = [geometry.capitalize(), METHODS[method], way, MISSING if steps is None else str(steps), settings]
    line += [*map(published, numbers), both(found, "accuracy"), both(found, "nll"), both(found, "bare_nll")]
    return [*line, single(found, "validation_nll"), single(found, "seconds", 2)]


def guided_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """Whether guidance reaches 0.80, and whether as many steps of training do better."""
    for method in METHODS:
        part = chosen(rows, method=method)
        if part.empty:
            continue
        said = []
        for geometry in GEOMETRIES:
            found = chosen(part, geometry=geometry)
            if found.empty:
                continue
            best = best_by_validation(found)
            most = best[best.way == "guided"].steps.max()
            means = best[best.steps == most].groupby("way").accuracy_mean.mean()
            plain = means.get("trained from the prior")
            beside = "" if plain is None else f", as many steps of training from the prior {plain:.3f}"
            said.append(f"{geometry} {means['guided']:.3f}{beside}")
        yield f"With the {METHODS[method]}, guided: {'; '.join(said)}."


def steps_to(rows: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """The first measured step of each run from which on its test accuracy is at least so high, and the seconds until then.

    Args:
        rows: ``start``, ``seed``, ``run``, ``step``, ``test_accuracy``, ``making_seconds``, ``step_seconds``.
        accuracy: What is to be reached.

    Returns:
        ``start``, ``seed``, ``run``, ``steps``, ``seconds``; NaN where a run does not reach it.
    """
    found = []
    for (start, seed, run), part in rows.groupby(["start", "seed", "run"], sort=False):
        part = part.sort_values("step")
        stays = (part.test_accuracy >= accuracy)[::-1].cummin()[::-1]
        first = part[stays].head(1)
        steps = float(first.step.iloc[0]) if len(first) else float("nan")
        seconds = part.making_seconds.iloc[0] + steps * part.step_seconds.iloc[0]
        found.append({"start": start, "seed": seed, "run": run, "steps": steps, "seconds": seconds})
    return pd.DataFrame(found)


def starts_table(rows: pd.DataFrame) -> str:
    """Steps and seconds to 0.80 of every start, for each flow."""
    head = [
        "Flow",
        "Method",
        "Start",
        f"Steps to {ENOUGH:g}, each run",
        "Seconds to it",
        "Gradients before",
        "Making the start [s]",
        "At the end",
    ]
    lines = []
    for (method, geometry), part in rows.groupby(["method", "geometry"], sort=False):
        reached = steps_to(part, ENOUGH)
        for start, runs in reached.groupby("start", sort=False):
            steps = ", ".join(MISSING if pd.isna(value) else f"{value:.0f}" for value in runs.steps)
            own = part[part.start == start]
            last = own[own.step == own.step.max()].test_accuracy
            seconds = f"{runs.seconds.mean():.3f}" if runs.seconds.notna().all() else MISSING
            line = [str(geometry).capitalize(), METHODS[method], str(start), steps, seconds]
            before = own.making_gradients.mean() if "making_gradients" in own else float("nan")
            line.append(MISSING if pd.isna(before) else f"{before:.0f}")
            lines.append([*line, f"{own.making_seconds.mean():.4f}", f"{last.mean():.3f} ± {last.std():.3f}"])
    return markdown_table(head, lines, [])


def start_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """Whether every run from the flow is faster than every one from random weights."""
    for (method, geometry), part in rows.groupby(["method", "geometry"], sort=False):
        reached = steps_to(part, ENOUGH).set_index("start")

        def said(start: str, slowest: bool, reached: pd.DataFrame = reached) -> str:
            runs = reached.loc[[start]]
            steps = runs.steps.max(skipna=False) if slowest else runs.steps.min()
            return f"{start} " + ("—" if pd.isna(steps) else f"{steps:.0f} ({runs.seconds.mean():.2f} s)")

        ours, others = ([one for one in names if one in reached.index] for names in (DRAWN, RANDOM))
        slowest, fastest = (", ".join(said(one, names is ours) for one in names) for names in (ours, others))
        yield (
            f"{METHODS[method]}, {geometry}: the slowest run from draws takes so many steps (mean seconds with making the "
            f"start): {slowest}; the fastest from random weights: {fastest}."
        )


def starts_figure(rows: pd.DataFrame) -> bytes:
    """Test accuracy and loss against steps, a row for each flow."""
    groups = list(rows.groupby(["method", "geometry"], sort=False))
    with theme():
        figure = Figure(figsize=(10, 3.2 * len(groups)), layout="constrained")
        for ((method, geometry), part), panels in zip(groups, figure.subplots(len(groups), 2, squeeze=False), strict=True):
            for axes, measure in zip(panels, ("test_accuracy", "test_nll"), strict=True):
                for start, runs in part.groupby("start", sort=False):
                    curve = runs.groupby("step")[measure].agg(["mean", "min", "max"])
                    colour = START_COLOURS.get(str(start))
                    axes.plot(curve.index, curve["mean"], color=colour, label=start)
                    axes.fill_between(curve.index, curve["min"], curve["max"], color=colour, alpha=0.15, linewidth=0)
                axes.set_xscale("symlog", linthresh=1)
                axes.set(xlabel="steps of Adam", ylabel=measure.replace("_", " "), title=f"{METHODS[method]}, {geometry}")
                framed(axes)
            panels[1].set_ylim(0, min(3.0, part.test_nll.quantile(0.98)))
            panels[0].legend(fontsize="x-small")
        return svg_bytes(figure)
