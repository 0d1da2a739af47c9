"""State dicts of many files or of memory → stacked tensors of one architecture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture, Weights
from wflib.networks.beside import own_part
from wflib.networks.names import check_orientation, listed, match
from wflib.networks.running import names_by_running
from wflib.networks.states import check_floating, plain_state

__all__ = ["stack", "stack_states"]


def stack_states(
    architecture: Architecture,
    states: Sequence[Mapping[str, Any]],
    names: Mapping[str, str] | None,
    module: nn.Module | None,
    key: str | None,
    dtype: torch.dtype,
) -> Weights:
    """What :meth:`wflib.networks.Networks.from_state_dicts` makes networks of, whose arguments and errors these are.

    Returns:
        Tensors (networks, *shape).

    Raises:
        ValueError: No state dict, or one with other tensors; says which, what was expected and what was found.
    """
    if isinstance(states, (Mapping, nn.Module)):
        raise ValueError("Networks: expected a sequence of state dicts, got a single one; put it in a list.")
    if not isinstance(states, Iterable):
        raise ValueError(f"Networks: expected a sequence of state dicts, got {states!r}.")
    states = list(states)
    if not states:
        raise ValueError("Networks: expected at least one state dict, got none.")
    parts, labels = [], [f"Networks: state dict {index}" for index in range(len(states))]
    for label, state in zip(labels, states, strict=True):
        try:
            parts.append(own_part(architecture, plain_state(state, key), module))
            if (count := networks_in(architecture, parts[-1])) is not None:
                raise ValueError(f"holds {count} stacked networks; use Networks(architecture, weights).")
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from error
    return stack(architecture, parts, labels, names, module, dtype)[0]


def stack(
    architecture: Architecture,
    parts: Sequence[Mapping[str, Tensor]],
    labels: Sequence[str],
    names: Mapping[str, str] | None,
    module: nn.Module | None,
    dtype: torch.dtype,
) -> tuple[Weights, list[int]]:
    """One state dict after the other, each of one network or of stacked ones.

    Args:
        architecture: What the networks are.
        parts: Flat state dicts.
        labels: What errors call them.
        names: Given name → the architecture's.
        module: An instance of the networks' class, see :func:`names_by_running`.
        dtype: What numbers become.

    Returns:
        Tensors (networks, *shape) on the first part's device, and the number of networks in each part.

    Raises:
        ValueError: Tensors that do not fit or cannot be told apart; names the part.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point or dtype.itemsize < 2:
        raise ValueError(
            f"Networks: dtype must be a floating-point one of 16 bits or more such as torch.float32, got {dtype}."
        )
    known: dict[frozenset[str], Mapping[str, str] | None] = {}
    found, parts = [], list(parts)
    for place, label in enumerate(labels):
        try:
            parts[place] = own_part(architecture, parts[place], module)
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from error
    for label, part in zip(labels, parts, strict=True):
        try:
            alike = frozenset(part)
            if alike not in known:
                same = [single(architecture, other) for other in parts if other.keys() == part.keys()] if module else []
                known[alike] = names_by_running(architecture, module, same, names) if module else names
            found.append(stacked_weights(architecture, part, known[alike], dtype))
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from error
    first = {name: tensor.device for name, tensor in found[0].items()}
    weights = {name: torch.cat([part[name].to(device) for part in found]) for name, device in first.items()}
    return weights, [len(next(iter(part.values()))) for part in found]


def single(architecture: Architecture, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The first network of a part."""
    check_floating(tensors)
    if networks_in(architecture, tensors) is None:
        return tensors
    return {name: tensor[0] for name, tensor in tensors.items()}


def networks_in(architecture: Architecture, tensors: Mapping[str, Tensor]) -> int | None:
    """How many networks lie stacked in a state dict, None where its tensors are those of one.

    Raises:
        ValueError: Tensors are stacked in different numbers.
    """
    expected = sorted(shape for _, shape in architecture.shapes)
    if not all(tensor.ndim for tensor in tensors.values()):
        return None
    if sorted(tuple(tensor.shape[1:]) for tensor in tensors.values()) != expected:
        return None
    counts = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"tensors disagree about the number of networks: {listed(f'{n} {c}' for n, c in counts.items())}.")
    return next(iter(counts.values()))


def stacked_weights(
    architecture: Architecture, tensors: Mapping[str, Tensor], names: Mapping[str, str] | None, dtype: torch.dtype
) -> Weights:
    """Tensors of one network, or of stacked ones, as the architecture's.

    Args:
        architecture: What the networks are.
        tensors: Under names of their own.
        names: As :func:`match` takes them.
        dtype: What numbers become.

    Returns:
        Tensors (networks, *shape).

    Raises:
        ValueError: Tensors that do not fit, cannot be told apart or hold no floating-point numbers.
    """
    check_floating(tensors)
    alone = networks_in(architecture, tensors) is None
    given = match(architecture, {n: tuple(t.shape if alone else t.shape[1:]) for n, t in tensors.items()}, names)
    if not names:
        check_orientation(architecture, given)
    found = {}
    for name, _ in architecture.shapes:
        tensor = tensors[given[name]]
        found[name] = converted = (tensor[None] if alone else tensor).detach().to(dtype)
        overflown = dtype != tensor.dtype and not converted.isfinite().all()
        if overflown and tensor.to(torch.float64).isfinite().all():
            raise ValueError(f"{given[name]}: numbers too large for {dtype}; read them with dtype={tensor.dtype}.")
    return found
