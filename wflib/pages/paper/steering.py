"""Section 8.1.3, what guidance, conditioning and starting points cost and give; and a regression."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from wflib.measurements import Cells
from wflib.measurements.quality import FURTHER
from wflib.pages.paper.numbers import MISSING, Section, both, single, table_of
from wflib.report.curves import framed
from wflib.report.tables import markdown_table
from wflib.report.theme import log_scale, svg_bytes, theme

__all__ = ["regression", "steering"]

COLOURS = {"plain": "#333333", "guidance": "#0072B2", "starting point": "#D55E00", "asked": "#009E73"}
EXPLAINED = (
    "Plain draws; guidance by the gradient at x_t, of strength λ; draws asked for a low loss by classifier-free guidance of "
    "strength w; and starting points x_0 optimised through the solver by so many gradients (Ben-Hamu et al. 2024). "
    "Evaluations of the velocity network for each network drawn, a gradient through one counted as two more."
)


def steering(cells: Cells) -> Section:
    """Cost and gain of three ways."""
    title, rows = "8.1.3 Steering: guidance, conditions, starting points", table_of(cells, "steering")
    if rows.empty:
        return Section(title, [MISSING])
    lines = []
    for (task, way, setting), part in rows.groupby(["task", "way", "setting"], sort=False):
        line = [str(task), str(way), f"{setting:g}", f"{part.evaluations.mean():.0f}", single(part, "seconds", 3)]
        line += [single(part, f"{name}_nll", 4) for name in ("train", "validation")]
        lines.append([*line, both(part, "nll"), both(part, "accuracy"), single(part, "variance_ratio", 2)])
    head = [
        "Task",
        "Way",
        "Setting",
        "Evaluations",
        "Seconds",
        "Train loss",
        "Validation loss",
        "Test loss",
        "Test accuracy",
    ]
    caption = "Validation loss against what a network costs, and against the spread that is left."
    return Section(
        title,
        [markdown_table([*head, "Variance ratio"], lines, []), EXPLAINED, *sentences(rows)],
        {"steering": (figure_of(rows), caption)},
    )


def sentences(rows: pd.DataFrame) -> Iterator[str]:
    """The setting of each way with the lowest validation loss, and what it costs."""
    for task, part in rows.groupby("task", sort=False):
        said = []
        for way, some in part.groupby("way", sort=False):
            means = some.groupby("setting")[["validation_nll", "nll_mean", "seconds", "variance_ratio"]].mean()
            best = means.loc[means.validation_nll.idxmin()]
            said.append(
                f"{way}, {means.validation_nll.idxmin():g}: validation {best.validation_nll:.4f}, test {best.nll_mean:.4f}, "
                f"{best.seconds:.3f} s a network, variance ratio {best.variance_ratio:.2f}"
            )
        yield f"On {task}, by the lowest validation loss of each way: {'; '.join(said)}."


def figure_of(rows: pd.DataFrame) -> bytes:
    """Validation loss over evaluations, and over the ratio of variances, a row for each task."""
    tasks = list(dict.fromkeys(rows.task))
    with theme():
        figure = Figure(figsize=(9, 3.4 * len(tasks)), layout="constrained")
        for task, panels in zip(tasks, figure.subplots(len(tasks), 2, squeeze=False), strict=True):
            part = rows[rows.task == task]
            for axes, x in zip(panels, ("evaluations", "variance_ratio"), strict=True):
                for way, line in part.groupby("way", sort=False):
                    means = line.groupby("setting")[[x, "validation_nll"]].mean()
                    axes.plot(means[x], means.validation_nll, marker="o", color=COLOURS.get(str(way)), label=way)
                log_scale(axes.yaxis, part.validation_nll)
                axes.set(xlabel=x.replace("_", " "), ylabel="validation loss [nats]", title=task)
                framed(axes)
            log_scale(panels[0].xaxis, part.evaluations)
            panels[0].legend(fontsize="x-small")
        return svg_bytes(figure)


def regression(cells: Cells) -> Section:
    """A task that the thesis has none of."""
    title, rows = "A regression: diabetes", table_of(cells, "regression")
    if rows.empty:
        return Section(title, [MISSING])
    lines, said = [], []
    for (geometry, source, steps), part in rows.groupby(["geometry", "source", "steps"], sort=False):
        line = [str(geometry).capitalize(), str(source) + (f", {steps:.0f} steps" if steps else "")]
        line += [both(part, "test_rmse"), both(part, "test_nll"), single(part, "test_average_rmse")]
        line += [single(part, "test_average_nll"), single(part, "train_nll_mean"), single(part, "validation_nll_mean")]
        lines.append([*line, single(part, "coverage_90", 2)])
    for geometry, part in rows.groupby("geometry", sort=False):
        unseen, compared = part[part.source == "held-out"], []
        for source, name in (("samples", "single draws"), (FURTHER, f"{FURTHER}, they")):
            drawn = part[part.source == source]
            drawn = drawn[drawn.steps == drawn.steps.max()]
            if drawn.empty:
                continue
            gap = drawn.test_rmse_mean.mean() - unseen.test_rmse_mean.mean()
            average = drawn.test_average_nll.mean() - unseen.test_average_nll.mean()
            compared.append(
                f"{name} have a test error {abs(gap):.3f} {'above' if gap > 0 else 'below'} held-out networks', "
                f"their average a loss {abs(average):.3f} {'above' if average > 0 else 'below'}"
            )
        said.append(f"{str(geometry).capitalize()}: {'; '.join(compared)}.")
    head = [
        "Flow",
        "Networks",
        "RMSE",
        "NLL",
        "Average: RMSE",
        "Average: NLL",
        "Train NLL",
        "Validation NLL",
        "Coverage of 90 %",
    ]
    words = "In deviations of the target, test data unless said; noise by maximum likelihood on validation data."
    return Section(title, [markdown_table(head, lines, []), words, *said], {})
