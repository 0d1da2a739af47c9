"""Recording what a module does, one torch function at a time, as it runs on real numbers.

Every torch function that a module calls passes through a ``TorchFunctionMode``. Loops, branches and sizes in Python are
concrete, so that nothing of a model's own code has to be traceable; what depends on values of the data is refused.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from wflib.architecture.operations import Constant, Operation, Parameter

__all__ = ["HANDLERS", "Recorder", "handles"]

Handler = TypeVar("Handler", bound=Callable[..., str | Sequence[str]])

HANDLERS: dict[str, Callable[..., str | Sequence[str]]] = {}
"""Name of a torch function → what records it: (recorder, result, *arguments) → names of the result's values."""

FRESH = ("new_zeros", "new_ones", "new_full", "new_tensor", "new_empty", "zeros_like", "ones_like", "full_like")
"""Functions that take of a tensor no more than its shape and dtype."""

DATA = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "nonzero", "unique")


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Enter a function into ``HANDLERS``."""

    def register(function: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, function))
        return function

    return register


class Recorder(TorchFunctionMode):
    """The operations of one run of a module.

    Args:
        module: In evaluation mode.
        inputs: The module's input, (examples, …).
    """

    def __init__(self, module: nn.Module, inputs: Tensor) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        states = [*module.state_dict(keep_vars=True).items()]
        self.states: dict[int, str] = {id(tensor): name for name, tensor in reversed(states)}
        self.learned = {id(tensor) for tensor in module.parameters()}
        self.values: dict[int, str | None] = {id(inputs): "input"}
        self.views: dict[int, tuple[Tensor, Any]] = {}
        self.replaced: dict[int, str] = {}
        self.kept: list[Any] = [inputs, states]
        self.taken = {"input"}
        self.path: list[tuple[str, nn.Module]] = [("", module)]
        self.calling = ""

    def hooks(self, module: nn.Module) -> Iterator[Any]:
        """Hooks by which values are named after the modules that compute them; to be removed afterwards."""
        for name, part in module.named_modules():
            if part is not module:
                yield part.register_forward_pre_hook(lambda part, _, name=name: self.path.append((name, part)))
                yield part.register_forward_hook(lambda *_: self.path.pop() and None)

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function, and record it where it concerns the input or parameters."""
        kwargs = kwargs or {}
        parts = (resolve_name(function) or getattr(function, "__name__", repr(function))).split(".")
        self.calling = ".".join(parts[-2:]) if parts[-1] == "__get__" else parts[-1]
        given = [*tensors_in((args, kwargs))]
        known = [tensor for tensor in given if id(tensor) in self.values or id(tensor) in self.learned]
        if known and self.calling in DATA:
            raise self.refusal("makes what the network does depend on values", "Decide by sizes or settings instead.")
        versions = [tensor._version for tensor in given]
        result = function(*args, **kwargs)
        self.kept.append(result)
        if not known or self.calling in FRESH or not [*tensors_in(result)]:
            return result
        handler = HANDLERS.get(self.calling) or HANDLERS.get(self.calling.rstrip("_"))
        if handler is None:
            raise self.refusal("has no operation in wflib", "Write it with operations that exist, or add one there.")
        names = handler(self, result, *args, **kwargs)
        self.forget_views([tensor for tensor, old in zip(given, versions, strict=True) if tensor._version != old])
        for tensor, name in zip(tensors_in(result), [names] if isinstance(names, str) else names, strict=True):
            self.values[id(tensor)] = name
        self.values |= self.replaced
        self.replaced.clear()
        return result

    def forget_views(self, changed: Sequence[Tensor]) -> None:
        """Other tensors that share memory with changed ones hold other numbers now than what was recorded."""
        memory = {tensor.untyped_storage().data_ptr() for tensor in changed}
        if memory:
            for tensor in tensors_in(self.kept):
                if id(tensor) in self.values and tensor.untyped_storage().data_ptr() in memory:
                    self.values[id(tensor)] = None

    def parameter(self, tensor: Tensor | None) -> str | None:
        """Name of a parameter or buffer in the state dict; None where there is none.

        Raises:
            ValueError: The tensor was computed from others.
        """
        if tensor is None:
            return None
        if id(tensor) not in self.states or id(tensor) in self.values:
            raise self.refusal("uses weights that are computed from others", "Use parameters as they are.")
        return self.states[id(tensor)]

    def value(self, tensor: Tensor) -> str:
        """Name of a value; parameters and constants become one when they are used for the first time.

        Raises:
            ValueError: The tensor shares memory with one that was changed in place.
        """
        if id(tensor) in self.values:
            name = self.values[id(tensor)]
            if name is None:
                raise self.refusal("uses a tensor whose memory was changed through another", "Avoid changes in place.")
            return name
        self.kept.append(tensor)
        if id(tensor) in self.learned:
            name = self.states[id(tensor)]
            value = self.values[id(tensor)] = self.add(Parameter(self.unique(name), (), name))
            return value
        data = Constant.encode(tensor)
        return self.add(Constant(self.unique(f"{self.place()}.constant"), (), tuple(tensor.shape), data))

    def emit(self, kind: type[Operation], *inputs: str, title: str = "", **settings: Any) -> str:
        """Record one operation on named values; returns the name of its output."""
        output = self.unique(f"{self.place()}.{title}" if title else self.title())
        return self.add(kind(output, inputs, **settings))

    def add(self, operation: Operation) -> str:
        """Append an operation; returns the name of its output."""
        self.operations.append(operation)
        return operation.output

    def place(self) -> str:
        """Name of the module that is running."""
        return self.path[-1][0] or "network"

    def title(self) -> str:
        """Name for a value: of the module that computes it, and of the function where a module calls many."""
        name, module = self.path[-1]
        leaf = name and not any(True for _ in module.children())
        return name if leaf else f"{name}.{self.calling.strip('_')}".lstrip(".")

    def unique(self, name: str) -> str:
        """A name that no value has yet."""
        found, number = name, 1
        while found in self.taken:
            number += 1
            found = f"{name}#{number}"
        self.taken.add(found)
        return found

    def refusal(self, problem: str, remedy: str) -> ValueError:
        """An error that names the function, the module and the line of code."""
        lines = [
            frame
            for frame in traceback.extract_stack()
            if "/torch/" not in frame.filename and "/wflib/architecture/" not in frame.filename
        ]
        where = f"{lines[-1].filename}:{lines[-1].lineno}: {lines[-1].line}" if lines else "unknown line"
        return ValueError(f"trace: `{self.calling}` in {self.place()} {problem} ({where}). {remedy}")


def tensors_in(data: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    if isinstance(data, Tensor):
        yield data
    elif isinstance(data, dict):
        for item in data.values():
            yield from tensors_in(item)
    elif isinstance(data, (tuple, list)):
        for item in data:
            yield from tensors_in(item)
