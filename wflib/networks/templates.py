"""State dicts for somebody's own class: its names, tied tensors under all of them, counters and constants as it has them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture, is_perceptron, require_module
from wflib.networks.beside import tied_names
from wflib.networks.examples import random_inputs
from wflib.networks.names import listed, match
from wflib.networks.networks import Networks
from wflib.networks.running import check_outputs, names_by_running, run
from wflib.networks.states import is_counter
from wflib.rng import generator

__all__ = ["states_for"]


def states_for(networks: Networks, module: nn.Module) -> list[dict[str, Tensor]]:
    """State dicts that ``module.load_state_dict(state, strict=True)`` takes, one for each network, exact to the bit.

    The module is run on random inputs, to see that it computes what the networks' architecture says.

    Args:
        networks: Ordinary ones.
        module: An instance of the class; left as it is.

    Returns:
        One mapping for each network.

    Raises:
        ValueError: A class rather than an instance, a module that has other tensors, or one that computes something else;
            says what.

    Example:
        >>> from wflib.architecture import mlp
        >>> networks = Networks.from_flat(mlp([3, 4, 2], "tanh"), torch.randn(5, 26))
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> model.load_state_dict(states_for(networks, model)[2], strict=True)
        <All keys matched successfully>
        >>> x = torch.randn(6, 3)
        >>> torch.allclose(model(x), networks.forward(x)[2], atol=1e-6)
        True
    """
    require_module("module", module)
    whole, tied = module.state_dict(), tied_names(module)
    theirs = matched(networks.architecture, module, whole, tied)
    states = []
    for state in networks:
        own = {theirs[name]: tensor for name, tensor in state.items()}
        own |= {name: own[first].clone() for name, first in tied.items() if first in own}
        states.append({name: own[name] if name in own else value.detach().clone() for name, value in whole.items()})
    return states


def matched(architecture: Architecture, module: nn.Module, whole: dict[str, Tensor], tied: dict[str, str]) -> dict[str, str]:
    """The architecture's name → the module's.

    Raises:
        ValueError: Tensors are missing, or the module computes something else.
    """
    plain = {name: tensor for name, tensor in whole.items() if name not in tied and not is_counter(name, tensor)}
    own = dict(architecture.shapes)
    if own.keys() <= plain.keys():
        plain = {name: plain[name] for name in own}  # its other buffers are constants of the architecture
    if len(plain) != len(own):
        raise ValueError(
            f"module: expected tensors for {listed(own)}, found {listed(plain)}; give an instance of the networks' class."
        )
    # Numbers of its own: zeros would hide differences, and running variances must be positive.
    random = generator(0, "templates")
    drawn = {
        name: torch.rand(tensor.shape, generator=random, dtype=torch.float64).add(0.1) for name, tensor in plain.items()
    }
    if own.keys() == plain.keys():
        found = {name: name for name in own}
    elif is_perceptron(architecture) and plain.keys() == whole.keys():
        found = {ours: given for given, ours in names_by_running(architecture, module, [drawn]).items()}
    else:
        found = match(architecture, {name: tuple(tensor.shape) for name, tensor in plain.items()})
    verify(architecture, module, {name: drawn[given] for name, given in found.items()}, found, tied)
    return found


def verify(
    architecture: Architecture,
    module: nn.Module,
    weights: dict[str, Tensor],
    names: dict[str, str],
    tied: dict[str, str],
) -> None:
    """Compare a module's outputs with the architecture's on random inputs.

    Raises:
        ValueError: They differ, or the module cannot be run.
    """
    runner = copy.deepcopy(module).double().eval()
    state = {names[name]: tensor for name, tensor in weights.items()}
    state |= {name: state[first] for name, first in tied.items() if first in state}
    inputs = random_inputs(architecture)
    expected = run(runner, state, inputs)[0]
    check_outputs(architecture.forward({name: tensor[None] for name, tensor in weights.items()}, inputs)[0], expected)
