"""Constants and tied names in state dicts of a traced class: left aside where they are such, else told."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.networks.classes import Masked, Tied, Tokens
from wflib.architecture import Architecture, mlp
from wflib.networks import Networks

KINDS = {
    "a constant": (Masked, torch.zeros(1, 4)),
    "tied": (Tied, torch.zeros(1, 4)),
    "both, of tokens": (Tokens, torch.zeros(1, 4, dtype=torch.long)),
}


def made(name: str, count: int = 3) -> tuple[Architecture, list[nn.Module]]:
    kind, example = KINDS[name]
    modules = [kind() for _ in range(count)]
    return Architecture.from_module(modules[0], example), modules


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_traced_class_reads_its_own_state_dicts(name, dtype, tmp_path):
    architecture, modules = made(name)
    states = [{key: tensor.to(dtype) for key, tensor in module.state_dict().items()} for module in modules]
    for place, state in enumerate(states):
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, tmp_path / f"{place}.pt")
    for module in (None, modules[2]):
        for found in (
            Networks.from_state_dicts(architecture, states, module=module),
            Networks.load(tmp_path, architecture, module=module),
        ):
            for network, state in zip(found, states, strict=True):
                assert all(torch.equal(tensor, state[key].float()) for key, tensor in network.items())


@pytest.mark.parametrize("name", KINDS)
def test_so_are_stacked_ones(name, tmp_path):
    architecture, modules = made(name)
    states = [module.state_dict() for module in modules]
    save_file({key: torch.stack([state[key] for state in states]) for key in states[0]}, tmp_path / "all.safetensors")
    for module in (None, modules[0]):
        found = Networks.load(tmp_path / "all.safetensors", architecture, module=module)
        assert torch.equal(found.flat, Networks.from_state_dicts(architecture, states).flat)


@pytest.mark.parametrize(
    ("name", "tensor", "told"),
    [
        ("a constant", "mask", "mask is a constant"),
        ("tied", "fc2.weight", "fc2.weight is tied to fc1.weight"),
    ],
)
def test_other_numbers_are_no_constants_and_not_tied(name, tensor, told):
    architecture, (module,) = made(name, 1)
    state = module.state_dict()
    state[tensor] = state[tensor] + 1
    with pytest.raises(ValueError, match=f"state dict 0: {told} .*holds other numbers"):
        Networks.from_state_dicts(architecture, [state], module=module)
    with pytest.raises(ValueError, match=r"has \d tensors .*; where the others are constants or tied, give .* module=…"):
        Networks.from_state_dicts(architecture, [state])


def test_a_tie_is_no_matter_to_an_architecture_that_has_both():
    module = Tied()
    architecture = mlp([4, 4, 4], "tanh")
    found = Networks.from_state_dicts(architecture, [module.state_dict()], module=module)
    assert torch.equal(found.weights["linear1.weight"], found.weights["linear2.weight"])


def test_a_class_that_is_no_perceptron_is_run_too():
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    architecture = Architecture.from_module(convolution, torch.zeros(1, 1, 6, 6))
    found = Networks.from_state_dicts(architecture, [convolution.state_dict()], module=convolution)
    assert torch.equal(found[0]["0.weight"], convolution[0].weight)
    convolution[2] = nn.Tanh()
    with pytest.raises(ValueError, match="computes something else than the architecture"):
        Networks.from_state_dicts(architecture, [convolution.state_dict()], module=convolution)
