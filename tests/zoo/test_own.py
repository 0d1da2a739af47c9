"""Zoos of networks that were trained elsewhere: who is held out, labels, what is left out."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.cases import random_networks, random_weights
from wflib.architecture import Weights, mlp
from wflib.networks import Networks, finite_networks, require_finite
from wflib.zoo import load_zoo, save_zoo, zoo_from_networks

ARCHITECTURE = mlp([3, 5, 4, 2])


def networks(count: int = 20) -> Networks:
    return random_networks(ARCHITECTURE, count)


def broken(*places: int) -> Weights:
    weights = random_weights(ARCHITECTURE, 20)
    for place in places:
        weights["linear2.bias"][place, 0] = float("inf")
    return weights


def test_every_network_is_a_trajectory_of_its_own(tmp_path):
    zoo = zoo_from_networks(networks())
    assert torch.equal(zoo.trajectory, torch.arange(20))
    assert torch.equal(zoo.step, torch.zeros(20, dtype=torch.int64))
    assert (zoo.form, zoo.init_std, zoo.networks.flat.dtype) == ("trained", None, torch.float32)
    torch.testing.assert_close(zoo.networks.flat, ARCHITECTURE.flatten(networks().weights).float())
    save_zoo(tmp_path / "zoo.safetensors", zoo)
    assert torch.equal(load_zoo(tmp_path / "zoo.safetensors", "trained").networks.flat, zoo.networks.flat)


@pytest.mark.parametrize(("share", "count"), [(0.1, 2), (0.5, 10), (0.001, 1), (0.999, 19)])
def test_some_are_held_out_by_the_seed_one_at_least_and_never_all(share, count):
    first, again, other = (zoo_from_networks(networks(), held_out=share, seed=seed) for seed in (0, 0, 3))
    assert int(first.held_out.sum()) == int(other.held_out.sum()) == count
    assert torch.equal(first.held_out, again.held_out)
    assert not torch.equal(first.held_out, other.held_out)


def test_trajectories_are_held_out_whole_and_steps_count_within_them():
    trajectory = torch.tensor([7, 2, 7, 2, 9] * 4, dtype=torch.int32)
    zoo = zoo_from_networks(networks(), trajectory, held_out=0.3)
    assert len(torch.unique(zoo.trajectory[zoo.held_out])) == 1
    assert not set(zoo.trajectory[zoo.held_out].tolist()) & set(zoo.trajectory[~zoo.held_out].tolist())
    assert zoo.step[:5].tolist() == [0, 0, 1, 1, 0]
    assert zoo.step[zoo.trajectory == 7].tolist() == list(range(8))
    given = zoo_from_networks(networks(), trajectory, torch.arange(20) * 10, trajectory == 2)
    assert given.step.tolist() == list(range(0, 200, 10))
    assert torch.equal(given.held_out, trajectory == 2)


def test_initial_weights_and_their_deviation_come_along():
    zoo = zoo_from_networks(networks(), initial=networks(), init_std=0.2, metadata={"task": "mine"})
    assert zoo.init_std == 0.2
    assert zoo.metadata["task"] == "mine"
    assert torch.equal(zoo.initial_of(torch.tensor([3])).weights["linear1.bias"][0], zoo.weights["linear1.bias"][3])
    with pytest.raises(ValueError, match="trajectories must lie in 0 … 9"):
        zoo_from_networks(networks(), initial=networks(10))


def test_networks_that_were_left_out_take_their_labels_along():
    with pytest.warns(UserWarning, match="left out 2 of 20 networks"):
        kept = Networks.finite(ARCHITECTURE, broken(3, 8), names=tuple(map(str, range(20))))
    labels = torch.tensor([int(name) for name in kept.names])
    zoo = zoo_from_networks(kept, labels)
    assert zoo.trajectory.tolist() == [place for place in range(20) if place not in (3, 8)]
    with pytest.raises(ValueError, match=r"trajectory expected \(18,\) integers"):
        zoo_from_networks(kept, torch.arange(20))


def test_many_broken_networks_are_counted_and_the_first_named():
    weights = broken(*range(12))
    assert finite_networks(weights).tolist() == [False] * 12 + [True] * 8
    with pytest.raises(ValueError, match=r"12 of 20 networks: 0 \(linear2.bias\), 1 .*; look"):
        require_finite(weights, "mine", "look")
    require_finite(networks().weights, "mine", "look")


def test_labels_come_as_lists_arrays_and_columns_in_their_order():
    runs = [3, 3, 1, 1, 0] * 4
    column = pd.Series([9] * 5 + runs)[5:]  # its index begins at 5
    for given in (runs, tuple(runs), np.array(runs[::-1])[::-1], column, [torch.tensor(run) for run in runs]):
        assert zoo_from_networks(networks(), given).trajectory.tolist() == runs
    held_out = [run == 3 for run in runs]
    for given in (held_out, np.array(held_out), pd.Series(held_out, index=range(20, 0, -1))):
        assert zoo_from_networks(networks(), runs, held_out=given).held_out.tolist() == held_out


@pytest.mark.parametrize(
    "arguments",
    [
        *({"trajectory": given} for given in (["a"] * 20, [None] * 20, "x", {"a": 1}, [[1], [1, 2]], [2**70] * 20, 5)),
        {"trajectory": torch.ones(20) * 1j},
        {"step": np.array(["a"] * 20)},
        *({"held_out": given} for given in ("0.1", None, [0, 1], (0.1,), 0.5 + 0j, True)),
        *({name: list(networks())} for name in ("networks", "initial")),
        {"networks": networks()[:0]},
        {"metadata": [1]},
    ],
)
def test_arguments_of_other_kinds_are_told(arguments):
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=rf"^(zoo_from_networks|Zoo): {name} expected"):
        zoo_from_networks(**{"networks": networks(), **arguments})


def test_initial_weights_are_of_the_same_networks():
    other = random_networks(mlp([3, 6, 4, 2]), 20)
    with pytest.raises(ValueError, match=r"initial expected .*linear1.weight \(5, 3\).*got linear1.weight \(6, 3\)"):
        zoo_from_networks(networks(), initial=other)


def folder_of_runs(folder: Path, word: str) -> Networks:
    """Three folders of four networks and a copy of the last, as checkpoints lie about."""
    for run in range(3):
        (folder / f"run_{run}").mkdir()
        for place in range(4):
            torch.save(ARCHITECTURE.module().state_dict(), folder / f"run_{run}/{word}_{place}.pt")
        shutil.copy(folder / f"run_{run}/{word}_3.pt", folder / f"run_{run}/best.pt")
    return Networks.load(folder, ARCHITECTURE)


def test_copies_and_snapshots_that_would_count_as_runs_are_said(tmp_path):
    mine = folder_of_runs(tmp_path, "epoch")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        zoo_from_networks(mine)
    snapshots, copies = (str(one.message) for one in caught)
    assert "12 files, each a run of its own, look like snapshots of 3 (run_0/epoch_0" in snapshots
    assert "trajectory=torch.arange(len(networks))" in snapshots
    assert "zoo.read.trajectories" not in snapshots
    assert "3 networks are the same as one of another run: run_0/epoch_3" in copies
    assert Path(caught[0].filename).name == "test_own.py"
    # who says the runs hears nothing
    assert len(zoo_from_networks(mine, torch.arange(15) // 5)) == 15


def test_copies_are_said_without_names_and_nothing_is_where_nothing_is_amiss(tmp_path):
    mine = networks()
    again = Networks(ARCHITECTURE, {name: tensor[[*range(20), 4]] for name, tensor in mine.weights.items()})
    with pytest.warns(UserWarning, match="zoo_from_networks: 1 networks are the same as one of another run: 20;"):
        zoo_from_networks(again)
    other = Networks(ARCHITECTURE, {name: tensor.clone() for name, tensor in again.weights.items()})
    other.weights["linear1.bias"][20, 0] += 1e-3  # warnings are errors in tests
    assert len(zoo_from_networks(other)) == 21
    assert zoo_from_networks(networks()).trajectory.tolist() == list(range(20))
