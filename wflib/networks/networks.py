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

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture, Weights
from wflib.networks.checks import check_architecture, check_stacked, checked_inputs, checked_names, places
from wflib.networks.finite import LEAVE_OUT, broken_networks, finite_networks, require_finite, told
from wflib.networks.reading import read_networks
from wflib.networks.stacked_module import StackedModule
from wflib.networks.stacking import stack_states
from wflib.networks.writing import save_networks

__all__ = ["Networks"]


@dataclass(frozen=True, eq=False)
class Networks(Sequence[dict[str, Tensor]]):
    """Ordinary networks of one architecture; a sequence of state dicts.

    Attributes:
        architecture: Of every network.
        weights: Tensors (networks, *shape), named as in the state dict of ``architecture.module()``; of one floating-point
            type, without NaN and infinity.
        names: One for each network, as files are called that they come from; None where they have none.
        metadata: Where they come from: JSON-serializable.

    Raises:
        ValueError: Tensors that do not fit the architecture, or networks that hold NaN or infinity; names them.
    """

    architecture: Architecture
    weights: Weights
    names: tuple[str, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_stacked(self.architecture, self.weights)
        if self.names is not None:
            object.__setattr__(self, "names", checked_names(self.names, len(self)))
        if not isinstance(self.metadata, Mapping):
            raise ValueError(f"Networks: metadata must be a mapping, got {self.metadata!r}.")
        remedy = "skip_broken=True or Networks.finite(architecture, weights) leaves them out"
        require_finite(self.weights, "Networks", remedy, self.names)

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    @overload
    def __getitem__(self, index: int) -> dict[str, Tensor]: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> Networks: ...

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> dict[str, Tensor] | Networks:
        if isinstance(index, bool) or not hasattr(type(index), "__index__") or getattr(index, "ndim", False):
            chosen = places(index, len(self))
            weights = {name: tensor[chosen.to(tensor.device)] for name, tensor in self.weights.items()}
            names = None if self.names is None else tuple(self.names[place] for place in chosen.tolist())
            distinct = names is not None and len(set(names)) == len(names)
            return Networks.unchecked(self.architecture, weights, names if distinct else None, self.metadata)
        if not -len(self) <= index < len(self):  # type: ignore[operator]
            raise IndexError(f"Networks: index {index} of {len(self)} networks.")
        return {name: tensor[index].detach().clone() for name, tensor in self.weights.items()}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self[index] for index in range(len(self)))

    def state_dicts(self) -> list[dict[str, Tensor]]:
        """One state dict for each network, for ``architecture.module().load_state_dict``."""
        return list(self)

    def modules(self) -> list[nn.Module]:
        """One module for each network, ``torch.nn.Sequential`` for those in which one layer follows another."""
        made = []
        for state in self:
            module = self.architecture.module()
            module.load_state_dict(state, assign=True)  # in the networks' own precision
            made.append(module)
        return made

    def module(self) -> StackedModule:
        """All networks as one module."""
        return StackedModule(self)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.weights.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """The tensors' type."""
        return next(iter(self.weights.values())).dtype

    @property
    def flat(self) -> Tensor:
        """All networks as flat vectors, (networks, D); :meth:`from_flat` is the way back."""
        return self.architecture.flatten(self.weights)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (networks, examples, outputs), see :meth:`wflib.architecture.Architecture.forward`; differentiable."""
        return self.architecture.forward(self.weights, checked_inputs(self.architecture, self.weights, inputs))

    def map(self, function: Callable[[Tensor], Tensor]) -> Networks:
        """Networks whose tensors are a function's of these: (networks, *shape) → (any number of networks, *shape)."""
        return self.with_weights({name: function(tensor) for name, tensor in self.weights.items()})

    def with_weights(self, weights: Weights, architecture: Architecture | None = None) -> Networks:
        """These networks in another form, as permuted or canonical: other tensors that fit, unchecked."""
        names = self.names if len(next(iter(weights.values()))) == len(self) else None
        return Networks.unchecked(architecture or self.architecture, weights, names, self.metadata)

    def to(self, target: str | torch.device | torch.dtype | Tensor) -> Networks:
        """The same networks on another device or in another precision."""
        return self.map(lambda tensor: tensor.to(target))

    def split(self, networks: int) -> list[Networks]:
        """Parts of so many networks in a row, the last of them perhaps of fewer; views without names."""
        parts = zip(*(tensor.split(networks) for tensor in self.weights.values()), strict=True)
        return [Networks.unchecked(self.architecture, dict(zip(self.weights, part, strict=True))) for part in parts]

    def lerp(self, end: Networks, share: float | Tensor) -> Networks:
        """Points (1 − λ) θ + λ θ_end of straight segments; λ a number or (networks,), a single start serves all."""
        moved = {}
        for name, tensor in end.weights.items():
            where = share.to(tensor).view(-1, *(1 for _ in tensor.shape[1:])) if isinstance(share, Tensor) else share
            moved[name] = torch.lerp(self.weights[name].expand_as(tensor), tensor, where)
        return end.with_weights(moved)

    def require_finite(self, who: str, remedy: str = LEAVE_OUT) -> None:
        """Refuse NaN and infinity, which tensors may hold that were computed.

        Args:
            who: Who asks, the sentence's beginning.
            remedy: Its end.

        Raises:
            ValueError: Some network is not finite; names networks and tensors.
        """
        require_finite(self.weights, who, remedy, self.names)

    @staticmethod
    def unchecked(
        architecture: Architecture,
        weights: Weights,
        names: tuple[str, ...] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Networks:
        """Networks of tensors that are known to fit, at no cost; they may be of any kind that torch computes with."""
        networks = object.__new__(Networks)
        networks.__dict__.update(architecture=architecture, weights=weights, names=names, metadata=metadata or {})
        return networks

    @staticmethod
    def from_flat(architecture: Architecture, flat: Tensor) -> Networks:
        """The networks of flat vectors (networks, D), whatever numbers they hold; differentiable.

        Raises:
            ValueError: Vectors of another length.
        """
        return Networks.unchecked(architecture, architecture.unflatten(flat))

    @staticmethod
    def finite(
        architecture: Architecture,
        weights: Weights,
        names: tuple[str, ...] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Networks:
        """Those of some networks that hold neither NaN nor infinity; warns of the others, with their number and names.

        Args:
            architecture: Of every network.
            weights: Tensors (networks, *shape).
            names: One for each network.
            metadata: Where they come from.

        Raises:
            ValueError: None is left, or tensors do not fit.
        """
        check_stacked(architecture, weights)
        count = len(next(iter(weights.values())))
        names = None if names is None else checked_names(names, count)
        if broken := broken_networks(weights):
            if len(broken) == count:
                raise ValueError(f"Networks: all {count} hold NaN or infinity ({told(broken, names)}); nothing is left.")
            found = f"{len(broken)} of {count} networks that hold NaN or infinity: {told(broken, names)}"
            warnings.warn(f"Networks: left out {found}.", stacklevel=2)
            kept = Networks.unchecked(architecture, weights, names)[finite_networks(weights)]
            weights, names = kept.weights, kept.names
        return Networks(architecture, weights, names, dict(metadata or {}))

    @staticmethod
    def from_state_dicts(
        architecture: Architecture,
        states: Sequence[Mapping[str, Any]],
        *,
        names: Mapping[str, str] | None = None,
        module: nn.Module | None = None,
        key: str | None = None,
        dtype: torch.dtype = torch.float32,
        skip_broken: bool = False,
    ) -> Networks:
        """Stack state dicts of ordinary modules.

        Tensors may have other names than the architecture's. Which is which then follows from their shapes, and where
        several have the same ones from the numbers in names that differ in nothing else ("0.weight", "2.weight",
        "10.weight"); never from the order in which they come. Where that does not decide, ``names`` or ``module`` must.

        Args:
            architecture: What they shall be.
            states: At least one; checkpoints around one, as ``{"state_dict": …, "epoch": 3}``, are opened. Counters such as
                ``num_batches_tracked`` are left out.
            names: Their names → the architecture's, of modules or of tensors, as ``{"fc_first": "linear1"}``.
            module: An instance of their class. A copy is run on random inputs to see the order of its layers, and its
                outputs must be the architecture's.
            key: Which entry of a checkpoint holds the network, where several could.
            dtype: What their floating-point numbers become.
            skip_broken: Leave out networks with NaN or infinity, with a warning that names them.

        Raises:
            ValueError: No state dict, one with other tensors, or one whose tensors cannot be told apart; says which, what
                was expected and what was found.
        """
        check_architecture(architecture)
        weights = stack_states(architecture, states, names, module, key, dtype)
        return Networks.finite(architecture, weights) if skip_broken else Networks(architecture, weights)

    def save(self, path: str | Path) -> None:
        """Write all networks, whole or not at all.

        A name that ends in ``.safetensors`` is one file of stacked tensors, named as in a state dict, with architecture,
        names and metadata in its header; ``.pt`` or ``.pth`` are the same tensors for ``torch.load``, without the header. A
        name without a suffix is a folder, made where missing, with one state dict for each network:
        ``network-0000.safetensors`` and so on.

        Args:
            path: A file is replaced, a folder must be new or empty.

        Raises:
            ValueError: No networks, another suffix, a folder with files in it, or metadata that JSON cannot hold.
        """
        save_networks(Path(path), self.architecture, self.weights, self.names, self.metadata)

    @staticmethod
    def load(
        path: str | Path,
        architecture: Architecture | None = None,
        *,
        names: Mapping[str, str] | None = None,
        module: nn.Module | None = None,
        key: str | None = None,
        dtype: torch.dtype = torch.float32,
        skip_broken: bool = False,
    ) -> Networks:
        """Read what :meth:`save` or the pipeline wrote, a zoo, or checkpoints of your own: a file or a folder of them.

        Torch files are read with ``weights_only=True``: tensors, never code. A folder is read with the folders in it, in the
        natural order of names (``epoch_2`` before ``epoch_10``), which ``names`` of the result keeps; a warning tells what
        was left out.

        Args:
            path: A file of stacked tensors or of one state dict, or a folder; ``.safetensors``, ``.pt``, ``.pth``, ``.ckpt``
                or ``.bin``.
            architecture: What the networks are; files of ours say it themselves.
            names: As :meth:`from_state_dicts` takes them.
            module: Likewise.
            key: Likewise.
            dtype: Likewise.
            skip_broken: Leave out files of no network that can be read, and networks with NaN or infinity; warnings tell.

        Raises:
            ValueError: Nothing to read, another architecture than the file's, or tensors that do not fit; names the file.
        """
        found = read_networks(Path(path), architecture, names, module, key, dtype, skip_broken)
        try:
            return Networks.finite(*found) if skip_broken else Networks(*found)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
