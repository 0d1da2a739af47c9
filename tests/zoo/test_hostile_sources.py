"""Dirt of real folders and files made to harm: each works, or is refused with the file, what was found and what helps."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.cases import random_networks
from tests.zoo import foreign
from wflib.architecture import mlp
from wflib.networks import finite_networks
from wflib.storage import header_text
from wflib.zoo import FORMATS, ZooWriter, inspect, read, read_into, read_settings
from wflib.zoo.sources.leaving_out import fingerprints

pytest.importorskip("lmdb", reason="the extra wflib[gpt] is not installed")
h5py = pytest.importorskip("h5py", reason="the extra wflib[hdf5] is not installed")

SIZES = (3, 4, 2)
RELU = {"activation": "relu"}


def small() -> nn.Module:
    return foreign.mnist_perceptron(SIZES)


def plain(folder: Path, count: int = 5) -> Path:
    """State dicts of a tiny perceptron, ``net_0.pt`` and so on."""
    foreign.state_dicts(folder, small, count, "net_{}.pt")
    return folder


def state(folder: Path, number: int = 2) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"net_{number}.pt", weights_only=True)


def changed(change: Callable[[dict], object], numbers: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Callable[[Path], Path]:
    """A folder in which some files hold what a function makes of their state dicts."""

    def make(folder: Path) -> Path:
        plain(folder)
        for number in numbers:
            torch.save(change(state(folder, number)), folder / f"net_{number}.pt")
        return folder

    return make


def replaced(content: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A folder with one file that something else is written to."""

    def make(folder: Path) -> Path:
        plain(folder)
        content(folder / "net_2.pt")
        return folder

    return make


def cut(path: Path, keep: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def sharded(files: dict[str, str]) -> Callable[[Path], Path]:
    """Networks in two shards with an index; the second of the last network's lies where ``files`` says."""

    def make(folder: Path) -> Path:
        for number in range(4):
            home, whole = folder / f"net_{number}", foreign.seeded(small, number).state_dict()
            home.mkdir(parents=True)
            parts = {"one.safetensors": ["fc1.weight", "fc1.bias"], "two.safetensors": ["fc2.weight", "fc2.bias"]}
            for name, tensors in parts.items():
                save_file({tensor: whole[tensor] for tensor in tensors}, home / name)
            places = {tensor: name for name, tensors in parts.items() for tensor in tensors}
            places |= files if number == 3 else {}
            (home / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
        return folder

    return make


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.same = nn.Linear(3, 3), nn.Linear(3, 3)
        self.same.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.same(torch.relu(self.first(x)))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


class Harm:
    """What runs code when it is unpickled carelessly."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/wflib-was-harmed",)


class Foreign:
    """A class of somebody else's."""


def with_clones(folder: Path) -> Path:
    """Tied tensors, each written with memory of its own."""
    foreign.state_dicts(folder, Tied, 4, "net_{}.pt")
    for number in range(4):
        torch.save({name: tensor.clone() for name, tensor in state(folder, number).items()}, folder / f"net_{number}.pt")
    return folder


def untied_in_one(folder: Path) -> Path:
    with_clones(folder)
    one = state(folder)
    torch.save({**one, "same.weight": one["same.weight"] + 1}, folder / "net_2.pt")
    return folder


def below_zero(folder: Path) -> Path:
    foreign.state_dicts(folder, Normed, 4, "net_{}.pt")
    one = state(folder)
    torch.save({**one, "norm.running_var": -one["norm.running_var"]}, folder / "net_2.pt")
    return folder


def nested(levels: int) -> Callable[[dict], dict]:
    """A state dict inside so many mappings."""

    def wrap(content: dict) -> dict:
        for _ in range(levels):
            content = {"model": content}
        return content

    return wrap


def circular(content: dict) -> dict:
    """A mapping that holds itself, beside something that could be a network's."""
    content = {"x": torch.ones(2)}
    content["model"] = content["state"] = content
    return content


def laughs(content: dict) -> dict:
    """Two million million ways through forty mappings, at whose end there is nothing."""
    content = {"nothing": 0}
    for _ in range(40):
        content = {"one": content, "other": content}
    return content


def torch_shards(folder: Path) -> Path:
    """Networks with counters in two shards as torch writes them."""
    for number in range(4):
        home, whole = folder / f"net_{number}", foreign.seeded(Normed, number).state_dict()
        home.mkdir(parents=True)
        places = {name: f"pytorch_model-0000{1 + (name > 'fc')}-of-00002.bin" for name in whole}
        for file in set(places.values()):
            torch.save({name: whole[name] for name in whole if places[name] == file}, home / file)
        (home / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def torch_shards_with_a_damaged_index(folder: Path) -> Path:
    cut(torch_shards(folder) / "net_2/pytorch_model.bin.index.json", 0.4)
    return folder


def ours_with_a_damaged_header(folder: Path) -> Path:
    """Files that wflib has written; an operation of one is not what operations are."""
    networks = random_networks(mlp([3, 4, 2]), 4)
    networks.save(folder)
    path = folder / "network-0001.safetensors"
    header = json.loads(header_text(path)["wflib"])
    facts = json.loads(header["architecture"])
    facts["operations"][0]["rows"] = True
    text = json.dumps(header | {"architecture": json.dumps(facts)})
    save_file(load_file(path), path, metadata={"wflib": text})
    return folder


def metrics(text: str) -> Callable[[Path], None]:
    """A table of figures with another step in one row."""

    def change(path: Path) -> None:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        lines[2] = ",".join([text, *lines[2].split(",")[1:]])
        path.write_bytes(gzip.compress("\n".join(lines).encode()))

    return change


def configured(**settings: object) -> Callable[[Path], None]:
    """A checkpoint of CNN Wild Park whose configuration says something else."""

    def change(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        torch.save({**content, "config": {**content["config"], **settings}}, path)

    return change


def two_makers(folder: Path) -> Path:
    foreign.inr(folder)
    foreign.inr(folder, nfn=True)
    return folder


def no_text(path: Path) -> None:
    os.close(os.open(os.fsencode(path.parent) + b"/net_\xff.pt", os.O_CREAT))


def bomb(path: Path) -> None:
    """A torch file whose record would unpack to 64 MB of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/data/0", bytes(2**26))


def giant_legacy(path: Path) -> None:
    """An old torch file that declares a terabyte: a rewritten count in an honest one."""
    torch.save({"w": torch.zeros(7)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"K\x07" in content
    path.write_bytes(content.replace(b"K\x07", b"J\xff\xff\xff\x7f"))


def expanded(path: Path) -> None:
    torch.save({"fc1.weight": torch.zeros(1).expand(10**6, 10**6)}, path)


def giant_header(path: Path) -> None:
    path.with_suffix(".safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


def beside(name: str, write: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A folder of good files with another one beside them."""

    def make(folder: Path) -> Path:
        write(plain(folder) / name)
        return folder

    return make


def damaged(make: Callable[[Path], object], pattern: str, change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Another format's folder, one file of which is changed."""

    def made(folder: Path) -> Path:
        make(folder)
        change(sorted(folder.glob(pattern))[1 if len(list(folder.glob(pattern))) > 1 else 0])
        return folder

    return made


def vectors(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        foreign.hdf5(folder / "zoo.h5", turned=True)
        change(folder / "zoo.h5")
        return folder / "zoo.h5"

    return made


def rewrite(key: bytes, value: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        import lmdb

        with lmdb.open(str(path.parent), map_size=2**26) as database, database.begin(write=True) as transaction:
            transaction.put(key, value)

    return change


def linked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["dataset"] = h5py.ExternalLink("/etc/passwd", "/x")


def declared(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset", shape=(10**9, 12730), dtype="f4", chunks=(1, 12730))


def elsewhere(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset", shape=(2, 12730), dtype="f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def npy_header(shape: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(64))

    return change


def layout(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text("varname,start_idx,end_idx,shape\n" + text + "\n")


def mixed(folder: Path) -> Path:
    foreign.modelzoo(folder)
    path = folder / foreign.RUNS[1] / "params.json"
    path.write_text(json.dumps({"model::type": "CNN", "model::nlin": "relu"}))
    return folder


def linked_folder(folder: Path) -> Path:
    plain(folder.parent / "elsewhere", 3)
    plain(folder)
    (folder / "link").symlink_to(folder.parent / "elsewhere")
    return folder


FLAT = {"layers": [784, 16, 10], "activation": "relu", "orientation": "in-out"}
SQUARE = foreign.mnist_perceptron
OTHER = {
    "fc1.weight": torch.zeros(5, 3),
    "fc1.bias": torch.zeros(5),
    "fc2.weight": torch.zeros(2, 5),
    "fc2.bias": torch.zeros(2),
}
NAN = lambda s: {**s, "fc1.bias": s["fc1.bias"] * float("nan")}  # noqa: E731
WITH_TIES = {"module": Tied, "inputs": (3,)}
WITH_NORMS = {"module": Normed, "inputs": (1, 6, 6)}


@dataclass(frozen=True)
class Dirt:
    """What is done, what is asked for, and how many networks come of it or what is said."""

    make: Callable[[Path], Path]
    outcome: int | str
    options: dict = field(default_factory=lambda: dict(RELU))
    format: str = "auto"
    left_out: int = 0


CASES = {
    # what works
    "half precision": Dirt(changed(lambda s: {n: t.half() for n, t in s.items()}), 5),
    "bfloat16": Dirt(changed(lambda s: {n: t.bfloat16() for n, t in s.items()}), 5),
    "compiled": Dirt(changed(lambda s: {f"_orig_mod.{n}": t for n, t in s.items()}), 5),
    "in parallel": Dirt(changed(lambda s: {f"module.{n}": t for n, t in s.items()}), 5),
    "some compiled, some not": Dirt(changed(lambda s: {f"_orig_mod.{n}": t for n, t in s.items()}, (1, 3)), 5),
    "wrapped": Dirt(changed(lambda s: {"model_state_dict": s, "epoch": 3, "optimizer": {"param_groups": []}}), 5),
    "wrapped twice": Dirt(changed(lambda s: {"state": {"model": s}, "metrics": {"loss": torch.ones(3)}}), 5),
    "two networks, one chosen": Dirt(changed(lambda s: {"net": s, "ema": s}), 5, {**RELU, "key": "ema"}),
    "shards with an index": Dirt(sharded({}), 4),
    "counters of batches": Dirt(lambda p: foreign.state_dicts(p, Normed, 4) and p, 4, WITH_NORMS),
    "tied tensors": Dirt(lambda p: foreign.state_dicts(p, Tied, 4) and p, 4, WITH_TIES),
    "tied tensors, written twice": Dirt(with_clones, 4, WITH_TIES),
    "files that are no networks": Dirt(beside("README.md", lambda p: p.write_text("hello")), 5, left_out=1),
    "a link to another folder": Dirt(linked_folder, 5, left_out=1),
    "a truncated file, left out": Dirt(replaced(cut), 4, {**RELU, "skip_broken": True}, left_out=1),
    "an optimizer among networks, left out": Dirt(
        beside("optimizer.pt", lambda p: torch.save({"param_groups": [], "state": {}}, p)), 5,
        {**RELU, "skip_broken": True}, left_out=1,
    ),
    "a text that ends in .pt, left out": Dirt(
        beside("a_note.pt", lambda p: p.write_text("hello")), 5, {**RELU, "skip_broken": True}, left_out=1
    ),
    "all broken, left out": Dirt(
        changed(lambda s: {"net": s, "ema": s}),
        r"none of 5 networks could be read; the first: .*key=", {"skip_broken": True}
    ),
    "diverged networks": Dirt(changed(NAN, (1, 3)), 3, left_out=2),
    "another architecture, left out": Dirt(
        changed(lambda s: OTHER, (3,)), 4, {**RELU, "other_architectures": "leave-out"}, left_out=1
    ),
    "a last line cut off": Dirt(damaged(foreign.modelzoo, "*/result.json", lambda p: cut(p, 0.97)), 12, {}, left_out=1),
    "running variances below zero": Dirt(below_zero, 3, WITH_NORMS, left_out=1),
    "counters in shards of torch": Dirt(torch_shards, 4, WITH_NORMS),
    "names with spaces and other letters": Dirt(lambda p: foreign.state_dicts(p, small, 3, "módel {} 😀.pt") and p, 3),
    "thirty mappings around a network": Dirt(changed(nested(30)), 5),
    "a pipe, left out": Dirt(beside("pipe.pt", os.mkfifo), 5, {**RELU, "skip_broken": True}, left_out=1),
    "a link to itself, left out": Dirt(
        beside("link.pt", lambda p: p.symlink_to(p)), 5, {**RELU, "skip_broken": True}, left_out=1
    ),
    "a sparse network, left out": Dirt(
        changed(lambda s: {n: t.to_sparse() for n, t in s.items()}, (2,)), 4, {**RELU, "skip_broken": True}, left_out=1
    ),
    "one activation of several": Dirt(mixed, 9, {"activation": "tanh"}, left_out=3),
    # what is not enough
    "two networks in a file": Dirt(changed(lambda s: {"net": s, "ema": s}), r"net_0.pt: holds several mappings.*key="),
    "a truncated file": Dirt(replaced(cut), r"net_2.pt: .*damaged.*skip_broken: true leaves such files out"),
    "an empty file": Dirt(replaced(lambda p: p.write_bytes(b"")), r"net_2.pt: .*damaged or foreign"),
    "all diverged": Dirt(changed(NAN), "all 5 networks hold NaN"),
    "another architecture": Dirt(
        changed(lambda s: OTHER, (3,)),
        r"net_3: .*\(5, 3\).* net_0 is of another architecture, with fc1.weight \(4, 3\).*leave-out"
    ),
    "two kinds of wild networks": Dirt(
        lambda p: foreign.wild_park(p, (foreign.WILD, {**foreign.WILD, "activation": ["relu"] * 4})) and p,
        r"found 2: run_0, step 1 is .*run_1, step 1 is .*other_architectures: leave-out",
        {},
    ),
    "two activations": Dirt(mixed, r"relu \(3 networks\), tanh \(9 networks\).*zoo.read.activation", {}),
    "no activation": Dirt(plain, r"activation they do not show.*zoo.read.activation", {}),
    "convolutions without a class": Dirt(
        lambda p: foreign.state_dicts(p, foreign.cnn_small, 3) and p, r"strides, pooling.*zoo.read.module", {}
    ),
    "an order that shapes leave open": Dirt(
        changed(lambda s: {"a.weight": torch.ones(3, 3), "b.weight": torch.ones(3, 3)}),
        r"several orders of a, b.*zoo.read.module"
    ),
    "an optimizer": Dirt(
        replaced(lambda p: torch.save({"param_groups": [], "state": {}}, p)), r"net_2.pt: .*an optimizer's"
    ),
    "quantized": Dirt(changed(lambda s: {n: t.to(torch.int8) for n, t in s.items()}), r"net_0.pt: expected floating-point"),
    "sparse": Dirt(
        changed(lambda s: {n: t.to_sparse() for n, t in s.items()}), r"net_0.pt: expected dense tensors .*found sparse"
    ),
    "complex": Dirt(changed(lambda s: {n: t + 0j for n, t in s.items()}), r"net_0.pt: expected floating-point"),
    "compiled to TorchScript": Dirt(
        replaced(lambda p: torch.jit.script(nn.Linear(3, 2)).save(str(p))), r"net_2.pt: .*foreign"
    ),
    "many networks in one file": Dirt(
        lambda p: (p.mkdir(), torch.save([small().state_dict()] * 3, p / "all.pt"))[0] or p, "all.pt: .*a list of 3"
    ),
    "layers of no neurons": Dirt(
        changed(lambda s: {n: t[:0] if n.startswith("fc1") else t[:, :0] if t.ndim > 1 else t for n, t in s.items()}),
        r"fc1.weight has shape \(0, 3\), which holds no numbers"
    ),
    "a link to nowhere": Dirt(beside("link.pt", lambda p: p.symlink_to(p.parent / "gone.pt")), "link.pt: expected a file"),
    "a name that is no text": Dirt(beside("x", no_text), "expected names of files in UTF-8, found 'net_.*rename it"),
    "tied tensors of other numbers": Dirt(
        untied_in_one, r"net_2.pt: same.weight is tied to first.weight by the class, but holds other numbers", WITH_TIES
    ),
    "a shard without what its index says": Dirt(
        sharded({"fc2.bias": "one.safetensors"}), r"says that one.safetensors holds fc2.bias, which it does not"
    ),
    "no class of that name": Dirt(
        plain, r"'nowhere:make' cannot be imported.*name an installed package", {"module": "nowhere:make"}
    ),
    "a class of other networks": Dirt(plain, r"net_0: has 4 tensors", {"module": lambda: nn.Linear(3, 2), "inputs": (3,)}),
    "a class, no inputs": Dirt(plain, "zoo.read.inputs", {"module": small}),
    "a pattern that does not fit": Dirt(plain, r"'run_.*' does not fit net_0.pt", {**RELU, "pattern": r"run_(?P<run>\d+)"}),
    "twice the same step": Dirt(
        plain, r"several of run net at step 0.*zoo.read.pattern", {**RELU, "pattern": r"(?P<run>net)_\d"}
    ),
    "no such figure": Dirt(
        plain, r"where asks for 'test_accuracy'.*here are step", {**RELU, "where": ["test_accuracy > 0.9"]}
    ),
    "no comparison": Dirt(plain, r"expected comparisons such as", {**RELU, "where": ["__import__('os')"]}),
    "no such option": Dirt(plain, r"zoo.read: activaton: .*options are activation", {"activaton": "relu"}),
    "nothing left": Dirt(plain, r"none of 5 networks is left.*5 other steps", {**RELU, "steps": [7]}),
    "an empty folder": Dirt(lambda p: p.mkdir() or p, "expected networks in a format that is known, found none"),
    "no folder": Dirt(lambda p: p / "gone", "found neither; look at zoo.source"),
    "an archive": Dirt(lambda p: (p.mkdir(), (p / "zoo.zip").write_bytes(b"PK"))[0] or p / "zoo.zip", "unpack it"),
    "a pickle": Dirt(lambda p: (p.mkdir(), (p / "zoo.pkl").write_bytes(b""))[0] or p / "zoo.pkl", "which could run code"),
    "flat vectors without widths": Dirt(vectors(lambda p: None), "zoo.read.layers", {}),
    "flat vectors, orientation unsaid": Dirt(vectors(lambda p: None), "zoo.read.orientation", {**FLAT, "orientation": None}),
    "flat vectors of other widths": Dirt(vectors(lambda p: None), r"found 12730; change", {**FLAT, "layers": [784, 10]}),
    "a damaged params.json": Dirt(
        damaged(foreign.modelzoo, "*/params.json", lambda p: p.write_text("{")), r"params.json: expected JSON", {}
    ),
    "a folder of images of unknown size": Dirt(
        lambda p: foreign.small_cnn_zoo(p) and p, r"cifar10.*zoo.read.inputs", {}
    ),
    "representations of two makers": Dirt(two_makers, r"is of dwsnets, others here of nfn.*read them", {}, format="inr"),
    "perceptrons in a zoo of convolutions": Dirt(
        lambda p: foreign.modelzoo(p, small) and p, r"no network of the format modelzoo follows.*zoo.read.module", {}
    ),
    "settings without an activation": Dirt(
        damaged(foreign.modelzoo, "*/params.json", lambda p: p.write_text("[1]")),
        r"no settings say the activation of 3 networks", {},
    ),
    "a step that is no number": Dirt(
        damaged(foreign.small_cnn_zoo, "metrics.csv.gz", metrics("late")), r"expected steps .*found 'late'", {}
    ),
    "half a step": Dirt(damaged(foreign.small_cnn_zoo, "metrics.csv.gz", metrics("0.5")), r"steps.*found .*0.5", {}),
    "a step of thirty digits": Dirt(
        beside("1" * 30 + ".pt", lambda p: shutil.copy(p.parent / "net_0.pt", p)), r"expected steps between 0 and 2⁶²",
        {**RELU, "pattern": r"(net_)?(?P<step>\d+)", "trajectories": "each"},
    ),
    "a pattern with a label of ours": Dirt(
        plain, r"groups place would be taken for labels", {**RELU, "pattern": r"net_(?P<place>\d)"}
    ),
    "columns that belong to two tensors": Dirt(
        damaged(foreign.small_cnn_zoo, "layout.csv", lambda p: p.write_text(p.read_text().replace("0,16,", "16,32,", 1))),
        r"layout.csv: expected tensors that take each of 4970 columns once", {},
    ),
    "columns that belong to no tensor": Dirt(
        damaged(foreign.small_cnn_zoo, "layout.csv", lambda p: p.write_text(p.read_text().rsplit("sequential", 1)[0])),
        r"layout.csv: expected tensors that take each of 4970 columns once", {},
    ),
    "a table in the other order of bytes": Dirt(
        damaged(foreign.small_cnn_zoo, "weights.npy", lambda p: np.save(p, np.load(p).astype(">f4"))), 12,
        {"inputs": [1, 32, 32]},
    ),
    "numbers of sixteen bytes": Dirt(
        damaged(foreign.small_cnn_zoo, "weights.npy", lambda p: np.save(p, np.load(p).astype("longdouble"))),
        r"weights.npy: expected .* of floats, found", {},
    ),
    "figures of another form": Dirt(
        damaged(foreign.gpt, "*/runs.json", lambda p: p.write_text("[1]")), r"runs.json: expected checkpoints with", {}
    ),
    # what is made to harm
    "a pickle that runs code": Dirt(
        replaced(lambda p: torch.save({"fc1.weight": Harm()}, p)), r"net_2.pt: .*found posix.system, which is no tensor"
    ),
    "a pickled module": Dirt(replaced(lambda p: torch.save({"model": nn.Linear(3, 2)}, p)), r"net_2.pt: .*torch.nn"),
    "a preprocessed collection": Dirt(
        lambda p: (p.mkdir(), torch.save({"trainset": Foreign()}, p / "dataset.pt"))[0] or p, r"dataset.pt.*the raw folder"
    ),
    "a bare pickle": Dirt(replaced(lambda p: p.write_bytes(pickle.dumps(Harm()))), r"net_2.pt: .*(no readable|foreign)"),
    "a zip bomb": Dirt(replaced(bomb), r"net_2.pt: declares 67,108,864 bytes of numbers.*it was not read"),
    "a giant of the old format": Dirt(replaced(giant_legacy), r"net_2.pt: declares 8,589,934,588 bytes"),
    "one number shown as a terabyte": Dirt(
        replaced(expanded), r"net_2.pt: fc1.weight has shape \(1000000, 1000000\), but holds 4"
    ),
    "a pipe": Dirt(beside("pipe.pt", os.mkfifo), r"pipe.pt: expected a file, found something that is none"),
    "mappings without end": Dirt(changed(nested(200)), r"net_0.pt: .*at most 32 mappings"),
    "a mapping that holds itself": Dirt(changed(circular), r"net_0.pt: .*(several mappings|at most 32)"),
    "a million million ways to nothing": Dirt(changed(laughs), r"net_0.pt: .*no tensor"),
    "a million million ways, in an old file": Dirt(
        replaced(lambda p: torch.save(laughs({}), p, _use_new_zipfile_serialization=False)), r"net_2.pt: .*no tensor"
    ),
    "a giant header": Dirt(beside("net_9.pt", giant_header), r"net_9.safetensors: .*damaged"),
    "a path out of the folder": Dirt(sharded({"fc2.bias": "../../etc/passwd"}), r"do not lie beside it: ../../etc/passwd"),
    "a shard that is missing": Dirt(
        sharded({"fc2.bias": "three.safetensors"}), r"three.safetensors: expected a file, found none"
    ),
    "objects for numbers": Dirt(
        damaged(foreign.small_cnn_zoo, "weights.npy", lambda p: np.save(p, np.array([{}, {}]), allow_pickle=True)),
        r"weights.npy: .*(O|o)bject", {},
    ),
    "a shortened table": Dirt(damaged(foreign.small_cnn_zoo, "weights.npy", cut), r"weights.npy: .*copy it again", {}),
    "a table that declares terabytes": Dirt(
        damaged(foreign.small_cnn_zoo, "weights.npy", npy_header("(1000000000, 4970)")), r"weights.npy: .*copy it again", {}
    ),
    "a compressed bomb": Dirt(
        damaged(foreign.small_cnn_zoo, "metrics.csv.gz", lambda p: p.write_bytes(gzip.compress(bytes(10**8)))),
        r"metrics.csv.gz: .*12 rows.*it was not read", {},
    ),
    "a shape that is code": Dirt(
        damaged(foreign.small_cnn_zoo, "layout.csv", layout("a/bias:0,0,16,__import__('os').system('x')")),
        r"layout.csv: a/bias:0: expected a shape", {},
    ),
    "columns that are not there": Dirt(
        damaged(foreign.small_cnn_zoo, "layout.csv", layout('a/kernel:0,4900,9900,"(5000,)"')), r"layout.csv: .*of 4970", {}
    ),
    "a layer that adds what comes after it": Dirt(
        damaged(foreign.wild_park, "*/*/checkpoint.pt", configured(residual=[3, -1, -1, -1])), r"checkpoint.pt: expected", {}
    ),
    "a stride of zero": Dirt(
        damaged(foreign.wild_park, "*/*/checkpoint.pt", configured(stride=[0] * 4)), r"checkpoint.pt: expected sizes", {}
    ),
    "channels below zero": Dirt(
        damaged(foreign.wild_park, "*/*/checkpoint.pt", configured(channels=[-3] * 5)), r"checkpoint.pt: expected sizes", {}
    ),
    "a tensor among settings": Dirt(
        damaged(foreign.wild_park, "*/*/checkpoint.pt", configured(n_classes=torch.tensor(10))), r"expected sizes", {}
    ),
    "an architecture that is none": Dirt(
        lambda p: foreign.modelzoo(p, **{"wflib::architecture": '{"operations": 3}'}) and p, r"no network of the format", {}
    ),
    "a link to another file": Dirt(vectors(linked), r"zoo.h5: expected the data set.*a link to elsewhere", FLAT),
    "numbers of another file": Dirt(vectors(elsewhere), r"zoo.h5: .*other files", FLAT),
    "a declared terabyte": Dirt(vectors(declared), r"zoo.h5: declares 12,730,000,000,000 numbers", FLAT),
    "a damaged HDF5 file": Dirt(vectors(cut), r"zoo.h5: .*damaged", FLAT),
    "a shortened database": Dirt(
        damaged(foreign.gpt, "*/data.mdb", lambda p: cut(p, 0.4)), r"data.mdb: expected .* bytes", {}
    ),
    "a damaged database": Dirt(
        damaged(foreign.gpt, "*/data.mdb", lambda p: p.write_bytes(bytes(9000))), r"data.mdb: .*damaged", {}
    ),
    "sizes that do not add up": Dirt(
        damaged(foreign.gpt, "*/data.mdb", rewrite(b"000001/ep001_it00040.pt_arch", np.float32([1e9, 3]).tobytes())),
        r"000001/ep001_it00040.pt_arch says sizes", {},
    ),
    "half a number": Dirt(
        damaged(foreign.gpt, "*/data.mdb", rewrite(b"000001/ep001_it00040.pt", b"abc")), r"found 3 bytes", {}
    ),
    "a broken run, left out": Dirt(
        damaged(foreign.gpt, "*/data.mdb", lambda p: cut(p, 0.4)), 9, {"skip_broken": True}, left_out=1
    ),
    "a damaged params.json, left out": Dirt(
        damaged(foreign.modelzoo, "*/params.json", lambda p: p.write_text("{")), 9, {"skip_broken": True}, left_out=1
    ),
    "a damaged index, left out": Dirt(
        torch_shards_with_a_damaged_index, 3, {**WITH_NORMS, "skip_broken": True}, left_out=1
    ),
    "a damaged index": Dirt(torch_shards_with_a_damaged_index, r"bin.index.json: expected JSON", WITH_NORMS),
    "a damaged header of ours, left out": Dirt(
        ours_with_a_damaged_header, 3, {**RELU, "skip_broken": True}, left_out=1
    ),
    "a damaged header of ours": Dirt(ours_with_a_damaged_header, r"0001.safetensors: its header does not say what"),
    "eight bits": Dirt(changed(lambda s: {n: t.to(torch.float8_e4m3fn) for n, t in s.items()}), 5),
    "eight bits, as they are": Dirt(
        changed(lambda s: {n: t.to(torch.float8_e5m2) for n, t in s.items()}), 5, {**RELU, "precision": "as-is"}
    ),
}  # fmt: skip


PAGE = Path(__file__).parents[2] / "docs/how-to/dirt-of-zoos.md"
SETTING = re.compile(r"zoo\.read\.\w+|zoo\.source|key=")


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize("name", CASES)
def test_dirt_works_or_is_told(name, tmp_path):
    case = CASES[name]
    path = case.make(tmp_path / "cifar10" if "small_cnn" in str(case.make) else tmp_path / "zoo")
    if isinstance(case.outcome, int):
        found = read(path, case.format, **case.options)
        assert len(found) == case.outcome
        assert sum(map(len, found.left_out.values())) == case.left_out == sum(found.provenance["left_out"].values())
        assert bool(found.networks.flat.isfinite().all())
        left_out = "".join(f"; left out: {reason} ({len(names)})" for reason, names in found.left_out.items())
        outcome = f"{len(found)} networks are read{left_out}"
    else:
        with pytest.raises(ValueError, match=f"(?s){case.outcome}") as caught:
            read(path, case.format, **case.options)
        said = str(caught.value)
        assert str(tmp_path) in said or "zoo.read" in said or "module" in said
        files = re.findall(re.escape(str(path)) + r"/([^\s:,;]+)", said)
        names = ", ".join(f"`{one}`" for one in dict.fromkeys([*files[:1], *SETTING.findall(said)]))
        outcome = f"refused; names {names}" if names else "refused"
    assert not Path("/tmp/wflib-was-harmed").exists()
    assert f"| {name} | {outcome} |" in PAGE.read_text().splitlines(), "write the page anew with this line"


def test_the_page_has_no_other_cases():
    rows = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert rows[1:] == list(CASES)


def test_there_are_as_many_cases_as_dirt_has_kinds():
    assert len(CASES) > 110


def test_tensors_are_taken_of_the_shards_that_the_index_names(tmp_path):
    sharded({})(tmp_path)
    shard = tmp_path / "net_1/two.safetensors"
    save_file({**load_file(shard), "fc1.weight": torch.zeros(4, 3)}, shard)
    found = read(tmp_path, **RELU).networks.weights["fc1.weight"][1]
    assert torch.equal(found, foreign.seeded(small, 1).state_dict()["fc1.weight"])


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.float8_e4m3fn, torch.float16), (torch.float8_e5m2, torch.float16), (torch.float8_e8m0fnu, torch.float32),
        (torch.float16, torch.float16),
    ],
)  # fmt: skip
def test_eight_bits_are_raised_to_what_holds_them_exactly(tmp_path, dtype, kept):
    plain(tmp_path, 3)
    for number in range(3):
        short = {name: tensor.abs().to(dtype) for name, tensor in state(tmp_path, number).items()}
        torch.save(short, tmp_path / f"net_{number}.pt")
    found = read(tmp_path, precision="as-is", **RELU)
    assert found.networks.dtype == kept
    for number in range(3):
        assert all(torch.equal(found.networks[number][n], t.to(kept)) for n, t in state(tmp_path, number).items())
    assert finite_networks({"w": torch.tensor([[1.0], [float("nan")]]).to(dtype)}).tolist() == [True, False]


def test_networks_of_several_precisions_are_kept_as_they_are(tmp_path):
    dtypes = (torch.float16, torch.float64, torch.bfloat16)
    plain(tmp_path, 3)
    states = [{name: tensor.to(dtype) for name, tensor in state(tmp_path, n).items()} for n, dtype in enumerate(dtypes)]
    for number, one in enumerate(states):
        torch.save(one, tmp_path / f"net_{number}.pt")
    found = read(tmp_path, precision="as-is", **RELU)
    assert found.networks.dtype == torch.float64
    for number, one in enumerate(states):
        assert all(torch.equal(found.networks[number][name], tensor.double()) for name, tensor in one.items())


def test_vectors_are_not_rounded_before_precision_is_asked_for(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 26)) * 1e60
    with h5py.File(tmp_path / "zoo.h5", "w") as file:
        file.create_dataset("dataset", data=vectors)
    asked = {"layers": [3, 4, 2], "activation": "relu", "orientation": "out-in"}
    found = read(tmp_path / "zoo.h5", precision="float64", **asked)
    assert torch.equal(found.networks.weights["linear1.weight"].flatten(1), torch.from_numpy(vectors[:, :12]))
    with pytest.raises(ValueError, match=r"numbers too large for torch\.float32"):
        read(tmp_path / "zoo.h5", **asked)


def test_copies_of_other_runs_are_told(tmp_path):
    """Copies would let held-out networks be learned from; what many runs began with may be common to them."""
    made = foreign.modelzoo(tmp_path / "zoo")
    names = list(made)
    for one, other in ((0, 3), (2, 5)):  # checkpoint 0, and checkpoint 10, of the first run and of the second
        paths = [
            tmp_path / "zoo" / run / f"checkpoint_{int(step):06d}/checkpoints"
            for run, step in (names[place].split("@") for place in (one, other))
        ]
        shutil.copy(*paths)
    told = r"1 networks are the same as one of another run: NN_tune_trainable_00001_1 10; .*Remove the copies"
    with pytest.warns(UserWarning, match=told):
        found = read(tmp_path / "zoo")
    assert found.copies == [f"{foreign.RUNS[1]} 10"]
    assert found.provenance["copies"] == 1
    with ZooWriter(tmp_path / "written.safetensors", 10) as writer, pytest.warns(UserWarning, match=told):
        assert read_into(writer, tmp_path / "zoo").copies == found.copies


def test_fingerprints_see_every_bit():
    flat = torch.randn(300, 40)
    other = flat.clone()
    other[7, 3] = torch.nextafter(flat[7, 3], torch.tensor(9.0))
    other[8, [0, 1]] = flat[8, [1, 0]]
    prints, others = fingerprints({"a": flat}), fingerprints({"a": other})
    assert (prints != others).nonzero().flatten().tolist() == [7, 8]
    assert len(prints.unique()) == 300
    assert torch.equal(fingerprints({"a": flat[250:]}), prints[250:])


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "state-dicts"])
def test_a_format_that_it_is_not_is_told(format, tmp_path):
    with pytest.raises(ValueError, match="expected"):
        read(plain(tmp_path / "zoo"), format, **{**FLAT, "module": small, "inputs": (3,)})
    with pytest.raises(ValueError, match="expected"):
        read(plain(tmp_path / "more") / "net_0.pt", format, **FLAT)


def test_what_is_left_out_is_warned_of(tmp_path):
    changed(NAN, (1, 3))(tmp_path / "zoo")
    with pytest.warns(UserWarning, match="left out 2 networks that hold NaN or infinity: net_1, net_3"):
        read(tmp_path / "zoo", **RELU)


def test_the_guard_is_what_keeps_a_bomb_from_memory(tmp_path, monkeypatch):
    """Without it torch would be asked: the refusal is ours, and comes before."""
    replaced(bomb)(tmp_path / "zoo")
    asked = []
    monkeypatch.setattr(torch, "load", lambda path, **_: asked.append(Path(path).name) or state_of(path))
    with pytest.raises(ValueError, match="declares"):
        read(tmp_path / "zoo", **RELU)
    assert "net_2.pt" not in asked


def state_of(path: Path) -> dict[str, torch.Tensor]:
    return foreign.seeded(small, 0).state_dict()


def test_more_than_memory_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    plain(tmp_path / "zoo")
    monkeypatch.setattr(os, "sysconf", lambda name: 16)
    with pytest.raises(ValueError, match=r"5 networks of 26 numbers take 0.0 GB.*snapshots: last, every or first_runs"):
        read(tmp_path / "zoo", **RELU)


@pytest.mark.parametrize(("package", "extra"), [("lmdb", "gpt"), ("h5py", "hdf5")])
def test_a_missing_package_is_named_with_its_extra(package, extra, tmp_path, monkeypatch):
    path = tmp_path / "zoo.h5"
    if package == "lmdb":
        path = tmp_path / "zoo"
        foreign.gpt(path, runs=1)
    else:
        foreign.hdf5(path, turned=True)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"need the package {package}: pip install wflib\[{extra}\]"):
        read(path, **(FLAT if package == "h5py" else {}))


@pytest.mark.parametrize("look", [read, inspect], ids=["read", "inspect"])
def test_formats_and_paths_that_do_not_exist_are_told_from_those_that_do(look, tmp_path):
    folder = plain(tmp_path / "networks")
    look(folder, "state-dicts", config=read_settings(RELU))
    with pytest.raises(ValueError, match=r"zoo.format: expected auto or one of wflib, .*, got 'zip'"):
        look(folder, "zip")
    with pytest.raises(ValueError, match="expected a file or a folder of networks, found neither"):
        look(tmp_path / "nowhere", "state-dicts")
