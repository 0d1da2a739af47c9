"""Networks as people use them: state dicts, modules, torch.func, files, and what is refused."""

from __future__ import annotations

import pickle
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator

ARCHITECTURE = mlp([4, 6, 5, 3], activation="tanh")
INPUTS = torch.randn(8, 4, generator=generator(0, "inputs"))


@pytest.fixture
def networks() -> Networks:
    flat = torch.randn(5, ARCHITECTURE.dimension, generator=generator(0, "weights"))
    return Networks(ARCHITECTURE, ARCHITECTURE.unflatten(flat))


def test_state_dicts_modules_and_the_stacked_module_compute_the_same(networks):
    expected = ARCHITECTURE.forward(networks.weights, INPUTS)
    torch.testing.assert_close(networks.module()(INPUTS), expected)
    torch.testing.assert_close(torch.stack([module(INPUTS) for module in networks.modules()]), expected)
    stacked, one = networks.module().stacked, ARCHITECTURE.module()
    vectorized = torch.func.vmap(lambda parameters: torch.func.functional_call(one, parameters, (INPUTS,)))(stacked)
    torch.testing.assert_close(vectorized, expected)
    assert not torch.allclose(expected[0], expected[1])


def test_the_stacked_module_trains(networks):
    module = networks.module()
    module(INPUTS).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    assert set(module.state_dict()) == {"linear1_weight", "linear1_bias", "linear2_weight", "linear2_bias"} | {
        "linear3_weight",
        "linear3_bias",
    }


def test_they_are_a_sequence_of_copies(networks):
    assert len(networks) == len(list(networks)) == 5
    networks[0]["linear1.weight"].zero_()
    assert networks.weights["linear1.weight"][0].abs().sum() > 0
    assert torch.equal(networks[-1]["linear1.bias"], networks.weights["linear1.bias"][4])
    with pytest.raises(IndexError, match="index 5 of 5"):
        networks[5]
    part = networks[1:4:2]
    assert isinstance(part, Networks)
    assert len(part) == 2
    assert all(torch.equal(part[1][name], networks[3][name]) for name in networks.weights)
    assert torch.equal(networks[::-1][0]["linear1.bias"], networks[4]["linear1.bias"])
    part.weights["linear1.bias"].zero_()
    assert networks.weights["linear1.bias"][1].abs().sum() > 0


def test_state_dicts_come_back_whatever_their_names(networks):
    again = Networks.from_state_dicts(ARCHITECTURE, networks.state_dicts())
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in networks.weights.items())
    own = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    found = Networks.from_state_dicts(ARCHITECTURE, [own.state_dict()])
    torch.testing.assert_close(found.module()(INPUTS)[0], own(INPUTS))


@pytest.mark.parametrize("name", ["networks.safetensors", "folder"])
def test_files_come_back(networks, tmp_path, name):
    networks.save(tmp_path / name)
    again = Networks.load(tmp_path / name, ARCHITECTURE)
    assert all(torch.equal(again.weights[key], tensor) for key, tensor in networks.weights.items())


def test_names_in_a_folder_keep_the_order_of_many_networks(tmp_path, monkeypatch):
    names = []

    @contextmanager
    def remember(path):
        names.append(path.name)
        yield path

    monkeypatch.setattr("wflib.networks.atomic_path", remember)
    monkeypatch.setattr("wflib.networks.save_file", lambda *_: None)
    one = mlp([1, 1])
    Networks(one, one.unflatten(torch.zeros(10_001, 2))).save(tmp_path / "folder")
    assert names == sorted(names)
    assert len(set(names)) == 10_001


def test_a_folder_of_torch_files_is_read_and_code_in_it_is_not_run(networks, tmp_path):
    for index, state in enumerate(networks):
        torch.save(state, tmp_path / f"{index}.pt")
    torch.testing.assert_close(Networks.load(tmp_path, ARCHITECTURE).module()(INPUTS), networks.module()(INPUTS))

    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    (tmp_path / "9.pt").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match=r"9\.pt: expected"):
        Networks.load(tmp_path, ARCHITECTURE)
    assert not (tmp_path / "opened").exists()


def test_wrong_tensors_are_named(networks, tmp_path):
    with pytest.raises(ValueError, match="at least one state dict"):
        Networks.from_state_dicts(ARCHITECTURE, [])
    with pytest.raises(ValueError, match="state dict 0 has 2 tensors"):
        Networks.from_state_dicts(ARCHITECTURE, [nn.Linear(4, 6).state_dict()])
    other = mlp([4, 7, 5, 3])
    with pytest.raises(ValueError, match=r"state dict 0: linear1.weight has shape \(6, 4\)"):
        Networks.from_state_dicts(other, [networks[0]])
    with pytest.raises(ValueError, match="expected a safetensors file, or a folder"):
        Networks.load(tmp_path / "nothing", ARCHITECTURE)
    networks.save(tmp_path / "folder")
    with pytest.raises(ValueError, match="holds networks already"):
        networks.save(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"network-0000.safetensors: .*shape"):
        Networks.load(tmp_path / "folder", other)


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_file_of_one_state_dict_is_one_network(networks, tmp_path, ending):
    networks.save(tmp_path / "folder")
    own = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    torch.save(own.state_dict(), tmp_path / "own.pt")
    path = {"safetensors": tmp_path / "folder/network-0003.safetensors", "pt": tmp_path / "own.pt"}[ending]
    found, expected = Networks.load(path, ARCHITECTURE), {"safetensors": networks.modules()[3], "pt": own}[ending]
    assert len(found) == 1
    torch.testing.assert_close(found.module()(INPUTS)[0], expected(INPUTS))


@pytest.mark.parametrize("bias", [True, False])
def test_safetensors_files_of_ones_own_modules_are_read_in_the_order_of_the_modules(tmp_path, bias):
    """The file's own order is alphabetical: biases before weights, 10.weight before 2.weight."""
    parts = [part for _ in range(6) for part in (nn.Linear(3, 3, bias=bias), nn.Tanh())]
    own, inputs = nn.Sequential(*parts, nn.Linear(3, 3, bias=bias)), torch.randn(5, 3, generator=generator(0, "own"))
    architecture = mlp([3] * 8, activation="tanh", bias=bias)
    save_file(own.state_dict(), tmp_path / "own.safetensors")
    for path in (tmp_path / "own.safetensors", tmp_path):
        torch.testing.assert_close(Networks.load(path, architecture).module()(inputs)[0], own(inputs))


def test_tensors_that_are_not_stacked_are_refused(networks):
    with pytest.raises(
        ValueError, match=r"expected stacked tensors, linear1.weight of shape \(networks, 6, 4\), got \(6, 4\)"
    ):
        Networks(ARCHITECTURE, networks[0])


def test_bad_files_are_named(networks, tmp_path):
    networks.save(tmp_path / "networks.safetensors")
    with pytest.raises(ValueError, match=r"networks.safetensors: Shape mismatch"):
        Networks.load(tmp_path / "networks.safetensors", mlp([4, 7, 5, 3]))
    with pytest.raises(ValueError, match=r"networks.safetensors: Weights: expected tensors"):
        Networks.load(tmp_path / "networks.safetensors", mlp([4, 6, 3]))
    broken = networks[0]
    broken["linear2.bias"][1] = float("nan")
    torch.save(broken, tmp_path / "nan.pt")
    with pytest.raises(ValueError, match=r"nan.pt: expected finite numbers, found NaN or infinity in linear2.bias"):
        Networks.load(tmp_path / "nan.pt", ARCHITECTURE)
    for name, content in {"a.safetensors": b"", "b.pt": b"garbage", "c.pt": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: expected"):
            Networks.load(tmp_path / name, ARCHITECTURE)
    whole = (tmp_path / "networks.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut.safetensors: expected a state dict"):
        Networks.load(tmp_path / "cut.safetensors", ARCHITECTURE)
