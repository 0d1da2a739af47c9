"""A user's own class: found by name, and traced for what its networks are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture

__all__ = ["module_and_example", "shape_of", "traced"]


def shape_of(inputs: Sequence[int] | None) -> tuple[int, ...] | None:
    """The shape of one example, None where nobody says it.

    Raises:
        ValueError: It is no shape.
    """
    if inputs is None:
        return None
    if isinstance(inputs, (list, tuple)) and inputs and all(type(size) is int and size > 0 for size in inputs):
        return tuple(inputs)
    raise ValueError(f"zoo.read.inputs: expected the shape of one example, as (30,) or (1, 28, 28), got {inputs!r}.")


def module_and_example(given: Any, inputs: Sequence[int] | None) -> tuple[nn.Module, Tensor | None]:
    """A module, and an example (1, …) where its maker or the caller says one or its shape.

    Args:
        given: A module, a function without arguments that makes one, or it and an example (1, …), or ``package:function``.
        inputs: Shape of one example, which wins.

    Raises:
        ValueError: Nothing of that name, or something that makes no module.
    """
    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    made = imported(given) if isinstance(given, str) else given
    if callable(made) and not isinstance(made, nn.Module):
        try:
            made = made()
        except Exception as error:  # anything: the code is not ours
            raise ValueError(f"module: {name} failed: {type(error).__name__}: {error}.") from error
    example = None
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Tensor):
        made, example = made
    if not isinstance(made, nn.Module):
        raise ValueError(
            f"module: expected {name} to make a torch.nn.Module, or one and an example (1, …), got {type(made).__name__}."
        )
    if inputs is not None:
        example = torch.zeros(1, *inputs, dtype=None if example is None else example.dtype)
    return made, example


def imported(name: str) -> Any:
    """What ``package:function`` names, also of a file in the current folder."""
    home, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"module: expected package:function, as my_networks:make, got {name!r}.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(home), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"module: {name!r} cannot be imported ({error}); name an installed package, or a file of the current folder "
            "without .py, then : and a function without arguments that returns a torch.nn.Module."
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))


def traced(module: nn.Module, example: Tensor | None, task_type: str | None) -> Architecture:
    """What a module's networks are.

    Where a class looks something up in a table and does not take real numbers, its inputs are whole ones.

    Raises:
        ValueError: The shape of inputs is unknown, the module does not take them, or it does what has no operation.
    """
    if example is None:
        raise ValueError(
            "module: expected the shape of one example, to run the module on; say it with zoo.read.inputs, as "
            "[1, 28, 28], or let the function return the module and an example."
        )
    examples = [example]
    if example.is_floating_point() and any(isinstance(part, nn.Embedding) for part in module.modules()):
        examples.append(example.long())
    failed = []
    for one in examples:
        if (complaint := refused(module, one)) is None:
            return Architecture.from_module(module, one, task_type or "classification")
        failed.append(f"of {one.dtype}: {complaint}")
    raise ValueError(
        f"module: {type(module).__name__} does not take inputs {tuple(example.shape)} {'; '.join(failed)}. Say the shape of "
        "one example with zoo.read.inputs, or let a function return the module and an example."
    )


@torch.no_grad()
def refused(module: nn.Module, example: Tensor) -> str | None:
    """What a module says of inputs that it does not take; None where it does."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        module(torch.cat([example[:1]] * 2))
    except Exception as error:  # anything: the module is not ours
        return " ".join(str(error).split()).rstrip(".") or type(error).__name__
    finally:
        for part, was in training.items():
            part.training = was
    return None
