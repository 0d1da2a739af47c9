"""What the parts of :class:`wflib.networks.Networks` must be, and which networks an index means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.architecture.operations import Embedding
from wflib.networks.names import listed
from wflib.networks.states import check_floating

__all__ = ["check_architecture", "check_stacked", "checked_inputs", "checked_names", "places", "require_tensor"]


def check_architecture(architecture: Architecture) -> None:
    """Refuse what is no architecture.

    Raises:
        ValueError: Says what was given.
    """
    if not isinstance(architecture, Architecture):
        raise ValueError(f"Networks: expected an architecture, as mlp([30, 16, 2]) makes one, got {architecture!r}.")


def check_stacked(architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not stacked tensors of an architecture in one precision of 16 bits or more.

    Raises:
        ValueError: Names the tensors, what was expected and what was found.
    """
    check_architecture(architecture)
    if not isinstance(weights, Mapping):
        raise ValueError(f"Networks: expected a mapping of names to stacked tensors, got a {type(weights).__name__}.")
    try:
        check_floating(weights)
    except ValueError as error:
        raise ValueError(f"Networks: {error}") from error
    architecture.validate(weights)
    name, shape = architecture.shapes[0]
    if weights[name].ndim != 1 + len(shape):
        raise ValueError(
            f"Networks: expected stacked tensors, {name} of shape (networks, {', '.join(map(str, shape))}), got "
            f"{tuple(weights[name].shape)}; stack single networks with Networks.from_state_dicts."
        )
    dtypes = {name: tensor.dtype for name, tensor in weights.items()}
    if len(set(dtypes.values())) > 1 or min(dtype.itemsize for dtype in dtypes.values()) < 2:
        found = listed(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise ValueError(f"Networks: expected tensors of one dtype of 16 bits or more, got {found}; convert them.")


def require_tensor(what: str, given: object) -> None:
    """Refuse arrays and lists, which have no device.

    Raises:
        ValueError: Says what was given.
    """
    if not isinstance(given, Tensor):
        raise ValueError(f"{what} expected a tensor, got a {type(given).__name__}; convert it: torch.as_tensor(…).")


def checked_inputs(architecture: Architecture, weights: Weights, inputs: Tensor) -> Tensor:
    """Inputs on which stacked networks run.

    Raises:
        ValueError: Another shape than theirs, or another precision, which tokens have.
    """
    require_tensor("Networks: inputs", inputs)
    first, axes = next(iter(weights.values())), inputs.ndim - len(architecture.inputs)
    leading = inputs.shape[: max(axes, 0)]
    if inputs.shape[len(leading) :] != architecture.inputs or axes not in (1, 2) or (axes == 2 and leading[0] != len(first)):
        shape = ", ".join(map(str, architecture.inputs))
        raise ValueError(
            f"Shape mismatch: expected inputs (examples, {shape}), or ({len(first)}, examples, {shape}) of {len(first)} "
            f"networks, got {tuple(inputs.shape)}."
        )
    if inputs.dtype == first.dtype or torch.is_autocast_enabled(inputs.device.type):
        return inputs
    if not any(isinstance(operation, Embedding) for operation in architecture.operations):
        raise ValueError(
            f"Networks: expected inputs in {first.dtype}, as weights are, got {inputs.dtype}; convert them: "
            f"inputs.to({first.dtype})."
        )
    return inputs


def checked_names(names: Iterable[str], count: int) -> tuple[str, ...]:
    """Names of networks, one for each.

    Raises:
        ValueError: They are no texts, too few or too many, or some are alike.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f"Networks: expected {count} different names, got {names!r}.")
    found = tuple(names)
    if not all(isinstance(name, str) for name in found) or not len(set(found)) == len(found) == count:
        raise ValueError(f"Networks: expected {count} different names, each a text, got {listed(map(repr, found))}.")
    return found


def places(index: Any, count: int) -> Tensor:
    """Numbers of the networks that a slice, a mask or several indices mean, on the CPU.

    Raises:
        ValueError: It is none of these, or does not fit so many networks.
    """
    if isinstance(index, slice):
        return torch.tensor(range(count)[index], dtype=torch.int64)
    try:
        asked = index.cpu() if isinstance(index, Tensor) else torch.as_tensor(np.array(index, order="C"))
        return torch.arange(count)[(asked if asked.numel() else asked.long()).view(len(asked))]
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"Networks: expected a number, a slice, a mask or a list of numbers for {count} networks, got {index!r}."
        ) from error
