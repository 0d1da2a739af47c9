"""A user's own class: found by name, and traced for what its networks are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wflib.architecture import Architecture

__all__ = ["module_and_inputs", "traced"]


def module_and_inputs(given: Any, inputs: Sequence[int] | None) -> tuple[nn.Module, tuple[int, ...] | None]:
    """A module, and the shape of its inputs where its maker or the caller says it.

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
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], torch.Tensor):
        made, example = made
        inputs = inputs or tuple(example.shape[1:])
    if not isinstance(made, nn.Module):
        raise ValueError(
            f"module: expected {name} to make a torch.nn.Module, or one and an example (1, …), got {type(made).__name__}."
        )
    return made, None if inputs is None else tuple(inputs)


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


def traced(module: nn.Module, inputs: tuple[int, ...] | None, task_type: str | None) -> Architecture:
    """What a module's networks are.

    Raises:
        ValueError: The shape of inputs is unknown, or the module does what has no operation.
    """
    if inputs is None:
        raise ValueError(
            "module: expected the shape of one example, to run the module on; say it with zoo.read.inputs, as "
            "[1, 28, 28], or "
            "let the function return the module and an example."
        )
    return Architecture.from_module(module, torch.zeros(1, *inputs), task_type or "classification")
