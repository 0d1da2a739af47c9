"""Architectures as text: a perceptron as its groups, tensors and layers, any other network as its operations."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from wflib.architecture.builders import perceptron
from wflib.architecture.chain import Layer
from wflib.architecture.operations import KINDS
from wflib.architecture.spec import Architecture

__all__ = ["from_json", "to_json"]


def to_json(architecture: Architecture) -> str:
    """One line of JSON."""
    ends = {"task_type": architecture.task_type, "log_scale": architecture.log_scale}
    layers = plain_layers(architecture)
    if layers is None:
        return json.dumps(
            {
                "inputs": architecture.inputs,
                "shapes": architecture.shapes,
                "operations": [operation.to_dict() for operation in architecture.operations],
                **ends,
            }
        )
    groups = [{"name": group.name, "size": group.size, "permutable": group.permutable} for group in architecture.groups]
    tensors = [asdict(spec) for spec in architecture.tensors]
    return json.dumps({"groups": groups, "tensors": tensors, "layers": [asdict(layer) for layer in layers], **ends})


def plain_layers(architecture: Architecture) -> tuple[Layer, ...] | None:
    """The layers of a perceptron that they describe fully, None for any other network."""
    try:
        layers = architecture.layers
    except ValueError:
        return None
    ends = architecture.task_type, architecture.log_scale
    return layers if perceptron(architecture.shapes, layers, *ends) == architecture else None


def from_json(text: str) -> Architecture:
    """The architecture of a text.

    Raises:
        ValueError: The text names an operation that does not exist, or misses a part.
    """
    raw = json.loads(text)
    ends = {"task_type": raw["task_type"], "log_scale": raw["log_scale"]}
    if "layers" in raw:
        sizes = {}
        for group in raw["groups"]:
            unknown = set(group) ^ {"name", "size", "permutable"}
            if unknown:
                raise ValueError(f"Architecture: a group has name, size and permutable; {sorted(unknown)} do not fit.")
            sizes[group["name"]] = group["size"]
        shapes = tuple((spec["name"], tuple(sizes[axis] for axis in spec["axes"])) for spec in raw["tensors"])
        return perceptron(shapes, tuple(Layer(**layer) for layer in raw["layers"]), **ends)
    operations = []
    for data in raw["operations"]:
        settings = frozen(data)
        kind = settings.pop("kind")
        if kind not in KINDS:
            raise ValueError(f"Architecture: unknown operation {kind!r}; known: {sorted(KINDS)}.")
        operations.append(KINDS[kind](**settings))
    shapes = tuple((name, tuple(shape)) for name, shape in raw["shapes"])
    return Architecture(tuple(raw["inputs"]), shapes, tuple(operations), **ends)


def frozen(data: Any) -> Any:
    """Lists as tuples, all the way down; the outermost dictionary stays one."""
    if isinstance(data, dict):
        return {key: frozen(value) for key, value in data.items()}
    return tuple(frozen(item) for item in data) if isinstance(data, list) else data
