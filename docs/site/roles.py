"""Docstrings for the site: Sphinx's roles become links where the target has a page, and code where it has none."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`(?P<short>~)?(?P<target>[\w.]+)`")
AXES = re.compile(r"(?<=, )\*(?=\w)")


class Roles(Extension):
    """Rewrites docstrings as they are collected."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called by griffe for every object."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value, obj)


def rewritten(text: str, obj: Object) -> str:
    """A docstring with links for roles, and with the stars of ``*shape`` kept from becoming emphasis."""

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        shown = target.rsplit(".", 1)[-1] if match["short"] else target
        if "." not in target:
            target = f"{obj.module.path}.{target}"
        return f'<autoref identifier="{target}" optional><code>{shown}</code></autoref>'

    lines = text.split("\n")
    code = [line.lstrip().startswith((">>>", "...")) for line in lines]
    return "\n".join(
        line if is_code else AXES.sub(r"\\*", ROLE.sub(link, line)) for line, is_code in zip(lines, code, strict=True)
    )
