"""What a state dict has beside an architecture's tensors: further names of tied ones, and buffers that are constants."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture, require_module
from wflib.architecture.operations import Constant
from wflib.networks.names import unwrapped
from wflib.networks.states import is_counter

__all__ = ["beside", "own_part", "tied_names"]


def tied_names(module: nn.Module) -> dict[str, str]:
    """Names of parameters that a class ties to others → the first of their names."""
    found: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        if first.setdefault(id(tensor), name) != name:
            found[name] = first[id(tensor)]
    return found


def beside(architecture: Architecture, module: nn.Module) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a module has besides the architecture's tensors: names tied to others, and constants.

    Both are known where the architecture has the module's names, as one that was traced.
    """
    known, state = {name for name, _ in architecture.shapes}, module.state_dict()
    if not known <= state.keys():
        return {}, {}
    tied = {name: first for name, first in tied_names(module).items() if name not in known}
    rest = {name: tensor for name, tensor in state.items() if name not in known and name not in tied}
    return tied, {name: tensor for name, tensor in rest.items() if not is_counter(name, tensor)}


def own_part(
    architecture: Architecture, tensors: Mapping[str, Tensor], module: nn.Module | None = None
) -> Mapping[str, Tensor]:
    """Tensors without further names of tied ones and without constants of the architecture.

    A class says what they are. Without one, they are what remains beside all names of the architecture, where each holds
    the numbers of a constant or of a tensor that is kept.

    Args:
        architecture: What the networks are.
        tensors: Of one network or stacked ones, (networks, *shape).
        module: An instance of their class.

    Raises:
        ValueError: A constant or a tied tensor holds other numbers than the class and the architecture say.
    """
    if module is not None:
        require_module("module", module)
    if len(tensors) <= len(architecture.shapes):
        return tensors
    if module is None:
        return without_known(architecture, tensors)
    tied, constants = beside(architecture, module)
    state = module.state_dict()
    plain = next((names for names in unwrapped(tensors) if state.keys() >= set(names.values())), {})
    given = {name: tensors[theirs] for theirs, name in plain.items()}
    for name, constant in constants.items():
        if name in given and not holds(given[name], constant):
            raise ValueError(
                f"{name} is a constant of the class, but holds other numbers here; give an instance of the class with "
                "these, or make it a parameter."
            )
    for name, first in tied.items():
        if name in given and first in given and not same_numbers(given[name], given[first]):
            raise ValueError(f"{name} is tied to {first} by the class, but holds other numbers here; untie them there.")
    aside = constants.keys() | {name for name, first in tied.items() if first in given}
    return {name: tensor for name, tensor in tensors.items() if plain.get(name) not in aside}


def without_known(architecture: Architecture, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    known = {name for name, _ in architecture.shapes}
    for plain in unwrapped(tensors):
        own = {given: tensor for given, tensor in tensors.items() if plain[given] in known}
        if len(own) == len(known) < len(tensors):
            rest = [tensor for given, tensor in tensors.items() if given not in own]
            return own if all(is_known(tensor, architecture, own) for tensor in rest) else tensors
    return tensors


def is_known(tensor: Tensor, architecture: Architecture, own: Mapping[str, Tensor]) -> bool:
    constants = (operation.values for operation in architecture.operations if isinstance(operation, Constant))
    return any(same_numbers(tensor, other) for other in own.values()) or any(holds(tensor, other) for other in constants)


def holds(tensor: Tensor, constant: Tensor) -> bool:
    """Whether each network's tensor holds a constant's numbers, rounded as it is."""
    shape = tensor.shape[tensor.ndim - constant.ndim :]
    return shape == constant.shape and torch.equal(tensor, constant.to(tensor).expand_as(tensor))


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN included."""
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), 0, 0, equal_nan=True)
