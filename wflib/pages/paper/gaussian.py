"""Section 7.1: a flow between two Gaussians, and what sampling keeps of the variance."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from wflib.measurements import Cells
from wflib.pages.paper.numbers import MISSING, Section, chosen, single, table_of
from wflib.pages.paper.quality import METHODS
from wflib.report.tables import markdown_table
from wflib.report.theme import svg_bytes, theme

__all__ = ["gaussian"]

EXPLAINED = (
    "Means over all weights of a network: mean and deviation over networks; for independent weights of variance one the "
    "deviation is 1/√D, D = 802. Variance ratio: of single weights, over networks, to the target's. The thesis shows "
    "histograms alone, after 20,000 iterations where both methods have 1,000 here: too narrow with deterministic sampling, "
    "mended by noise ε = 0.05. Noise adds variance that depends on the steps; the diffusion keeps the flow's own, and needs "
    "a score, which flows with path noise have not."
)


def gaussian(cells: Cells) -> Section:
    """Figure 7.1 and its numbers."""
    title, rows, means = "7.1 A flow between two Gaussians", table_of(cells, "toy"), table_of(cells, "toy", "means")
    if rows.empty:
        return Section(title, [MISSING])
    lines = []
    for (method, way), part in rows.groupby(["method", "way"], sort=False):
        numbers = [single(part, name, 4) for name in ("mean", "std")]
        lines.append([METHODS[method], way, *numbers, single(part, "variance_ratio", 3)])
    head = ["Method", "Sampling", "Mean weight", "Deviation between networks", "Variance ratio"]
    figures = {"gaussian": (histograms(means), "Figure 7.1: means of the weights of drawn networks.")}
    return Section(title, [markdown_table(head, lines, []), EXPLAINED, *sentences(rows)], figures)


def sentences(rows: pd.DataFrame) -> list[str]:
    """Which way keeps the variance to 5 %."""
    said = []
    for method, part in rows.groupby("method", sort=False):
        ratios = part[part.way != "target"].groupby("way", sort=False).variance_ratio.mean()
        kept = [way for way, ratio in ratios.items() if abs(ratio - 1) <= 0.05]
        words = ", ".join(f"{way} {ratio:.2f}" for way, ratio in ratios.items())
        said.append(
            f"{METHODS[method].capitalize()}: {', '.join(kept) or 'no way of sampling'} keeps the variance to 5 % ({words})."
        )
    return said


def histograms(means: pd.DataFrame) -> bytes:
    """A histogram for each way of sampling beside the target's, a row for each method."""
    methods = list(dict.fromkeys(means.method))
    ways = [way for way in dict.fromkeys(means.way) if way != "target"]
    with theme():
        figure = Figure(figsize=(3.4 * len(ways), 2.8 * len(methods)), layout="constrained")
        for method, panels in zip(methods, figure.subplots(len(methods), len(ways), squeeze=False), strict=True):
            own = chosen(means, method=method)
            own = own[own.seed == own.seed.min()]
            for way, axes in zip(ways, panels, strict=True):
                part = own[own.way.isin(["target", way])]
                if way not in set(part.way):  # a diffusion needs a score, which a flow with path noise has not
                    axes.set_axis_off()
                    continue
                sns.histplot(part, x="mean_weight", hue="way", stat="density", common_norm=False, bins=40, ax=axes)
                axes.set(title=f"{METHODS[method]}, {way}", xlabel="mean of a network's weights")
        return svg_bytes(figure)
