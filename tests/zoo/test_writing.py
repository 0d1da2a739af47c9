"""What is written for others comes back the same to the bit, and loads strictly into their own classes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.cases import random_networks
from tests.zoo import foreign
from wflib.architecture import Architecture, cnn, mlp, resnet
from wflib.networks import Networks, states_for
from wflib.networks.names import natural_order
from wflib.zoo import WRITERS, canonical_zoo, read, write, zoo_from_networks

pytest.importorskip("lmdb", reason="the extra wflib[gpt] is not installed")
pytest.importorskip("h5py", reason="the extra wflib[hdf5] is not installed")

ARCHITECTURES = {"mlp": mlp([3, 4, 2], "tanh"), "cnn": cnn((1, 6, 6), [3], 2), "resnet": resnet((1, 6, 6), [2, 4], 3)}


class Everything(nn.Module):
    """Tied weights, running statistics with their counter, and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)
        self.first, self.same, self.fc = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.same.weight = self.first.weight
        self.register_buffer("shift", torch.tensor([0.5, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.fc(torch.relu(self.same(torch.tanh(self.first(x))))) + self.shift


def zoo_of(architecture: Architecture, count: int = 6):
    drawn = random_networks(architecture, count).to(torch.float32).weights
    networks = Networks(architecture, {name: t.abs() if name.endswith("running_var") else t for name, t in drawn.items()})
    return zoo_from_networks(networks, torch.arange(count) // 2, torch.arange(count) % 2 * 7)


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_written_comes_back_to_the_bit(name, format, tmp_path):
    architecture = ARCHITECTURES[name]
    zoo, path = zoo_of(architecture), tmp_path / ("out.safetensors" if format == "stacked" else "out")
    write(path, zoo, format)
    again = read(path, architecture=architecture if format == "state-dicts" else None)
    assert again.networks.architecture == architecture
    assert torch.equal(again.networks.flat, zoo.networks.flat)
    assert (again.trajectory.tolist(), again.step.tolist()) == (zoo.trajectory.tolist(), zoo.step.tolist())


@pytest.mark.parametrize("format", WRITERS)
def test_snapshots_of_a_run_stay_of_one_run_whoever_writes_them(format, tmp_path):
    zoo, path = zoo_of(ARCHITECTURES["mlp"]), tmp_path / ("out.safetensors" if format == "stacked" else "out")
    write(tmp_path / "first", zoo, "modelzoo")
    found = read(tmp_path / "first")
    write(path, found.networks, format)  # which know of runs and steps by their names alone
    again = read(path, **({"activation": "tanh"} if format == "state-dicts" else {}))
    assert (again.trajectory.tolist(), again.step.tolist()) == ([0, 0, 1, 1, 2, 2], [0, 7] * 3)
    assert again.networks.names == found.networks.names
    parts = again.zoo(0.3)
    assert not set(parts.trajectory[parts.held_out].tolist()) & set(parts.trajectory[~parts.held_out].tolist())


def test_names_that_are_no_run_and_step_are_runs(tmp_path):
    names = ("a@", "@1", "b@01", "b@1.5", "me@home", "c@7")
    zoo = zoo_of(ARCHITECTURES["mlp"])
    Networks(zoo.architecture, zoo.weights, names).save(tmp_path / "out.safetensors")
    assert dict(zip(*read(tmp_path / "out.safetensors").table[["run", "step"]].to_numpy().T, strict=True)) == {
        **dict.fromkeys(names[:5], 0), "c": 7,
    }  # fmt: skip


FLAT = {"layers": [784, 16, 10], "activation": "relu", "orientation": "in-out"}
MAKERS: dict[str, tuple[Callable[[Path], dict[str, nn.Module]], str, dict]] = {
    "modelzoo": (foreign.modelzoo, "theirs", {}),
    "gpt": (foreign.gpt, "theirs", {}),
    "small-cnn-zoo": (foreign.small_cnn_zoo, "cifar10", {}),
    "wild-park": (foreign.wild_park, "theirs", {}),
    "inr": (foreign.inr, "theirs", {"format": "inr"}),
    "state-dicts": (foreign.state_dicts, "theirs", {"activation": "relu"}),
    "hdf5": (partial(foreign.hdf5, turned=True), "theirs.h5", FLAT),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_foreign_zoos_go_out_as_they_came_in(kind, tmp_path):
    make, folder, options = MAKERS[kind]
    made = make(tmp_path / folder)
    found = read(tmp_path / folder, **options)
    write(tmp_path / "out", found, "modelzoo")
    again = read(tmp_path / "out")
    assert torch.equal(again.networks.flat, found.networks.flat)
    assert again.networks.architecture == found.networks.architecture
    for name in ("step", "test_accuracy", "validation_loss"):
        if name in found.table:
            assert again.table[name].tolist() == pytest.approx(found.table[name].tolist(), nan_ok=True)
    write(tmp_path / "states", found, module=next(iter(made.values())))
    files = sorted((tmp_path / "states").iterdir(), key=lambda path: natural_order(path.name))
    for name, file in zip(found.networks.names, files, strict=True):
        state, theirs = torch.load(file, weights_only=True), made[name].state_dict()
        assert list(state) == list(theirs)
        assert all(torch.equal(state[key], theirs[key]) for key in theirs)


def test_ties_counters_and_constants_come_along(tmp_path):
    model = foreign.seeded(Everything, 0)
    foreign.state_dicts(tmp_path / "theirs", Everything, 4)
    found = read(tmp_path / "theirs", module=Everything, inputs=(1, 6, 6))
    before = copy.deepcopy(model.state_dict())
    states = states_for(found.networks, model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    for seed, state in enumerate(states):
        theirs = foreign.seeded(Everything, seed)
        model.load_state_dict(state, strict=True)
        assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items())


def test_a_constant_of_other_numbers_is_refused(tmp_path):
    foreign.state_dicts(tmp_path / "theirs", Everything, 4)
    changed = torch.load(tmp_path / "theirs/mlp_seed2.pt", weights_only=True)
    torch.save({**changed, "shift": torch.zeros(2)}, tmp_path / "theirs/mlp_seed2.pt")
    with pytest.raises(ValueError, match=r"mlp_seed2\.pt: shift is a constant of the class"):
        read(tmp_path / "theirs", module=Everything, inputs=(1, 6, 6))


def test_our_names_become_theirs():
    networks = random_networks(mlp([3, 4, 2], "tanh"), 3)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    states = states_for(networks, model)
    assert list(states[0]) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert torch.equal(states[1]["2.weight"], networks.weights["linear2.weight"][1])


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "computes something else"),
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh()), "expected tensors for"),
        (nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), "shape|tensors"),
    ],
)
def test_a_class_of_other_networks_is_refused(model, sentence):
    with pytest.raises(ValueError, match=sentence):
        states_for(random_networks(mlp([3, 4, 2], "tanh"), 3), model)


def test_what_cannot_be_written_is_refused(tmp_path):
    zoo = zoo_of(ARCHITECTURES["mlp"])
    with pytest.raises(ValueError, match="expected one of state-dicts, modelzoo, stacked, got 'lmdb'"):
        write(tmp_path / "out", zoo, "lmdb")
    with pytest.raises(ValueError, match="got canonical ones; write the aligned zoo"):
        write(tmp_path / "out", canonical_zoo(replace(zoo, form="aligned")))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    with pytest.raises(ValueError, match="a new or an empty folder"):
        write(tmp_path / "full", zoo)
    twice = Networks(zoo.architecture, zoo.weights, ("a/b", "a b", "c", "d", "e", "f"))
    with pytest.raises(ValueError, match="several networks would be called a_b"):
        write(tmp_path / "out", twice)
    assert not (tmp_path / "out").exists()


def test_names_stay_inside_the_folder(tmp_path):
    zoo = zoo_of(ARCHITECTURES["mlp"])
    write(tmp_path / "out", Networks(zoo.architecture, zoo.weights, ("../../up", "/root/x", "..", "~/x.pt", "b", "c")))
    assert {path.parent for path in tmp_path.rglob("*.pt")} == {tmp_path / "out"}
    assert len(list((tmp_path / "out").iterdir())) == 6
