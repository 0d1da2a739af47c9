"""The thesis' chapter 7, its numbers beside this project's: a page from whatever cells there are."""

from __future__ import annotations

from collections.abc import Callable

from wflib.measurements import Cells
from wflib.pages.files import Contents
from wflib.pages.paper import averages, gaussian, quality, sizes, steering, transfer
from wflib.pages.paper.numbers import MISSING, Section
from wflib.report.document import render_html

__all__ = ["SECTIONS", "thesis_page"]

SECTIONS: tuple[Callable[[Cells], Section], ...] = (
    *(gaussian.gaussian, quality.wdbc, quality.mnist, averages.averages, transfer.transfer),
    *(sizes.widths, sizes.sizes, steering.steering, steering.regression),
)
INTRODUCTION = (
    "Made by `dvc repro reports/paper/dvc.yaml` from {cells} cells, {hours:.1f} hours of work on one core or a few. Numbers "
    "are means over seeds ± deviation over samples ± deviation over seeds, the last where there are several; what a set of "
    "networks has one of, such as seconds or the loss of an average, has the last alone. A number that "
    f"has not been computed is {MISSING}. What is chosen (strengths, learning rates, factors) is chosen by validation data."
)


def thesis_page(cells: Cells) -> Contents:
    """README.md, an offline page.html, figures as SVG, and as CSV the rows of all cells, which the next page takes up."""
    cells, tables = cells.as_kept()  # another page from these tables alone shall say the same
    made = cells.summary
    parts = ["# The thesis' results, here", INTRODUCTION.format(cells=len(made), hours=made.seconds.sum() / 3600)]
    contents = {f"tables/{name}.csv": content for name, content in tables.items()}
    images: dict[str, bytes] = {}
    for section in (make(cells) for make in SECTIONS):
        parts += [f"## {section.title}", *section.blocks]
        for name, (drawing, caption) in section.figures.items():
            images[f"figures/{name}.svg"] = drawing
            parts += [f"![{caption.split(':')[0]}](figures/{name}.svg)", caption]
    text = "\n\n".join(parts) + "\n"
    return contents | images | {"README.md": text.encode(), "page.html": render_html(text, images).encode()}
