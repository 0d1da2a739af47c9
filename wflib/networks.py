"""Networks of one architecture as people use them: state dicts, one stacked module, files.

>>> import torch
>>> from wflib.architecture import mlp
>>> architecture = mlp([3, 4, 2])
>>> networks = Networks(architecture, architecture.unflatten(torch.randn(5, architecture.dimension)))
>>> len(networks), networks.module()(torch.zeros(7, 3)).shape
(5, torch.Size([5, 7, 2]))
>>> model = architecture.module()  # torch.nn.Sequential
>>> _ = model.load_state_dict(networks.state_dicts()[0])
>>> torch.allclose(model(torch.ones(1, 3)), networks.module()(torch.ones(1, 3))[0], atol=1e-5)
True
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wflib.architecture import Architecture, Weights
from wflib.storage import atomic_path

__all__ = ["Networks", "StackedModule"]


class StackedModule(nn.Module):
    """Many networks as one module: inputs (examples, features) → outputs (networks, examples, outputs).

    Its parameters are the stacked tensors, named as in one network with dots as underscores; ``stacked`` gives them under
    their own names, as ``torch.func.functional_call`` with ``vmap`` over ``architecture.module()`` takes them.

    Args:
        architecture: Of every network.
        weights: Tensors (networks, *shape).
    """

    def __init__(self, architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.architecture = architecture
        self.names = {name: name.replace(".", "_") for name in weights}
        for name, tensor in weights.items():
            self.register_parameter(self.names[name], nn.Parameter(tensor.detach().clone()))

    @property
    def stacked(self) -> Weights:
        """Stacked tensors by the names of one network's state dict."""
        return {name: getattr(self, own) for name, own in self.names.items()}

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of every network; inputs may have a leading network axis of their own."""
        return self.architecture.forward(self.stacked, inputs)


@dataclass(frozen=True)
class Networks(Sequence[dict[str, Tensor]]):
    """Ordinary networks of one architecture; a sequence of state dicts.

    Attributes:
        architecture: Of every network.
        weights: Tensors (networks, *shape), named as in the state dict of ``architecture.module()``.
    """

    architecture: Architecture
    weights: Weights

    def __post_init__(self) -> None:
        self.architecture.validate(self.weights)
        name = self.architecture.tensors[0].name
        if self.weights[name].ndim != 1 + len(self.architecture.shape(name)):
            raise ValueError(
                f"Networks: expected stacked tensors, {name} of shape (networks, "
                f"{', '.join(map(str, self.architecture.shape(name)))}), got {tuple(self.weights[name].shape)}; "
                "stack single networks with Networks.from_state_dicts."
            )

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    @overload
    def __getitem__(self, index: int) -> dict[str, Tensor]: ...

    @overload
    def __getitem__(self, index: slice) -> Networks: ...

    def __getitem__(self, index: int | slice) -> dict[str, Tensor] | Networks:
        if isinstance(index, slice):
            chosen = list(range(len(self))[index])
            return Networks(self.architecture, {name: tensor[chosen].detach() for name, tensor in self.weights.items()})
        if not -len(self) <= index < len(self):
            raise IndexError(f"Networks: index {index} of {len(self)} networks.")
        return {name: tensor[index].detach().clone() for name, tensor in self.weights.items()}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self[index] for index in range(len(self)))

    def state_dicts(self) -> list[dict[str, Tensor]]:
        """One state dict for each network, for ``architecture.module().load_state_dict``."""
        return list(self)

    def modules(self) -> list[nn.Sequential]:
        """One ``torch.nn.Sequential`` for each network."""
        made = []
        for state in self:
            module = self.architecture.module()
            module.load_state_dict(state)
            made.append(module)
        return made

    def module(self) -> StackedModule:
        """All networks as one module."""
        return StackedModule(self.architecture, self.weights)

    @staticmethod
    def from_state_dicts(architecture: Architecture, states: Sequence[Mapping[str, Tensor]]) -> Networks:
        """Stack state dicts of ordinary modules.

        Args:
            architecture: What they shall be.
            states: At least one. Other names than the architecture's are accepted, as those of a ``torch.nn.Sequential`` of
                your own ("0.weight", "0.bias", "2.weight", …), when the tensors come in its order and have its shapes.

        Raises:
            ValueError: No state dict, or one with other tensors; says which, what was expected and what was found.
        """
        if not states:
            raise ValueError("Networks: expected at least one state dict, got none.")
        expected = [spec.name for spec in architecture.tensors]
        stacked: dict[str, list[Tensor]] = {name: [] for name in expected}
        for index, state in enumerate(states):
            if len(state) != len(expected):
                raise ValueError(
                    f"Networks: state dict {index} has {len(state)} tensors ({', '.join(state)}); "
                    f"the architecture has {len(expected)} ({', '.join(expected)})."
                )
            own = expected if set(state) == set(expected) else list(state)
            for name, given in zip(expected, own, strict=True):
                tensor = state[given]
                if tuple(tensor.shape) != architecture.shape(name):
                    raise ValueError(
                        f"Networks: state dict {index}: {given} has shape {tuple(tensor.shape)}; "
                        f"{name} of the architecture has {architecture.shape(name)}."
                    )
                stacked[name].append(tensor.detach().float())
        return Networks(architecture, {name: torch.stack(tensors) for name, tensors in stacked.items()})

    def save(self, path: str | Path) -> None:
        """Write all networks: one safetensors file of stacked tensors, or a folder with one file for each network.

        Args:
            path: Ends in ``.safetensors`` for one file; anything else is a folder, made where missing, for
                ``network-0000.safetensors`` and so on.

        Raises:
            ValueError: The folder holds such files already.
        """
        path, names = Path(path), {"architecture": self.architecture.to_json()}
        if path.suffix == ".safetensors":
            with atomic_path(path) as temporary:
                save_file({name: tensor.contiguous() for name, tensor in self.weights.items()}, temporary, names)
            return
        if path.is_dir() and any(path.glob("network-*.safetensors")):
            raise ValueError(f"{path}: holds networks already; name a new folder.")
        digits = max(4, len(str(len(self) - 1)))  # names in alphabetical order are networks in their own
        for index, state in enumerate(self):
            with atomic_path(path / f"network-{index:0{digits}d}.safetensors") as temporary:
                save_file(state, temporary, names)

    @staticmethod
    def load(path: str | Path, architecture: Architecture) -> Networks:
        """Read what :meth:`save` wrote, or a folder of ``.safetensors``, ``.pt`` or ``.pth`` state dicts.

        Torch files are read with ``weights_only=True``: tensors, never code. Safetensors files keep tensors in alphabetical
        order; those with other names than the architecture's are taken by the numbers in them, weights before biases.

        Args:
            path: A file of stacked tensors or of one state dict, or a folder.
            architecture: What the networks are.

        Raises:
            ValueError: Nothing to read, or tensors that do not fit; names the file.
        """
        path = Path(path)
        if path.is_file():
            state = read_state(path)
            first = architecture.tensors[0]
            alone = first.name not in state or state[first.name].ndim == len(first.axes)
            try:
                return Networks.from_state_dicts(architecture, [state]) if alone else Networks(architecture, state)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        files = sorted(file for file in path.glob("*") if file.suffix in (".safetensors", ".pt", ".pth"))
        if not files:
            raise ValueError(f"{path}: expected a safetensors file, or a folder of .safetensors, .pt or .pth files.")
        states = [read_state(file) for file in files]
        for file, state in zip(files, states, strict=True):
            try:
                Networks.from_state_dicts(architecture, [state])
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from error
        return Networks.from_state_dicts(architecture, states)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors or torch file, without running anything in it."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
            state = {name: state[name] for name in sorted(state, key=place_in_network)}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected a state dict; {error}") from error
    except Exception as error:  # torch names its refusal of pickled objects pickle.UnpicklingError, and says much
        raise ValueError(f"{path}: expected tensors only, found something that torch.load refuses to run.") from error
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ValueError(f"{path}: expected a mapping of names to tensors, found {type(state).__name__}.")
    if broken := [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]:
        raise ValueError(f"{path}: expected finite numbers, found NaN or infinity in {', '.join(broken)}.")
    return dict(state)


def place_in_network(name: str) -> tuple[list[str | int], bool, str]:
    """Sorts 2.weight between 0.bias and 10.weight, and a module's weight before its bias."""
    module, _, tensor = name.rpartition(".")
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", module)], tensor == "bias", tensor
