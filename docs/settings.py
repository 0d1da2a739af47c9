"""The page of all settings, of the types and descriptions in the code: ``python docs/settings.py`` writes it anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from wflib.config import Settings
from wflib.storage import atomic_path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/settings.md"
PRESETS = ("wdbc", "mnist")
HEAD = """# Settings

Every key of `stages/presets/<task>.yaml`, the values that it takes, what it means, and what two presets say. `params.yaml`
and `dvc exp run -S ++section.key=value` change it for a run; what is not there, or out of range, is refused by name before
anything runs. Presets may say more for a geometry (`geometries`), a kind of network (`by_network`) or a coupling
(`by_coupling`). `models` has settings of single generative models, each with defaults of its own, which their docstrings
say.
"""
WORDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "`true` or `false`", "null": "`null`"}
RANGES = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def values(field: dict[str, Any]) -> str:
    """What a field of a JSON schema may be, in a table's words."""
    if "anyOf" in field:
        return " or ".join(values(one) for one in field["anyOf"])
    if "const" in field or "enum" in field:
        return ", ".join(f"`{one}`" for one in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {values(field['items'])}"
    ranges = [f"{sign} {field[name]:,}" for name, sign in RANGES.items() if name in field]
    return ", ".join([WORDS.get(field.get("type", ""), "mapping"), *ranges])


def shown(value: object) -> str:
    """A preset's value as YAML has it, in code."""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def table(schema: dict[str, Any], presets: list[dict[str, Any]]) -> Iterator[str]:
    """Rows of one section."""
    head = ["setting", "values", "meaning", *(f"`{name}`" for name in PRESETS[: len(presets)])]
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    for name, field in schema["properties"].items():
        if "$ref" in field:
            continue  # a section of its own
        said = [shown(preset[name]) if name in preset else "–" for preset in presets]
        yield f"| {' | '.join([f'`{name}`', values(field), field['description'].replace('|', '&#124;'), *said])} |"


def page() -> str:
    """The whole page, which a test compares with the one that lies there."""
    presets = [YAML(typ="safe").load(ROOT / f"stages/presets/{name}.yaml") for name in PRESETS]
    schema, texts = Settings.model_json_schema(), [HEAD]
    sections = {name: field["$ref"] for name, field in schema["properties"].items() if "$ref" in field}
    for name in sorted(sections, key=list(presets[0]).index):
        section = schema["$defs"][sections[name].rpartition("/")[2]]
        rows = table(section, [one[name] for one in presets])
        texts.append("\n".join([f"## {name}\n\n{section['description']}\n", *rows]))
        if name == "zoo":
            read = schema["$defs"][section["properties"]["read"]["$ref"].rpartition("/")[2]]
            texts.append("\n".join([f"## zoo.read\n\n{read['description']}\n", *table(read, [])]))
    return "\n\n".join(text.strip() for text in texts).replace("``", "`") + "\n"


if __name__ == "__main__":
    with atomic_path(PAGE) as path:
        path.write_text(page())
