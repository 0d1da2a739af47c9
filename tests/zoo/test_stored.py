"""Zoos on disk: what is written part by part is what was there, and damage is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cases import random_networks
from tests.zoo.test_zoo import ARCHITECTURE, FORMS, RUNS, SNAPSHOTS, ZOOS, same, single, trained_zoo
from wflib.networks import Networks
from wflib.rng import generator
from wflib.storage import ArtifactError, RowFile, RowFiles, RowWriter
from wflib.zoo import StoredNetworks, StoredZoo, Zoo, ZooWriter, base, in_parts, load_zoo, open_zoo, read, save_zoo

NETWORKS = RUNS * SNAPSHOTS
over_forms = pytest.mark.parametrize("form", FORMS)


def write(path: Path, zoo: Zoo, shard_networks: int, part: int = 4) -> None:
    """A zoo as a writer gets it: a few networks at a time."""
    with ZooWriter(path, shard_networks) as writer:
        for start in range(0, len(zoo), part):
            some = zoo[start : start + part]
            writer.append(some.networks, some.permutations, some.record)
        writer.append_initial_of(zoo)
        writer.finish(zoo.form, zoo.trajectory, zoo.step, zoo.held_out, zoo.aligned_to, zoo.metadata)


@pytest.fixture
def on_disk(monkeypatch) -> None:
    """Every zoo is larger than memory."""
    monkeypatch.setattr(base, "IN_MEMORY", 1)
    monkeypatch.setattr(base, "CHUNK", 3 * ARCHITECTURE.dimension)


@over_forms
def test_few_networks_are_the_file_that_save_zoo_writes(tmp_path, form):
    zoo = ZOOS[form]()
    save_zoo(tmp_path / "whole", zoo)
    write(tmp_path / "parts", zoo, NETWORKS)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]


@over_forms
@pytest.mark.parametrize("shard_networks", [1, 5, NETWORKS - 1])
def test_shards_hold_the_same_zoo(tmp_path, form, shard_networks):
    zoo = ZOOS[form]()
    write(tmp_path / "zoo", zoo, shard_networks)
    assert len(list((tmp_path / "zoo").glob("networks-*"))) == -(-NETWORKS // shard_networks)
    assert same(load_zoo(tmp_path / "zoo", form), single(zoo))
    assert same(open_zoo(tmp_path / "zoo", form), single(zoo))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["zoo"]


@over_forms
@pytest.mark.parametrize("shard_networks", [5, NETWORKS])
def test_networks_on_disk_are_those_in_memory(tmp_path, on_disk, form, shard_networks):
    zoo = single(ZOOS[form]())
    write(tmp_path / "zoo", zoo, shard_networks)
    stored = open_zoo(tmp_path / "zoo", form)
    assert isinstance(stored, StoredZoo)
    plain = replace(zoo, initial=None)
    for index in (torch.tensor([11, 0, 3, 3, 7]), torch.arange(NETWORKS) % 2 == 0, slice(2, 9), slice(0, 0)):
        assert same(stored[index], plain[index])
        assert same(stored.select(index)[:], plain[index])
    assert same(stored.held_out_part[:], plain.held_out_part)
    assert same(stored.training_part.last_snapshots[:], plain.training_part.last_snapshots)
    assert torch.equal(stored.reference.flat, zoo.reference.flat)
    assert same(stored.whole(), zoo)
    chunks = list(stored.chunks())
    assert 1 < max(len(part) for part in chunks) <= 3
    assert torch.equal(torch.cat([part.networks.flat for part in chunks]), zoo.networks.flat)
    chosen = torch.tensor([5, 1])
    assert torch.equal(stored.networks[chosen].flat, zoo.networks[chosen].flat)
    if zoo.initial is not None:
        assert isinstance(stored.initial, StoredNetworks)
        assert torch.equal(stored.initial[chosen % RUNS].flat, zoo.initial[chosen % RUNS].flat)


def test_moments_of_networks_on_disk(tmp_path, on_disk):
    zoo = single(trained_zoo())
    write(tmp_path / "zoo", zoo, 5)
    mean, variance = open_zoo(tmp_path / "zoo", "trained").networks.moments
    flat = zoo.networks.flat.double()
    assert torch.allclose(mean, flat.mean(0))
    assert torch.allclose(variance, flat.var(0, correction=0))
    assert not torch.allclose(mean, flat[1:].mean(0))


def test_a_part_for_memory_has_whole_trajectories(tmp_path, monkeypatch):
    zoo = single(trained_zoo())
    monkeypatch.setattr(base, "IN_MEMORY", 7 * ARCHITECTURE.dimension)
    for some in (zoo.some(generator(0, "some")), zoo.to_fit(generator(0, "some"))):
        assert len(some) == 2 * SNAPSHOTS
        assert len(torch.unique(some.trajectory)) == 2
    assert not zoo.to_fit(generator(0, "some")).held_out.any()
    long = replace(zoo, trajectory=zoo.trajectory * 0, step=torch.arange(NETWORKS), held_out=zoo.held_out & False)
    assert torch.equal(long.some(generator(0, "some")).step, torch.arange(7))
    assert [len(part) for part in in_parts(zoo.networks)] == [NETWORKS]
    monkeypatch.setattr(base, "CHUNK", 5 * ARCHITECTURE.dimension)
    assert [len(part) for part in in_parts(zoo.networks)] == [5, 5, 2]
    monkeypatch.undo()
    assert zoo.some(generator(0, "some")) is zoo


def test_a_writer_that_is_left_leaves_nothing(tmp_path):
    zoo, path = trained_zoo(), tmp_path / "zoo"

    def interrupted() -> None:
        with ZooWriter(path, 2) as writer:
            writer.append(zoo.networks)
            assert any(tmp_path.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with ZooWriter(path, 2) as writer:
        writer.append(zoo.networks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shards", [5, 100])
@pytest.mark.parametrize("before", [5, 100])
def test_what_was_there_is_replaced_whole_or_stays(tmp_path, shards, before):
    path, first = tmp_path / "zoo", single(trained_zoo())
    other = single(replace(first, networks=random_networks(ARCHITECTURE, NETWORKS, seed=9)))
    write(path, first, before)
    with pytest.raises(ValueError, match=r"one network for each trajectory and step, found 3 .* nothing was written"):
        write(path, replace(other, step=torch.zeros_like(other.step), trajectory=other.trajectory), shards)
    assert same(load_zoo(path, "trained"), first)
    write(path, other, shards)
    assert same(load_zoo(path, "trained"), other)
    assert [found.name for found in tmp_path.iterdir()] == ["zoo"]


PRECIOUS = {
    "others' files": {"thesis.txt": "years", "sub/x": "x"},
    "hidden files": {".git/HEAD": "ref"},
    "another index": {"index.json": json.dumps({"kind": "thesis"})},
    "a damaged index": {"index.json": "{"},
    "notes beside a zoo": {"index.json": json.dumps({"kind": "zoo"}), "notes.md": "mine"},
    "weights of another": {"networks-00000.safetensors": "w"},
}


@pytest.mark.parametrize("shards", [5, 100])
@pytest.mark.parametrize("case", PRECIOUS)
def test_folders_that_are_no_zoos_are_not_touched(tmp_path, case, shards):
    folder, files = tmp_path / "precious", PRECIOUS[case]
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with pytest.raises(ValueError, match=r"precious: .* files that are no zoo's: .*; name another place, or move"):
        ZooWriter(folder, shards)
    (empty := tmp_path / "empty").mkdir()
    with ZooWriter(empty, shards) as writer:
        writer.append((zoo := trained_zoo()).networks)
        (empty / "late.txt").write_text("while it was written")
        with pytest.raises(ValueError, match=r"empty: .* no zoo's: late\.txt"):
            writer.finish("trained", zoo.trajectory, zoo.step, zoo.held_out)
    assert {name: (folder / name).read_text() for name in files} == files
    assert sorted(found.name for found in tmp_path.iterdir()) == ["empty", "precious"]
    assert (empty / "late.txt").read_text() == "while it was written"


@pytest.mark.parametrize("shards", [5, 100])
def test_an_empty_folder_is_replaced(tmp_path, shards):
    (tmp_path / "zoo").mkdir()
    write(tmp_path / "zoo", trained_zoo(), shards)
    assert same(load_zoo(tmp_path / "zoo", "trained"), single(trained_zoo()))


HALF = random_networks(ARCHITECTURE.with_widths({"hidden1": 3}), 2)
REFUSED = {
    "not finite": (lambda w, z: w.append(z.networks.map(lambda tensor: tensor / 0)), "NaN"),
    "other networks": (lambda w, z: w.append(HALF), "another one"),
    "labels": (lambda w, z: w.finish("trained", z.trajectory[1:], z.step, z.held_out), r"expected \(12,\).*nothing was"),
    "no initial": (
        lambda w, z: (w.append_initial(z.initial[:2]), w.finish("trained", z.trajectory, z.step, z.held_out)),
        "trajectories must lie in 0 … 1",
    ),
    "reserved": (
        lambda w, z: w.finish("trained", z.trajectory, z.step, z.held_out, metadata={"form": 1}), "reserved"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_zoo_is_not_written(tmp_path, case):
    act, said = REFUSED[case]
    zoo = trained_zoo()

    def refused() -> None:
        with ZooWriter(tmp_path / "zoo", 5) as writer:
            writer.append(zoo.networks)
            act(writer, zoo)

    with pytest.raises(ValueError, match=said):
        refused()
    assert list(tmp_path.iterdir()) == []


def change_index(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        change(index)
        (folder / "index.json").write_text(json.dumps(index))

    return act


def rewrite(name: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        tensors = load_file(folder / name)
        header = RowFile(folder / name, "again").header
        change(tensors)
        save_file(tensors, folder / name, metadata=header)

    return act


def truncate(folder: Path) -> None:
    path = folder / "networks-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def swap(folder: Path) -> None:
    one, other, aside = (folder / name for name in ("networks-00000.safetensors", "networks-00001.safetensors", "aside"))
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def drop_a_row(tensors: dict[str, torch.Tensor]) -> None:
    tensors.update({name: tensor[:-1].contiguous() for name, tensor in tensors.items()})


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (
        lambda f: (f / "networks-00001.safetensors").unlink(),
        r"networks-00001\.safetensors: expected a safetensors file, found no file; rerun .*train-zoo",
    ),
    "truncated shard": (truncate, r"networks-00001\.safetensors: expected a safetensors file, found a damaged one.*rerun"),
    "extra shard": (
        lambda f: shutil.copy(f / "networks-00001.safetensors", f / "networks-00003.safetensors"),
        r"index\.json: expected 6 files in the folder, found others: networks-00003\.safetensors; remove them; rerun",
    ),
    "shards in each other's place": (
        swap, r"networks-00000\.safetensors: expected the shard that .*index\.json describes, found other numbers.*rerun",
    ),
    "a shard of another run": (
        rewrite("networks-00002.safetensors", lambda t: t["weights.linear1.weight"].add_(1)),
        r"networks-00002\.safetensors: expected the shard that .* found other numbers, those of another run.*rerun",
    ),
    "a shard of other tensors": (
        rewrite("networks-00001.safetensors", lambda t: t.pop("weights.linear1.weight")),
        r"networks-00001\.safetensors: expected tensors as in networks-00000\.safetensors.*rerun",
    ),
    "fewer rows": (
        rewrite("networks-00002.safetensors", drop_a_row),
        r"networks-00002\.safetensors: expected 2 rows, as .*index\.json says, found 1; rerun",
    ),
    "index that says more rows": (
        change_index(lambda i: i["shards"]["networks"][0].update(rows=6)), r"networks-00000\.safetensors: expected 6 rows",
    ),
    "index without a shard": (
        change_index(lambda i: i["shards"]["networks"].pop()), r"index\.json: expected 5 files.*networks-00002",
    ),
    "index without shards": (change_index(lambda i: i.pop("shards")), r"index\.json: expected 'shards', found none; rerun"),
    "index of another form": (
        change_index(lambda i: i.update(form="aligned")), "expected a zoo of form trained, found aligned",
    ),
    "index of another kind": (change_index(lambda i: i.update(kind="flow")), "expected a zoo artifact, found a flow one"),
    "index that is no JSON": (lambda f: (f / "index.json").write_text("{"), r"index\.json: expected a wflib header"),
    "no index": (
        lambda f: (f / "index.json").unlink(), r"index\.json: expected the index of a zoo in shards, found no file; rerun",
    ),
    "no labels": (
        lambda f: (f / "labels.safetensors").unlink(), r"labels\.safetensors: expected a zoo-labels artifact, found no",
    ),
    "the same network twice": (
        rewrite("labels.safetensors", lambda t: t["step"].fill_(3)),
        r"index\.json: Zoo: expected one network for each trajectory and step, found 3 of trajectory 0 at step 3; .*rerun",
    ),
    "fewer labels": (rewrite("labels.safetensors", drop_a_row), r"index\.json: Zoo: trajectory expected \(12,\).*rerun"),
    "another architecture": (
        change_index(lambda i: i.update(architecture=HALF.architecture.to_json())),
        r"index\.json: .*linear1\.weight.*rerun",
    ),
    "not finite": (
        rewrite("networks-00001.safetensors", lambda t: t["weights.linear1.weight"][2].fill_(torch.nan)),
        r"networks-00001\.safetensors: expected finite numbers, found 15 NaN",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_told(tmp_path, case):
    act, said = DAMAGE[case]
    write(tmp_path / "zoo", trained_zoo(), 5)
    load_zoo(tmp_path / "zoo", "trained")
    act(tmp_path / "zoo")
    with pytest.raises(ArtifactError, match=said):
        load_zoo(tmp_path / "zoo", "trained")


def test_a_shard_alone_is_no_file_of_networks(tmp_path):
    write(tmp_path / "zoo", trained_zoo(), 5)
    with pytest.raises(
        ValueError, match=r"found a zoo-shard artifact; read the folder that it is in with wflib\.zoo\.load_zoo"
    ):
        Networks.load(tmp_path / "zoo/networks-00000.safetensors")


def test_not_finite_networks_are_told_when_they_are_read(tmp_path, on_disk):
    write(tmp_path / "zoo", trained_zoo(), 5)
    DAMAGE["not finite"][0](tmp_path / "zoo")
    stored = open_zoo(tmp_path / "zoo", "trained")
    assert len(stored[:5]) == 5
    with pytest.raises(ArtifactError, match=r"networks-00001\.safetensors: expected finite numbers"):
        stored[torch.tensor([0, 7])]


def test_rows_of_a_file_become_what_safetensors_writes(tmp_path):
    kinds = (torch.float32, torch.int64, torch.bool, torch.float64, torch.bfloat16, torch.uint8)
    tensors = {f"{kind}": torch.arange(12).view(6, 2).to(kind) for kind in kinds} | {"empty": torch.zeros(6, 0)}
    beside, header = {"θ": torch.ones(2, 3)}, {"text": '"θ" \n \u2028'}
    save_file(tensors | beside, tmp_path / "theirs", metadata=header)
    with RowWriter(tmp_path) as writer:
        for rows in (slice(0, 1), slice(1, 6)):
            writer.append({name: tensor[rows] for name, tensor in tensors.items()})
        writer.finish(tmp_path / "ours", beside, header)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]
    files = RowFiles((RowFile(tmp_path / "ours", "again"),) * 2, ("torch", "empty"))
    rows = torch.tensor([8, 0, 11, 5, 0])
    assert all(torch.equal(found, torch.cat([tensors[name]] * 2)[rows]) for name, found in files.read(rows).items())


@pytest.mark.parametrize("shard_networks", [5, 100])
def test_a_zoo_of_ours_keeps_labels_initial_weights_and_recipe(tmp_path, shard_networks):
    zoo = single(replace(trained_zoo(), metadata={"task": "toy", "init_std": 0.5, "recipe": {"networks": 4}}))
    write(tmp_path / "zoo.safetensors", zoo, shard_networks)
    again = read(tmp_path / "zoo.safetensors").zoo(held_out=0.5, seed=3, metadata={"seed": 3})
    for name in ("trajectory", "step", "held_out"):
        assert torch.equal(getattr(again, name), getattr(zoo, name))
    assert torch.equal(again.networks.flat, zoo.networks.flat)
    assert torch.equal(again.initial.flat, zoo.initial.flat)
    assert again.metadata["recipe"] == {"networks": 4}
    assert again.init_std == 0.5
    # Settings come first, and what nothing is left of is drawn.
    named = read(tmp_path / "zoo.safetensors", held_out_runs=["2"]).zoo()
    assert torch.equal(named.held_out, zoo.trajectory == 2)
    rest = read(tmp_path / "zoo.safetensors", first_runs=2).zoo()
    assert len(rest.initial) == 2
    assert int(rest.held_out.sum()) == SNAPSHOTS
    assert read(tmp_path / "zoo.safetensors", trajectories="each").zoo().initial is None


def test_initial_weights_follow_the_neurons_of_an_aligned_zoo(tmp_path):
    zoo = single(ZOOS["aligned"]())
    alike = {name: order[zoo.trajectory * SNAPSHOTS] for name, order in zoo.permutations.items()}
    zoo = replace(zoo, permutations=alike)
    save_zoo(tmp_path / "zoo.safetensors", zoo)
    again = read(tmp_path / "zoo.safetensors").zoo()
    everyone = torch.arange(NETWORKS)
    assert torch.equal(again.initial_of(everyone).flat, zoo.initial_of(everyone).flat)
    assert not torch.equal(again.initial.flat, zoo.initial.flat)
    save_zoo(tmp_path / "zoo.safetensors", single(ZOOS["aligned"]()))  # each network in an order of its own
    found = read(tmp_path / "zoo.safetensors")
    assert found.initial is None
    assert any("initial weights" in reason for reason in found.left_out)
