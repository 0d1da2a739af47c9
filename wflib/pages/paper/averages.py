"""Section 7.3.2: what averages of draws predict (figure 7.5)."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from wflib.measurements import Cells
from wflib.pages.paper.numbers import MISSING, Section, chosen, table_of
from wflib.pages.paper.quality import GEOMETRY_COLOURS, METHODS
from wflib.report.curves import framed
from wflib.report.theme import INK, svg_bytes, theme

__all__ = ["averages"]


def averages(cells: Cells) -> Section:
    """Section 7.3.2, figure 7.5: averages of 1 to 100 samples."""
    rows = table_of(cells, "averages")
    blocks, figures = [], {}
    for task in [] if rows.empty else list(dict.fromkeys(rows.task)):
        for method in dict.fromkeys(rows[rows.task == task].method):
            part = chosen(rows, task=task, method=method, alignment="aligned")
            if part.empty:
                continue
            caption = (
                f"Averages of predictions, {task}, {METHODS[method]}: accuracy, loss and calibration error (test); dotted: "
                "draws trained further."
            )
            figures[f"averages-{task}-{method}"] = (averages_figure(part), f"Figure 7.5: {caption}")
            blocks.append(average_sentence(part, task, method))
    if not blocks:
        blocks = [MISSING]
    return Section("7.3.2 Averages of samples", blocks, figures)


def average_sentence(rows: pd.DataFrame, task: str, method: str) -> str:
    """Which flows' averages of at most 32 reach single trained networks."""
    single_network = chosen(rows, source="training", count=1).test_accuracy_mean.mean()
    said = []
    drawn = rows[rows.source != "training"]
    for (geometry, coupling, source), part in drawn.groupby(["geometry", "coupling", "source"], sort=False):
        means = part[part["count"] <= 32].groupby("count").test_accuracy_mean.mean()
        enough = means.index[means >= single_network]
        words = f"at {enough[0]}" if len(enough) else f"not ({means.max():.3f})"
        said.append(f"{geometry}, {coupling}{'' if source == 'samples' else f', {source}'}: {words}")
    reached = "" if math.isnan(single_network) else f" ({single_network:.3f})"
    return (
        f"{task}, {METHODS[method]}: averages of at most 32 samples reach the accuracy of single trained networks{reached}: "
        f"{'; '.join(said)}."
    )


def averages_figure(rows: pd.DataFrame) -> bytes:
    """Accuracy, loss and calibration error against the number of samples, a row of panels for each coupling."""
    couplings = list(dict.fromkeys(rows.coupling))
    with theme():
        figure = Figure(figsize=(11, 3 * len(couplings)), layout="constrained")
        for coupling, panels in zip(couplings, figure.subplots(len(couplings), 3, squeeze=False), strict=True):
            part = rows[rows.coupling == coupling]
            trained = part[part.source == "training"]
            for axes, measure in zip(panels, ("test_accuracy_mean", "test_nll_mean", "test_ece_mean"), strict=True):
                for (geometry, source), line in part[part.source != "training"].groupby(["geometry", "source"], sort=False):
                    means, colour = line.groupby("count")[measure].mean(), GEOMETRY_COLOURS[geometry]
                    style = (
                        {"color": colour, "label": geometry} if source == "samples" else {"color": colour, "linestyle": ":"}
                    )
                    axes.plot(means.index, means, marker="o", markersize=4, **style)
                means = trained.groupby("count")[measure].mean()
                axes.plot(means.index, means, color=INK, linestyle="--", linewidth=1, label="trained networks")
                axes.set_xscale("log", base=2)
                axes.set(xlabel="networks averaged", ylabel=measure.removesuffix("_mean").replace("_", " "), title=coupling)
                framed(axes)
            panels[0].legend(fontsize="x-small")
        return svg_bytes(figure)
