"""Sections 7.3.4 and 7.3.5: wider networks from the same flow (table 7.4), and larger flows (figure 7.7)."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from wflib.measurements import Cells
from wflib.pages.paper.numbers import MISSING, Section, both, chosen, first_of, published, table_of
from wflib.pages.paper.quality import GEOMETRIES, GEOMETRY_COLOURS, METHODS, most_steps
from wflib.pages.paper.thesis import WIDTHS
from wflib.report.curves import framed
from wflib.report.tables import markdown_table
from wflib.report.theme import log_scale, svg_bytes, theme

__all__ = ["sizes", "widths"]

EXPLAINED = (
    "MNIST's test data, flows learned on networks with 10 hidden neurons. With one factor: all logits times one number for "
    "each width, the best of 41 on validation data. It tells over-confidence, which a factor mends, from wrong directions "
    "of weights, which none does. The thesis' losses of normalized and geometric flows are without the output scale."
)


def widths(cells: Cells) -> Section:
    """Table 7.4."""
    rows = table_of(cells, "quality")
    rows = rows[rows.width > 0] if len(rows) else rows
    title = "7.3.4 Networks of other widths"
    head = ["Flow", "Method", "Width", "Guidance", "Thesis: accuracy", "Thesis: loss"]
    head, lines = [*head, "Accuracy", "Loss", "Loss, one factor", "Loss without scale"], []
    for geometry, method in ((g, m) for g in GEOMETRIES for m in METHODS):
        part = chosen(rows, geometry=geometry, method=method)
        measured = set(zip(part.width, part.guidance, strict=True)) if len(part) else set()
        for width, guidance in sorted(measured) or [(32, 0.0), (32, 0.1)]:
            numbers = WIDTHS[geometry, guidance > 0] if width == 32 else (None, None)
            labels, forms = {"width": width, "guidance": guidance}, ("as drawn", "one factor", "scale dropped")
            drawn, mended, bare = (most_steps(part, **labels, form=form) for form in forms)
            line = [geometry.capitalize(), METHODS[method], f"{width:.0f}", f"{guidance:g}", *map(published, numbers)]
            lines.append([*line, both(drawn, "accuracy"), both(drawn, "nll"), both(mended, "nll"), both(bare, "nll")])
    blocks = ["### Table 7.4", markdown_table(head, lines, []), EXPLAINED, *width_sentences(rows)]
    return Section(title, blocks, {})


def width_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """Whether wider networks are better, and over-confident."""
    for method in METHODS:
        part, said = chosen(rows, method=method), []
        for geometry in GEOMETRIES:
            found = chosen(part, geometry=geometry)
            narrow, wide = (most_steps(found, width=width) for width in (10, 32))
            mended = most_steps(found, width=32, form="one factor")
            if len(narrow) and len(wide):
                losses = [first_of(some, "nll_mean") for some in (narrow, wide, mended)]
                said.append(
                    f"{geometry} {first_of(wide, 'accuracy_mean'):.3f} at 32 neurons beside "
                    f"{first_of(narrow, 'accuracy_mean'):.3f} at 10, loss {losses[1]:.3f} beside {losses[0]:.3f}, with one "
                    f"factor {losses[2]:.3f}"
                )
        if said:
            yield f"{METHODS[method].capitalize()}: {'; '.join(said)}."


def sizes(cells: Cells) -> Section:
    """Figure 7.7, of cells with a label ``size``."""
    rows, title = table_of(cells, "flow"), "7.3.5 Flows of other sizes"
    rows = rows[rows["size"].notna()] if "size" in rows.columns else rows.iloc[:0]
    if rows.empty:
        return Section(title, [MISSING])
    rows = rows[rows.steps == rows.groupby(["size", "geometry", "seed"]).steps.transform("max")]
    head = ["Features", "Parameters", *(f"{g}: {what}" for g in GEOMETRIES for what in ("accuracy", "loss"))]
    lines = []
    for size, part in rows.groupby("size"):
        own = [chosen(part, geometry=geometry) for geometry in GEOMETRIES]
        numbers = [both(found, measure) for found in own for measure in ("accuracy", "nll")]
        lines.append([f"{size:.0f}", f"{part.parameters.mean():,.0f}", *numbers])
    with theme():
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        for axes, measure in zip(figure.subplots(1, 2), ("accuracy_mean", "nll_mean"), strict=True):
            for geometry in GEOMETRIES:
                means = chosen(rows, geometry=geometry).groupby("parameters")[measure].mean()
                axes.plot(means.index, means, marker="o", color=GEOMETRY_COLOURS[geometry], label=geometry)
            log_scale(axes.xaxis, rows.parameters)
            axes.set(xlabel="parameters of the flow", ylabel=measure.replace("_", " "))
            framed(axes)
        axes.legend(fontsize="x-small")
        drawing = svg_bytes(figure)
    caption = "Figure 7.7: quality of draws by the flow's size, the same number of iterations for all."
    blocks = [markdown_table(head, lines, []), *size_sentences(rows)]
    return Section(title, blocks, {"sizes": (drawing, caption)})


def size_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """Whether larger flows draw better networks."""
    for geometry in GEOMETRIES:
        means = chosen(rows, geometry=geometry).groupby("size").nll_mean.mean()
        if len(means) > 1:
            trend = "falls with every size" if means.is_monotonic_decreasing else "does not fall with every size"
            losses, sizes = (", ".join(words) for words in (map("{:.3f}".format, means), map("{:.0f}".format, means.index)))
            yield f"{geometry.capitalize()}: the loss {trend} ({losses} for {sizes} features)."
