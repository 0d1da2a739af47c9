"""A zoo in shards, the same zoo in one file, both on disk and in memory: equal results through every stage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.stages.test_pipeline_end_to_end import run_stages, write_project
from wflib.zoo import StoredZoo, Zoo, base, load_zoo, open_zoo

SMALL = {
    "zoo": {"widths": [4, 4], "networks": 24, "held_out": 0.25, "epochs": 3, "skip_epochs": 1, "snapshot_every": 5},
    "evaluate": {"zoo_networks": 6, "barrier_networks": 4, "steps": [1], "guidance": [0.0], "curve_networks": 4,
                 "models": ["gaussian-diagonal"]},
}  # fmt: skip
REST = ("align", "canonicalize", "train_flow", "sample", "evaluate")
ZOOS = ("trained", "aligned", "canonical")
ON_DISK = {"IN_MEMORY": 1, "CHUNK": 2000}
"""As if memory held but a handful of networks."""


def finish(folder: Path, trained: Path, shards: int | None) -> Path:
    """A project that goes from a trained zoo to the end, with so many networks a file."""
    zoo = dict(SMALL["zoo"]) | ({} if shards is None else {"shard_networks": shards})
    write_project(folder, **SMALL | {"zoo": zoo})
    shutil.copytree(trained, folder / "data")
    run_stages(folder, ("train_zoo", *REST))
    return folder


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> dict[str, Path]:
    """In memory; one file that stays on disk; shards that stay on disk."""
    root = tmp_path_factory.mktemp("projects")
    write_project(root / "start", **SMALL)
    run_stages(root / "start", ("fetch_data",))
    found = {"memory": finish(root / "memory", root / "start/data", None)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ON_DISK.items():
            patch.setattr(base, name, value)
        found |= {name: finish(root / name, root / "start/data", shards) for name, shards in (("one", None), ("shards", 7))}
    return found


def figures(folder: Path) -> dict[str, object]:
    """Everything that stages found, but for the time that they took."""
    found: dict[str, object] = {"metrics": json.loads((folder / "reports/metrics.json").read_text())}
    for path in sorted((folder / "reports/stages").glob("*.json")):
        found[path.stem] = {k: v for k, v in json.loads(path.read_text()).items() if "seconds" not in k}
    return found


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    found = {path.stem: pd.read_parquet(path) for path in sorted((folder / "data/evaluation").glob("*.parquet"))}
    return found | {"history": pd.read_csv(folder / "reports/history.csv").drop(columns="seconds")}


def without_model(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.source != "gaussian-diagonal"] if "source" in table else table


def test_a_large_zoo_is_a_folder_of_shards(projects):
    for form in ZOOS:
        path = projects["shards"] / f"data/zoo/{form}.safetensors"
        count = len(load_zoo(path, form))
        assert len(list(path.glob("networks-*.safetensors"))) == -(-count // 7) > 2
        assert (projects["one"] / f"data/zoo/{form}.safetensors").is_file()


def test_one_file_is_the_same_however_it_was_written(projects):
    for form in ZOOS:
        kept, streamed = (projects[name] / f"data/zoo/{form}.safetensors" for name in ("memory", "one"))
        assert kept.read_bytes() == streamed.read_bytes()


@pytest.mark.parametrize("file", ["flow", "samples", "networks"])
def test_shards_and_one_file_give_the_same_bits(projects, file):
    one, shards, memory = (load_file(projects[name] / f"data/{file}.safetensors") for name in ("one", "shards", "memory"))
    assert all(torch.equal(one[name], shards[name]) for name in one)
    assert all(torch.allclose(one[name], memory[name], atol=1e-4) for name in one if one[name].is_floating_point())


def test_shards_and_one_file_are_measured_alike(projects):
    assert figures(projects["one"]) == figures(projects["shards"])
    one, shards = (tables(projects[name]) for name in ("one", "shards"))
    for name, table in one.items():
        pd.testing.assert_frame_equal(table, shards[name], check_exact=True)
    # On disk other sums are taken, and the simpler model has seen a part of the zoo.
    memory = tables(projects["memory"])
    for name in ("history", "curve", "barriers", "parts"):
        keep = [
            table[table.source != "gaussian-diagonal"] if "source" in table else table for table in (one[name], memory[name])
        ]
        pd.testing.assert_frame_equal(*keep, rtol=2e-3)
    ours, theirs = (table["groups"].set_index("source").loc["samples"] for table in (one, memory))
    for column in ("variance_ratio", "mean_shift", "nearest_distance_mean", "largest_error_overlap_mean", "copying_ratio"):
        assert ours[column] == pytest.approx(theirs[column], rel=2e-3)


def test_another_zoo_gives_other_figures(projects, tmp_path):
    """Otherwise equal figures above would say nothing."""
    write_project(tmp_path, **SMALL | {"zoo": {**SMALL["zoo"], "seed": 1}})
    (tmp_path / "data").mkdir()
    shutil.copy(projects["memory"] / "data/dataset.safetensors", tmp_path / "data")
    run_stages(tmp_path, ("train_zoo", "align"))
    theirs = json.loads((tmp_path / "reports/stages/align.json").read_text())
    assert theirs["distance_after"] != figures(projects["memory"])["align"]["distance_after"]


def test_a_zoo_in_shards_stays_on_disk(projects, monkeypatch):
    path = projects["shards"] / "data/zoo/canonical.safetensors"
    assert isinstance(open_zoo(path, "canonical"), Zoo)
    for name, value in ON_DISK.items():
        monkeypatch.setattr(base, name, value)
    stored = open_zoo(path, "canonical")
    assert isinstance(stored, StoredZoo)
    assert isinstance(stored.training_part.last_snapshots, StoredZoo)
    assert max(len(part) for part in stored.chunks()) < len(stored) / 2
