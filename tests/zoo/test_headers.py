"""Single networks that wflib has written are what their headers say, and nothing that is asked for contradicts them."""

from __future__ import annotations

import pytest
import torch

from tests.cases import random_networks
from tests.zoo import foreign
from wflib.architecture import Architecture, cnn, mlp
from wflib.networks import Networks
from wflib.zoo import inspect, read, save_zoo, zoo_from_networks

TANH = mlp([3, 4, 2], "tanh")
ARCHITECTURES = {"tanh": TANH, "cnn": cnn((1, 8, 8), [3], 5), "regression": mlp([3, 4, 2], task_type="regression")}


def networks_of(architecture: Architecture, count: int = 6) -> Networks:
    return random_networks(architecture, count).to(torch.float32)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_networks_are_what_their_headers_say(name, tmp_path):
    networks = networks_of(ARCHITECTURES[name])
    networks.save(tmp_path / "ours")
    found = read(tmp_path / "ours")
    assert found.networks.architecture == networks.architecture
    assert torch.equal(found.networks.flat, networks.flat)
    assert "to read it" not in str(inspect(tmp_path / "ours"))
    one = read(tmp_path / "ours/network-0002.safetensors")
    assert one.networks.architecture == networks.architecture
    assert torch.equal(one.networks.flat, networks[2:3].flat)
    networks.save(tmp_path / "stacked.safetensors")  # the control: these are read as ever
    assert read(tmp_path / "stacked.safetensors").provenance["format"] == "wflib"


WRONG = [
    ({"activation": "relu"}, r"zoo\.read\.activation asks for networks of relu, its header says tanh; leave it out"),
    ({"task_type": "regression"}, r"zoo\.read\.task_type asks for regression, its header says classification"),
    ({"architecture": mlp([3, 4, 2], "gelu")}, r"was given computes gelu, its header says tanh"),
    ({"module": lambda: foreign.mnist_perceptron((3, 4, 2)), "inputs": (3,)}, r"given computes relu, its header says tanh"),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG)
def test_what_contradicts_headers_is_refused(options, sentence, tmp_path):
    networks = networks_of(TANH)
    networks.save(tmp_path / "ours")
    networks.save(tmp_path / "stacked.safetensors")
    save_zoo(tmp_path / "zoo.safetensors", zoo_from_networks(networks))
    for path in ("ours", "ours/network-0001.safetensors", "stacked.safetensors", "zoo.safetensors"):
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path / path, **options)
        assert len(read(tmp_path / path, activation="tanh", task_type="classification", architecture=TANH)) in (1, 6)


def test_headers_name_runs_and_steps(tmp_path):
    networks = networks_of(TANH)
    names = tuple(f"run-{run}@{step}" for run in range(3) for step in (5, 10))
    Networks(TANH, networks.weights, names).save(tmp_path / "ours")
    found = read(tmp_path / "ours")
    assert (found.trajectory.tolist(), found.step.tolist()) == ([0, 0, 1, 1, 2, 2], [5, 10] * 3)
    assert found.networks.names == names
    for folder in ("one", "two"):
        Networks(TANH, networks.weights, names).save(tmp_path / "both" / folder)
    with pytest.warns(UserWarning, match="6 networks are the same"):
        both = read(tmp_path / "both")
    assert both.table["run"].tolist()[:2] == [
        "one/network-0000",
        "one/network-0001",
    ]  # names given twice


def test_several_architectures_are_told_or_left_out(tmp_path):
    networks_of(TANH, 3).save(tmp_path / "zoo/a")
    networks_of(mlp([3, 4, 2]), 2).save(tmp_path / "zoo/b")
    with pytest.raises(ValueError, match=r"found 2: a/network-0000 is 3-4-2 tanh.*, b/network-0000 is 3-4-2 relu"):
        read(tmp_path / "zoo")
    with pytest.warns(UserWarning, match="left out 2 networks of another architecture"):
        found = read(tmp_path / "zoo", other_architectures="leave-out")
    assert (len(found), found.networks.architecture) == (3, TANH)
    torch.save(random_networks(TANH, 1, seed=9).state_dicts()[0], tmp_path / "zoo/plain.pt")
    with pytest.raises(ValueError, match=r"b/network-0000\.safetensors: its networks are 3-4-2 relu.* read them apart"):
        read(tmp_path / "zoo")
    for path in (tmp_path / "zoo/b").iterdir():
        path.unlink()
    assert len(read(tmp_path / "zoo")) == 4  # a file without a header is of the architecture that the others' say
