"""The order of a module's layers as it runs them, and whether an architecture computes what the module does."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture, is_perceptron, require_module
from wflib.networks.beside import beside
from wflib.networks.examples import random_inputs
from wflib.networks.names import listed, match, units, unwrapped
from wflib.networks.states import is_counter

__all__ = ["names_by_running"]

CHECKED, TOLERANCE = 8, 1e-8


def names_by_running(
    architecture: Architecture,
    module: nn.Module,
    states: Sequence[Mapping[str, Tensor]],
    names: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Find which tensor is which by running somebody's module on random inputs, and check that the outputs are the same.

    Args:
        architecture: What the networks shall be.
        module: An instance of their class, left as it is: a copy runs, in double precision and evaluation mode.
        states: Own parts of flat state dicts, with one set of names; the first, the last and some between are checked.
        names: Given name → the architecture's, where the caller knows; then running only checks.

    Returns:
        Given name → the architecture's, for every tensor.

    Raises:
        ValueError: The module does not take the tensors or the inputs, or computes something else; says by how much.
    """
    require_module("module", module)
    try:
        runner = copy.deepcopy(module).to("cpu", torch.float64).eval()
    except Exception as error:  # anything: the module is not ours
        said = " ".join(str(error).split())
        raise ValueError(f"module: copying it failed: {said}; give one freshly made, as MyNetwork().") from error
    inputs = random_inputs(architecture)
    own_names = names_in_module(architecture, runner, states[0])
    order = run(runner, {own_names[given]: tensor for given, tensor in states[0].items()}, inputs)[1]
    shapes = {given: tuple(tensor.shape) for given, tensor in states[0].items()}
    found = match(architecture, shapes, names or by_order(architecture, order, own_names))
    for index in torch.linspace(0, len(states) - 1, min(CHECKED, len(states))).round().long().tolist():
        expected = run(runner, {own_names[given]: tensor for given, tensor in states[index].items()}, inputs)[0]
        weights = {name: states[index][given][None].to("cpu", torch.float64) for name, given in found.items()}
        check_outputs(architecture.forward(weights, inputs)[0], expected)
    return {given: name for name, given in found.items()}


def names_in_module(architecture: Architecture, runner: nn.Module, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Given name → the module's, which may lack what wrappers put in front."""
    tied, constants = beside(architecture, runner)
    aside = constants.keys() | tied.keys()
    expected = [name for name, value in runner.state_dict().items() if not is_counter(name, value) and name not in aside]
    for plain in unwrapped(state):
        if set(plain.values()) == set(expected):
            return plain
    raise ValueError(f"module: its tensors are {listed(expected)}; the state dict has {listed(state)}.")


def run(runner: nn.Module, state: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, list[str]]:
    """Outputs, and the names of parts with tensors of their own in the order in which they ran."""
    order: list[str] = []
    hooks = [
        part.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, part in runner.named_modules()
        if any(True for _ in part.parameters(recurse=False))
    ]
    try:
        runner.load_state_dict(state, strict=False)
        with torch.no_grad():
            outputs = runner(inputs)
    except Exception as error:  # anything: the module is not ours
        said = " ".join(str(error).split())
        raise ValueError(f"module: loading and running it on inputs {tuple(inputs.shape)} failed: {said}") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(outputs, Tensor):
        raise ValueError(f"module: expected one tensor of outputs, got {type(outputs).__name__}.")
    return outputs, order


def by_order(architecture: Architecture, order: list[str], own_names: Mapping[str, str]) -> dict[str, str] | None:
    """Names by execution, None where layers run twice or tensors are used without one: then names and shapes must do."""
    if not is_perceptron(architecture):
        return None
    given = {
        part: [name for name, own in own_names.items() if own.rpartition(".")[0] == part] for part in dict.fromkeys(order)
    }
    layers = [[layer.weight, *([layer.bias] if layer.bias else [])] for layer in architecture.layers]
    if len(order) != len(layers) or sum(map(len, given.values())) != len(own_names):
        return None
    found: dict[str, str] = {}
    for part, layer in zip(order, layers, strict=False):
        roles = next(iter(units(layer).values()))
        theirs = next(iter(units(given[part]).values()))
        if roles.keys() != theirs.keys():
            return None
        found |= {theirs[role]: roles[role] for role in roles}
    return found


def check_outputs(ours: Tensor, theirs: Tensor) -> None:
    if ours.shape != theirs.shape:
        raise ValueError(f"module: its outputs are {tuple(theirs.shape)}, the architecture's {tuple(ours.shape)}.")
    difference, size = float((ours - theirs).abs().max()), float(theirs.abs().max())
    if not difference <= TOLERANCE * (1 + size):
        raise ValueError(
            f"module: with the same weights it computes something else than the architecture: outputs of up to {size:.3g} "
            f"differ by {difference:.3g}; is its activation the architecture's, and are its outputs plain ones (logits)?"
        )
