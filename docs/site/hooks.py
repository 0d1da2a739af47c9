"""Formulas of the documentation: $…$ and $$…$$ become MathML, which browsers draw without a script of anybody's."""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace formulas outside of code; called by mkdocs for every page."""
    parts = CODE.split(markdown)
    return "".join(part if place % 2 else FORMULA.sub(drawn, part) for place, part in enumerate(parts))


def drawn(match: re.Match[str]) -> str:
    """One formula as MathML, on one line, as Markdown keeps what stands in it then."""
    block = match["block"]
    return convert((block or match["inline"]).strip(), display="block" if block else "inline").replace("\n", "")
