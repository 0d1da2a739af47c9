"""A device that is none: tensors that say they lie on ``pretended:0``, and may not meet those of the CPU.

What they hold is the CPU's, and so are the numbers. A test that uses this device finds what would fail on a GPU because
tensors are in two places, or because memory is read that a CPU cannot read, on machines that have no GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from wflib import device as devices
from wflib import rng

NAME = "pretended"
aten = torch.ops.aten
MEETS = {aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
"""Operations that take tensors of both sides: copies, and indices of the CPU in tensors of the device."""


class Module:
    """What torch asks of a device."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        pass


_setup_privateuseone_for_python_backend(NAME, Module())
DEVICE = torch.device(NAME, 0)


class There(torch.Tensor):
    """A tensor that says it is on the device, and holds one of the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:
        return f"There({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, by the CPU, if its tensors are on one device."""
    leaves, spec = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    here = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.ndim]
    if there and here and (func not in MEETS or (func in (aten.index.Tensor,) and here[0] is args[0])):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two, in {func}")
    asked = kwargs.get("device")
    on_device = bool(there) if asked is None else torch.device(asked).type == NAME
    if func is aten.copy_.default:
        on_device = isinstance(args[0], There)
    inner_args, inner_kwargs = tree_unflatten([leaf.held if isinstance(leaf, There) else leaf for leaf in leaves], spec)
    if asked is not None:
        inner_kwargs = {**inner_kwargs, "device": torch.device("cpu")}
    found = func(*inner_args, **inner_kwargs)
    if not on_device:
        return found
    found = tree_map(lambda value: There(value) if isinstance(value, torch.Tensor) else value, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if there else found


class Dispatch(TorchDispatchMode):
    """Factories and copies to the device, which have no tensor of it yet."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def require_generator_there(args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse generators of another device than that on which numbers are asked for, as torch does."""
    source, device = kwargs.get("generator"), kwargs.get("device")
    if isinstance(source, torch.Generator):
        asked = torch.device(device or (args[0].device if isinstance(args[0], torch.Tensor) else "cpu")).type
        if asked != source.device.type:
            raise RuntimeError(f"Expected a '{asked}' device type for generator but found '{source.device.type}'")


class Functions(TorchFunctionMode):
    """Functions that read or write memory by themselves."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        require_generator_there(args, kwargs)
        if func in (torch.tensor, torch.as_tensor) and (device := kwargs.pop("device", None)) is not None:
            return func(*args, **kwargs).to(device)
        if func is torch.Tensor.tolist:
            return func(args[0].cpu())
        return func(*args, **kwargs)


class Autocast(torch.autocast):
    """Automatic precision, which the device does not know."""

    def __init__(self, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True) -> None:
        super().__init__(device_type, dtype, enabled and device_type != NAME)


class Drawing(torch.Generator):
    """Random numbers of the CPU that are drawn to the device."""

    device = DEVICE


GENERATOR, RESOLVE = rng.generator, devices.resolve_device


def generator(seed: int, *names: object, device: str | torch.device = "cpu") -> torch.Generator:
    """As :func:`wflib.rng.generator`."""
    if torch.device(device).type != NAME:
        return GENERATOR(seed, *names, device=device)
    return Drawing().manual_seed(rng.seed_of(seed, *names))


def resolve_device(name: str) -> torch.device:
    """As :func:`wflib.device.resolve_device` where the device is the machine's only one."""
    return DEVICE if name == "auto" else RESOLVE(name)


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """The device, which ``auto`` means meanwhile."""
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("wflib", "stages")]
    with ExitStack() as stack:
        for module in ours:
            for old, new in ((GENERATOR, generator), (RESOLVE, resolve_device)):
                if getattr(module, new.__name__, None) is old:
                    stack.enter_context(patch.object(module, new.__name__, new))
        stack.enter_context(patch.object(torch, "autocast", Autocast))
        stack.enter_context(Functions())
        stack.enter_context(Dispatch())
        yield DEVICE
