"""page: tables and figures from the cells of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.common import application
from wflib.config import clear_errors
from wflib.measurements import load_cells
from wflib.pages import PAGES, make_page, save_page

app = application("page")


@app.command()
def main(
    name: Annotated[str, typer.Argument(help=f"Which page: {', '.join(PAGES)}.")],
    cells: Annotated[Path, typer.Argument(help="Folder of cells, in any depth.")],
    out: Annotated[Path, typer.Argument(help="Files to write, without their endings; a folder for the page paper.")],
) -> None:
    """Make a page's tables and figures from what cells have found; nothing is computed anew.

    Rows that the page paper has kept in OUT/tables count where their cells are not there; remove that folder to forget them.
    """
    with clear_errors(f"page {name}"):
        save_page(out, make_page(name, load_cells(cells, out / "tables")))


if __name__ == "__main__":
    app()
