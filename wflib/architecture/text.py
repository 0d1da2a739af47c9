"""Architectures as text: their operations and the shapes of their tensors, from which all else follows."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from wflib.architecture.operations import KINDS, Operation
from wflib.architecture.spec import Architecture

__all__ = ["from_json", "to_json"]


def to_json(architecture: Architecture) -> str:
    """One line of JSON."""
    facts = {field.name: getattr(architecture, field.name) for field in fields(architecture)}
    return json.dumps(facts | {"operations": [operation.to_dict() for operation in architecture.operations]})


def from_json(text: str) -> Architecture:
    """The architecture of a text; runs no code.

    Raises:
        ValueError: The text names an operation that does not exist, or one of its parts is missing or unknown.
    """
    facts = frozen(json.loads(text))
    check_names("an architecture", set(facts), {field.name for field in fields(Architecture)})
    return Architecture(**facts | {"operations": tuple(operation(data) for data in facts["operations"])})


def operation(data: dict[str, Any]) -> Operation:
    """One operation of its plain data."""
    kind = KINDS.get(data.get("kind", ""))
    if kind is None:
        raise ValueError(f"Architecture: unknown operation {data.get('kind')!r}; known: {sorted(KINDS)}.")
    settings = {name: value for name, value in data.items() if name != "kind"}
    check_names(f"an operation {data['kind']}", set(settings), {field.name for field in fields(kind)})
    return kind(**settings)


def check_names(what: str, found: set[str], expected: set[str]) -> None:
    """Refuse parts that are missing or that nobody knows."""
    if found != expected:
        differing = f"without {sorted(expected - found)} and with {sorted(found - expected)}"
        raise ValueError(f"Architecture: {what} has {sorted(expected)}, found one {differing}.")


def frozen(data: Any) -> Any:
    """Lists as tuples, all the way down; dictionaries stay what they are."""
    if isinstance(data, dict):
        return {key: frozen(value) for key, value in data.items()}
    return tuple(frozen(item) for item in data) if isinstance(data, list) else data
