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
        ValueError: The text names an operation that does not exist, one of its parts is missing or unknown, or it is damaged
            in any other way.
    """
    try:
        facts = frozen(json.loads(text))
        check_names("an architecture", set(facts), {field.name for field in fields(Architecture)})
        made = Architecture(**facts | {"operations": tuple(operation(data) for data in facts["operations"])})
        _ = made.derivation  # goes through all operations, and is kept
        return made
    except ValueError:
        raise
    except Exception as error:  # anything may stand in a text, and Architecture computes with all of it
        said = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(f"Architecture: expected a text that to_json has written, found a damaged one ({said}).") from error


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
