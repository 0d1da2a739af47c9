"""Files and folders of networks: one format that says what it holds, and sentences for everything else."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from operator import getitem

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.cases import random_networks
from wflib.architecture import cnn, mlp
from wflib.networks import Networks
from wflib.networks.guards import BrokenFileError
from wflib.networks.writing import file_names
from wflib.rng import generator
from wflib.storage import save_artifact, separate
from wflib.storage.artifact import FORMAT_VERSION
from wflib.zoo import Zoo, canonical_zoo, save_zoo

ARCHITECTURE = mlp([4, 6, 5, 3], activation="tanh")
INPUTS = torch.randn(8, 4, generator=generator(0, "inputs"))
NAMES = ("e_2", "e_10", "a/b", "x", "y")


@pytest.fixture
def networks() -> Networks:
    flat = torch.randn(5, ARCHITECTURE.dimension, generator=generator(0, "weights"))
    return Networks(ARCHITECTURE, ARCHITECTURE.unflatten(flat), NAMES, {"task": "wdbc", "seed": 3})


def equal(a: Networks, b: Networks) -> bool:
    return a.architecture == b.architecture and all(torch.equal(a.weights[key], b.weights[key]) for key in b.weights)


def own_module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.mark.parametrize("name", ["networks.safetensors", "NETWORKS.SAFETENSORS", "folder", "new/folder"])
@pytest.mark.parametrize("count", [1, 5])
def test_files_say_what_they_hold(networks, tmp_path, name, count):
    networks[:count].save(tmp_path / name)
    again = Networks.load(tmp_path / name)
    assert equal(again, networks[:count])
    assert again.names == NAMES[:count]
    assert again.metadata == networks.metadata
    assert equal(Networks.load(tmp_path / name, ARCHITECTURE), networks[:count])


def test_a_file_holds_tensors_of_state_dicts_and_nothing_else(networks, tmp_path):
    networks.save(tmp_path / "networks.safetensors")
    tensors, module = load_file(tmp_path / "networks.safetensors"), ARCHITECTURE.module()
    module.load_state_dict({name: tensor[2] for name, tensor in tensors.items()})
    torch.testing.assert_close(module(INPUTS), networks.modules()[2](INPUTS))
    networks.save(tmp_path / "folder")
    module.load_state_dict(load_file(tmp_path / "folder/network-0003.safetensors"))
    torch.testing.assert_close(module(INPUTS), networks.modules()[3](INPUTS))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PT"])
def test_a_torch_file_is_one(networks, tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    networks[:1].save(path)
    networks.save(path)
    found = torch.load(path, weights_only=True)
    assert all(torch.equal(found[name], tensor) for name, tensor in networks.weights.items())
    assert equal(Networks.load(path, ARCHITECTURE), networks)
    assert path.stat().st_size < 20_000


def test_a_torch_file_holds_no_more_than_its_networks(tmp_path):
    large = torch.randn(10_000, 4, 4)
    Networks(mlp([4, 4], bias=False), {"linear1.weight": large[:1]}).save(tmp_path / "one.pt")
    assert (tmp_path / "one.pt").stat().st_size < 5_000


VIEWS = {
    "transposed": lambda tensor: tensor.transpose(1, 2).contiguous().transpose(1, 2),
    "expanded": lambda tensor: tensor[:1].expand(3, -1, -1),
    "strided": lambda tensor: tensor.repeat_interleave(2, 2)[..., ::2],
    "parameter": lambda tensor: nn.Parameter(tensor.clone()),
    "slice of a larger one": lambda tensor: torch.cat([tensor, tensor])[:3],
}


@pytest.mark.parametrize("name", ["file.safetensors", "file.pt", "folder"])
@pytest.mark.parametrize("view", [*VIEWS, "tied", "one flat tensor"])
def test_views_are_saved_as_what_they_show(tmp_path, name, view):
    architecture = mlp([6, 6, 6, 6], bias=False)
    blocks = torch.randn(3, 3, 6, 6, generator=generator(0, "views"))
    weights = {f"linear{index}.weight": VIEWS.get(view, lambda tensor: tensor)(blocks[index - 1]) for index in (1, 2, 3)}
    if view == "tied":
        weights = dict.fromkeys(weights, blocks[0])
    if view == "one flat tensor":
        weights = architecture.unflatten(torch.randn(3, architecture.dimension))
    Networks(architecture, weights).save(tmp_path / name)
    assert equal(Networks.load(tmp_path / name, architecture), Networks(architecture, weights))


def test_file_names_keep_the_order_of_many_networks():
    for count in (1, 10_000, 10_001):
        names = file_names(count)
        assert names == sorted(names)
        assert len(set(names)) == count
    assert file_names(1) == ["network-0000.safetensors"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        *((f"mine{suffix}", rf"ends in .safetensors, .pt or .pth .* got \{suffix}") for suffix in (".bin", ".npz", ".ckpt")),
        ("v1.0", r"got \.0"),
        ("full", r"holds files already \(notes.txt\); name a new or an empty one"),
        ("file", "expected the name of a folder, found a file"),
        ("folder.safetensors", "expected the name of a file, found a folder"),
        ("file/inside", "expected .*file to be a folder, found a file"),
    ],
)
def test_places_that_cannot_be_are_told_and_nothing_is_written(networks, tmp_path, name, complaint):
    for folder in ("full", "folder.safetensors"):
        (tmp_path / folder).mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=complaint):
        networks.save(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_written_is_told(networks, tmp_path):
    with pytest.raises(ValueError, match="there are no networks to save"):
        networks[5:].save(tmp_path / "none.safetensors")
    for metadata, complaint in (({"kind": 1}, r"\['kind'\] are reserved"), ({"x": torch.ones(1)}, "what JSON can hold")):
        with pytest.raises(ValueError, match=complaint):
            Networks(ARCHITECTURE, networks.weights, metadata=metadata).save(tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_written_whole_or_not_at_all(networks, tmp_path, monkeypatch):
    def full(path, *arguments):
        if path.name == "network-0002.safetensors":
            raise OSError("no space left")
        save_artifact(path, *arguments)

    monkeypatch.setattr("wflib.networks.writing.save_artifact", full)
    with pytest.raises(OSError, match="no space left"):
        networks.save(tmp_path / "folder")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    (tmp_path / "folder").mkdir()
    networks.save(tmp_path / "folder")
    assert len(list((tmp_path / "folder").iterdir())) == 5
    (tmp_path / "other").mkdir()
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_architecture_is_the_files_or_the_callers(networks, tmp_path):
    networks.save(tmp_path / "networks.safetensors")
    other = mlp([4, 6, 5, 3])
    with pytest.raises(ValueError, match=r"are 4-6-5-3 tanh/identity classification .*asked for 4-6-5-3 relu/identity"):
        Networks.load(tmp_path / "networks.safetensors", other)
    save_file(own_module().state_dict(), tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"own.safetensors: no header says the architecture; give it"):
        Networks.load(tmp_path / "own.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    Networks(ARCHITECTURE, networks.weights).save(folder / "a.safetensors")
    save_file(own_module().state_dict(), folder / "own.safetensors")
    assert Networks.load(folder).names == ("a[0]", "a[1]", "a[2]", "a[3]", "a[4]", "own")
    Networks(other, networks.weights).save(folder / "b.safetensors")
    with pytest.raises(ValueError, match=r"b.safetensors: .* others here are 4-6-5-3 tanh/identity"):
        Networks.load(folder)


def test_foreign_stacked_files_are_read(networks, tmp_path):
    for ending in ("pt", "safetensors"):
        own = {
            f"{2 * index}.{role}": networks.weights[f"linear{index + 1}.{role}"]
            for index in range(3)
            for role in ("weight", "bias")
        }
        {"pt": torch.save, "safetensors": save_file}[ending](separate(own), tmp_path / f"own.{ending}")
        assert equal(Networks.load(tmp_path / f"own.{ending}", ARCHITECTURE), networks)
    own["2.bias"] = own["2.bias"][:4]
    torch.save(own, tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"own.pt: tensors disagree about the number of networks: .*2.bias 4"):
        Networks.load(tmp_path / "own.pt", ARCHITECTURE)


def test_a_folder_is_read_in_natural_order_and_tells_what_it_leaves_out(networks, tmp_path):
    files = ["epoch_10.pt", "epoch_2.PTH", "b/epoch_1.ckpt", "same.pt", "same.safetensors", "z.bin"]
    modules = {name: own_module() for name in files}
    (tmp_path / "b").mkdir()
    for name, module in modules.items():
        (save_file if name.endswith("safetensors") else torch.save)(module.state_dict(), tmp_path / name)
    order = ["b/epoch_1.ckpt", "epoch_2.PTH", "epoch_10.pt", "same.pt", "same.safetensors", "z.bin"]
    found = Networks.load(tmp_path, ARCHITECTURE)  # a warning would be an error
    assert found.names == ("b/epoch_1", "epoch_2", "epoch_10", "same.pt", "same.safetensors", "z")
    for index, name in enumerate(order):
        torch.testing.assert_close(found.module()(INPUTS)[index], modules[name](INPUTS))
    (tmp_path / ".hidden").mkdir()
    for name in ("notes.txt", ".hidden/x.pt", ".y.pt", "checkpoint"):
        (tmp_path / name).write_text("mine")
    with pytest.warns(UserWarning, match=r"left out 4 that are no networks: .hidden/, .y.pt, checkpoint, notes.txt"):
        again = Networks.load(tmp_path, ARCHITECTURE)
    assert again.names == found.names
    again.save(tmp_path / "c")
    assert Networks.load(tmp_path / "c").names == found.names


def test_one_networks_file_among_many(networks, tmp_path):
    networks.save(tmp_path / "folder")
    whole = (tmp_path / "folder/network-0003.safetensors").read_bytes()
    (tmp_path / "folder/network-0003.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder/network-0009.pt").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"network-0003.safetensors: .*damaged.* skip_broken=True"):
        Networks.load(tmp_path / "folder")
    with pytest.warns(UserWarning, match=r"left out 2 of 6 files, unreadable: network-0003.safetensors, network-0009.pt"):
        found = Networks.load(tmp_path / "folder", skip_broken=True)
    assert found.names == ("e_2", "e_10", "a/b", "y")
    optimizer = torch.optim.Adam(networks.modules()[0].parameters())
    for name, content in {"optimizer": optimizer.state_dict(), "history": {"loss": [1.0]}}.items():
        torch.save(content, tmp_path / f"folder/{name}.pt")
    with pytest.warns(UserWarning, match=r"left out 4 of 8 files, unreadable: history.pt, network-0003.*, optimizer.pt"):
        assert Networks.load(tmp_path / "folder", skip_broken=True).names == found.names
    (tmp_path / "folder/network-0003.safetensors").write_bytes(whole)
    (tmp_path / "folder/network-0009.pt").unlink()
    (tmp_path / "folder/history.pt").unlink()
    with pytest.raises(ValueError, match=r"optimizer.pt: .* found an optimizer's; .* skip_broken=True leaves"):
        Networks.load(tmp_path / "folder")
    broken = networks[0]
    broken["linear2.bias"][1] = float("nan")
    (tmp_path / "other").mkdir()
    for name, state in {"a": networks[1], "b": broken}.items():
        torch.save(state, tmp_path / f"other/{name}.pt")
    with pytest.raises(ValueError, match=r"other: .* 1 of 2 networks: b \(linear2.bias\)"):
        Networks.load(tmp_path / "other", ARCHITECTURE)
    with pytest.warns(UserWarning, match=r"left out 1 of 2 networks .*: b \(linear2.bias\)"):
        assert Networks.load(tmp_path / "other", ARCHITECTURE, skip_broken=True).names == ("a",)
    save_file(mlp([4, 7, 5, 3]).module().state_dict(), tmp_path / "other/c.safetensors")
    with pytest.raises(ValueError, match=r"c.safetensors: linear1.weight has shape \(7, 4\); .* \(6, 4\)"):
        Networks.load(tmp_path / "other", ARCHITECTURE, skip_broken=True)


def test_code_in_a_file_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    (tmp_path / "9.pt").write_bytes(pickle.dumps(Harmful()))
    torch.save({"a": Harmful()}, tmp_path / "8.pt")
    for path in (tmp_path / "9.pt", tmp_path / "8.pt"):
        with pytest.raises(ValueError, match=r"\.pt: expected a state dict"):
            Networks.load(path, ARCHITECTURE)
    assert not (tmp_path / "opened").exists()


def test_zoos_are_read_where_they_are_ordinary(networks, tmp_path):
    architecture, count = mlp([4, 6, 5, 3]), torch.arange(5)
    zoo = Zoo(Networks(architecture, networks.weights), count, count, count > 3, "trained", metadata={"init_std": 0.3})
    save_zoo(tmp_path / "zoo.safetensors", zoo)
    found = Networks.load(tmp_path / "zoo.safetensors")
    assert equal(found, Networks(architecture, networks.weights))
    assert found.metadata["init_std"] == 0.3
    for other in (canonical_zoo(zoo), replace(zoo, form="sampled")):
        save_zoo(tmp_path / "other.safetensors", other)
        with pytest.raises(ValueError, match=rf"found a zoo of form {other.form}, .*load_zoo, or read the aligned zoo"):
            Networks.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("kind", "remedy"), [("flow", "draw_networks"), ("dataset", "data/networks"), ("other", "give a file")]
)
def test_other_artifacts_are_told(tmp_path, kind, remedy):
    save_artifact(tmp_path / "x.safetensors", kind, {"a": torch.ones(1)}, {})
    with pytest.raises(ValueError, match=f"expected networks, found a {kind} artifact; .*{remedy}"):
        Networks.load(tmp_path / "x.safetensors", ARCHITECTURE)


def test_headers_that_cannot_be_are_told(networks, tmp_path):
    for header, complaint in {
        json.dumps({"format": 9, "kind": "networks"}): f"expected format version {FORMAT_VERSION}, found 9",
        "no json": "expected a wflib header",
        json.dumps({"format": FORMAT_VERSION, "kind": "networks"}): "header does not say what its networks are",
        json.dumps(
            {"format": FORMAT_VERSION, "kind": "networks", "architecture": "{}"}
        ): "header does not say what its networks are",
    }.items():
        save_file(separate(networks.weights), tmp_path / "x.safetensors", {"wflib": header})
        with pytest.raises(ValueError, match=complaint):
            Networks.load(tmp_path / "x.safetensors", ARCHITECTURE)


def test_nothing_to_read_is_told(networks, tmp_path):
    with pytest.raises(ValueError, match="missing: expected a file or a folder of networks, found neither"):
        Networks.load(tmp_path / "missing", ARCHITECTURE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected files that end in .*, found nothing"):
        Networks.load(tmp_path / "empty", ARCHITECTURE)
    (tmp_path / "empty/a.npz").write_text("")
    with pytest.raises(ValueError, match=r"found only a.npz"):
        Networks.load(tmp_path / "empty", ARCHITECTURE)
    with pytest.raises(ValueError, match=r"a.npz: expected a file that ends in .safetensors, .pt"):
        Networks.load(tmp_path / "empty/a.npz", ARCHITECTURE)
    save_file({name: tensor[:0] for name, tensor in networks.weights.items()}, tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"none.safetensors: expected networks, found a file of none"):
        Networks.load(tmp_path / "none.safetensors", ARCHITECTURE)
    for name, content in {"a.safetensors": b"", "b.pt": b"garbage", "c.pt": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: expected"):
            Networks.load(tmp_path / name, ARCHITECTURE)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/b.pt").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"bad: none of 1 files could be read: b.pt; the first: .*b.pt: expected a state"):
        Networks.load(tmp_path / "bad", ARCHITECTURE, skip_broken=True)
    torch.save(networks[0], tmp_path / "model-00001-of-00002.bin")
    with pytest.raises(ValueError, match="is one of 2 parts of a network"):
        Networks.load(tmp_path / "model-00001-of-00002.bin", ARCHITECTURE)


def test_braces_in_names_of_files_are_names(networks, tmp_path):
    for name in ("lr{0.1}", "run{}", "run{", "{1}"):
        torch.save(networks[0], tmp_path / f"{name}.pt")
    networks.save(tmp_path / "s{x}.pt")
    expected = {"lr{0.1}", "run{}", "run{", "{1}", *(f"s{{x}}[{index}]" for index in range(len(networks)))}
    assert set(Networks.load(tmp_path, networks.architecture).names) == expected


def test_folders_that_are_not_read_are_told(networks, tmp_path, monkeypatch):
    networks.save(tmp_path / "mine" / "a.safetensors")
    networks.save(tmp_path / "elsewhere" / "b.safetensors")
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="left out 1 that are no networks: link/"):
        assert len(Networks.load(tmp_path / "mine")) == len(networks)
    (tmp_path / "mine" / "link").unlink()
    (tmp_path / "mine" / "closed").mkdir()
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(ValueError, match=r"closed: expected a folder that can be read, Permission denied"):
        Networks.load(tmp_path / "mine")


@pytest.mark.parametrize("change", [{"names": 5}, {"names": [[1]]}, {"names": "abcde"}, {"kind": [1]}, {"kind": {}}])
def test_headers_of_other_types_are_told(networks, tmp_path, change):
    header = {"format": FORMAT_VERSION, "kind": "networks", "architecture": networks.architecture.to_json(), **change}
    save_file(separate(networks.weights), tmp_path / "file.safetensors", metadata={"wflib": json.dumps(header)})
    with pytest.raises(ValueError, match=r"file\.safetensors: expected (a list of names in its header|networks, found a)"):
        Networks.load(tmp_path / "file.safetensors")


def test_an_empty_file_is_told(tmp_path):
    (tmp_path / "empty.pt").touch()
    with pytest.raises(ValueError, match=r"damaged or foreign file \(\w+"):
        Networks.load(tmp_path / "empty.pt", mlp([3, 2]))


def paths_in(data: object, path: tuple = ()) -> Iterator[tuple]:
    """Every place in nested data."""
    yield path
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from paths_in(value, (*path, key))


@pytest.mark.parametrize("architecture", [cnn((1, 8, 8), [3], 5), mlp([3, 4, 2])], ids=["cnn", "mlp"])
def test_whatever_is_damaged_in_a_header_is_told_with_the_file(architecture, tmp_path):
    networks, file = random_networks(architecture, 2).to(torch.float32), tmp_path / "net.safetensors"
    whole, draws, told = json.loads(architecture.to_json()), random.Random(0), 0
    places = [path for path in paths_in(whole) if path]
    for _ in range(150):
        facts, path = json.loads(json.dumps(whole)), draws.choice(places)
        inside = reduce(getitem, path[:-1], facts)
        inside[path[-1]] = draws.choice([None, -1, 0, 10**30, 1.5, "x", [], {}, True, [[1]], float("nan")])
        save_artifact(file, "networks", networks.weights, {"architecture": json.dumps(facts)})
        try:
            Networks.load(file)
        except ValueError as error:
            assert str(file) in str(error)  # noqa: PT017 - some changes leave an architecture
            told += 1
    assert told > 100
    save_file(dict(networks.weights), file, metadata={"wflib": "[" * 200_000})
    with pytest.raises(BrokenFileError, match=r"net\.safetensors: expected a wflib header"):
        Networks.load(file)
