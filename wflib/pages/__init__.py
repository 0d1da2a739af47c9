"""Pages: tables and figures from cells, one function a page, registered here by name."""

from collections.abc import Callable

from wflib.measurements import Cells
from wflib.pages import studies
from wflib.pages.files import Contents, save_page
from wflib.pages.paper import thesis_page

__all__ = ["PAGES", "Contents", "make_page", "save_page"]

PAGES: dict[str, Callable[[Cells], Contents]] = {name: getattr(studies, name) for name in studies.__all__}
PAGES["paper"] = thesis_page
"""Name → function that makes the page."""


def make_page(name: str, cells: Cells) -> Contents:
    """A page of ``PAGES``.

    Raises:
        ValueError: No such page, or none of its cells.
    """
    if name not in PAGES:
        raise ValueError(f"expected one of {', '.join(PAGES)}.")
    return PAGES[name](cells)
