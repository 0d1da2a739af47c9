"""Tasks: three parts that share nothing, standardized by the first, and a file that keeps them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wflib.storage import ArtifactError, load_artifact, save_artifact
from wflib.zoo import TASKS, Dataset, Split, load_dataset, save_dataset

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def wdbc() -> Dataset:
    return TASKS["wdbc"]()


def rows(split: Split) -> set[tuple[float, ...]]:
    return {tuple(row) for row in split.inputs.tolist()}


def equal(a: Dataset, b: Dataset) -> bool:
    tensors = all(
        torch.equal(getattr(getattr(a, part), name), getattr(getattr(b, part), name))
        for part in PARTS
        for name in ("inputs", "targets")
    )
    return tensors and (a.task, a.task_type, a.outputs) == (b.task, b.task_type, b.outputs)


def test_wdbc_is_what_it_says(wdbc):
    assert [len(getattr(wdbc, part).inputs) for part in PARTS] == [455, 57, 57]
    assert (wdbc.task, wdbc.task_type, wdbc.outputs, wdbc.features) == ("wdbc", "classification", 2, 30)
    for part in PARTS:
        split = getattr(wdbc, part)
        assert (split.inputs.dtype, split.targets.dtype) == (torch.float32, torch.int64)
        assert split.targets.unique().tolist() == [0, 1]


def test_no_example_is_in_two_parts(wdbc):
    train, validation, test = (rows(getattr(wdbc, part)) for part in PARTS)
    assert len(train) + len(validation) + len(test) == 569
    assert not (train & validation)
    assert not (train & test)
    assert not (validation & test)
    assert rows(Split(wdbc.test.inputs[:3], wdbc.test.targets[:3])) & test


def test_inputs_are_standardized_by_the_training_part_alone(wdbc):
    means = {part: float(getattr(wdbc, part).inputs.mean(0).abs().max()) for part in PARTS}
    spreads = {part: float((getattr(wdbc, part).inputs.std(0, correction=0) - 1).abs().max()) for part in PARTS}
    assert means["train"] < 1e-5
    assert spreads["train"] < 1e-5
    assert min(means["validation"], means["test"], spreads["validation"], spreads["test"]) > 0.05


def test_the_split_is_always_the_same(wdbc):
    assert equal(wdbc, TASKS["wdbc"]())
    assert not equal(wdbc, replace(wdbc, train=wdbc.test))


def test_round_trip(tmp_path, wdbc):
    save_dataset(tmp_path / "data.safetensors", wdbc)
    assert equal(load_dataset(tmp_path / "data.safetensors"), wdbc)
    assert not equal(load_dataset(tmp_path / "data.safetensors"), replace(wdbc, outputs=3))


def test_parts_that_share_memory_make_a_round_trip(tmp_path):
    split = Split(torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 0]))
    shared = Dataset("toy", "classification", 2, split, split, Split(split.inputs[1:], split.targets[1:]))
    save_dataset(tmp_path / "data.safetensors", shared)
    assert equal(load_dataset(tmp_path / "data.safetensors"), shared)


def test_a_split_moves_with_both_halves(wdbc):
    moved = wdbc.test.to("meta")
    assert moved.inputs.device.type == moved.targets.device.type == "meta"
    assert wdbc.test.inputs.device.type == "cpu"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, m: t.pop("test.targets"), "expected 'test.targets'"),
        (lambda t, m: t.update({"test.targets": torch.zeros(3)}), r"test has inputs \(57, 30\) and targets \(3,\)"),
        (lambda t, m: t.update({"train.inputs": torch.zeros(455)}), r"train has inputs \(455,\)"),
        (lambda t, m: t.update({"train.inputs": torch.zeros(0, 30), "train.targets": torch.zeros(0)}), "train has inputs"),
        (lambda t, m: m.pop("outputs"), "expected 'outputs'"),
        (lambda t, m: m.pop("task"), "expected 'task'"),
    ],
)
def test_a_dataset_whose_parts_do_not_fit_is_refused(tmp_path, wdbc, spoil, message):
    path = tmp_path / "data.safetensors"
    save_dataset(path, wdbc)
    tensors, metadata = load_artifact(path, "dataset", stage="fetch-data")
    spoil(tensors, metadata)
    save_artifact(path, "dataset", tensors, metadata)
    with pytest.raises(ArtifactError, match=message) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert "fetch-data" in str(caught.value)


def test_a_zoo_is_no_dataset(tmp_path):
    save_artifact(tmp_path / "x.safetensors", "zoo", {}, {})
    with pytest.raises(ArtifactError, match="expected a dataset artifact, found a zoo one"):
        load_dataset(tmp_path / "x.safetensors")
