"""The architecture of a module: record it for two numbers of examples, compare, and check what was recorded."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from wflib.architecture.modules import require_module
from wflib.architecture.operations import Expand, Operation, Reshape
from wflib.architecture.spec import Architecture
from wflib.architecture.trace import arithmetic, attention, layers, movement  # noqa: F401 (they enter their handlers)
from wflib.architecture.trace.recorder import Recorder

__all__ = ["trace"]


@torch.no_grad()
def trace(module: nn.Module, example: Tensor, task_type: str = "classification") -> Architecture:
    """The architecture of a torch module in evaluation mode.

    Args:
        module: Takes one tensor and returns one, (examples, …) each.
        example: Inputs that it accepts; only their shape and dtype matter, and one example suffices.
        task_type: ``"classification"`` or ``"regression"``.

    Returns:
        The architecture; its tensors are the module's parameters and running statistics under their names in the state
        dict, parameters that are tied under the first of their names. Other buffers are constants of the architecture.

    Raises:
        ValueError: No module, or one that does not accept the example or does something that has no operation; says what,
            where, and what would help.
    """
    require_module("trace", module)
    if not isinstance(example, Tensor) or example.ndim < 2 or not len(example):
        found = f"{tuple(example.shape)}" if isinstance(example, Tensor) else f"a {type(example).__name__}"
        raise ValueError(f"trace: example expected a tensor of inputs (examples, …), got {found}; as torch.zeros(1, 30).")
    one = example[:1]
    training = {name: part.training for name, part in module.named_modules()}
    module.eval()
    try:
        require_run(module, torch.cat([one] * 2))
        runs = [record(module, torch.cat([one] * count)) for count in (2, 3)]
        operations = tuple(merge(a, b) for a, b in zip(*(run.operations for run in runs), strict=True))
        learned = {id(tensor): name for name, tensor in reversed([*module.named_parameters(remove_duplicate=False)])}
        state = module.state_dict(keep_vars=True)
        statistics = {name for operation in operations for name in operation.statistics}
        shapes = tuple(
            (name, tuple(tensor.shape))
            for name, tensor in state.items()
            if learned.get(id(tensor)) == name or name in statistics
        )
        architecture = Architecture(tuple(one.shape[1:]), shapes, operations, task_type)
        check(architecture, module, {name: state[name] for name, _ in shapes}, torch.cat([one] * 3))
    finally:
        for name, part in module.named_modules():
            part.training = training[name]
    return architecture


def require_run(module: nn.Module, inputs: Tensor) -> None:
    """Refuse a module that fails by itself, before it is recorded.

    Raises:
        ValueError: Says how it fails.
    """
    try:
        module(inputs)
    except Exception as error:  # anything: the module is not ours
        said = " ".join(str(error).split())
        raise ValueError(
            f"trace: the module fails on inputs {tuple(inputs.shape)} in {inputs.dtype}: {type(error).__name__}: {said}; "
            "give an example that it accepts."
        ) from error


def record(module: nn.Module, inputs: Tensor) -> Recorder:
    """One run.

    Raises:
        ValueError: The module returns something else than one tensor.
    """
    recorder = Recorder(module, inputs)
    handles = [*recorder.hooks(module)]
    try:
        with recorder:
            output = module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(output, Tensor):
        raise ValueError(f"trace: expected a module that returns one tensor, got {type(output).__name__}; wrap it.")
    name = recorder.value(output)
    if recorder.operations[-1].output != name:
        recorder.operations = with_last(recorder.operations, name)
    return recorder


def with_last(operations: list[Operation], output: str) -> list[Operation]:
    """Operations without those behind the one that computes the output, which nothing uses."""
    place = next(place for place, operation in enumerate(operations) if operation.output == output)
    return operations[: place + 1]


def merge(two: Operation, three: Operation) -> Operation:
    """One operation from what was recorded for two examples and for three.

    Raises:
        ValueError: It depends on the number of examples in a way that no operation can.
    """
    if two == three:
        return two
    same = type(two) is type(three) and all(
        getattr(two, field.name) == getattr(three, field.name) for field in fields(two) if field.name != "shape"
    )
    if same and isinstance(two, Reshape | Expand) and isinstance(three, Reshape | Expand):
        axes = [axis for axis, sizes in enumerate(zip(two.shape, three.shape, strict=True)) if sizes[0] != sizes[1]]
        if len(axes) == 1:
            (axis,) = axes
            each = three.shape[axis] - two.shape[axis]
            if two.shape[axis] == 2 * each:
                shape = (*two.shape[:axis], each, *two.shape[axis + 1 :])
                return replace(two, shape=shape, batch_axis=axis)
    raise ValueError(f"trace: `{two.output}` depends on the number of examples; keep examples apart on an axis of theirs.")


def check(architecture: Architecture, module: nn.Module, state: dict[str, Any], inputs: Tensor) -> None:
    """Compare the recorded operations with the module.

    Raises:
        ValueError: They compute something else.
    """
    expected = module(inputs)
    found = architecture.forward({name: tensor.unsqueeze(0) for name, tensor in state.items()}, inputs)[0]
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * expected.abs().max()
    if found.shape != expected.shape or not bool(((found - expected).abs() <= tolerance).all()):
        raise ValueError(
            "trace: the recorded operations do not compute what the module does; it may change tensors in place through "
            "views, or draw random numbers in evaluation mode."
        )
