"""Inputs of another kind: what they keep of a task's, and what they do not."""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.rng import generator
from wflib.tasks import TASKS, Dataset, Split, outside_inputs


def test_permuted_features_keep_their_values_and_lose_one_another():
    dataset = TASKS["wdbc"]()
    (name, found), *others = outside_inputs(dataset, generator(0, "outside")).items()
    assert (name, others) == ("permuted", [])
    torch.testing.assert_close(found.sort(0).values, dataset.test.inputs.sort(0).values)
    first, second = (torch.corrcoef(x.T).abs().fill_diagonal_(0) for x in (dataset.test.inputs, found))
    assert first.max() > 0.9 > 0.6 > second.max()
    assert outside_inputs(dataset, generator(0, "outside"))["permuted"].equal(found)
    assert not outside_inputs(dataset, generator(1, "outside"))["permuted"].equal(found)


def test_images_keep_their_shape():
    found = outside_inputs(TASKS["digits"](), generator(0, "outside"))
    assert {name: kind.shape for name, kind in found.items()} == {"permuted": (180, 1, 8, 8)}


def test_other_images_have_the_tasks_own_black_and_white(monkeypatch, tmp_path):
    asked, pixels = [], torch.tensor([0, 255, 51], dtype=torch.uint8).repeat_interleave(784).view(3, 28, 28)
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in pixels.shape)
    (tmp_path / "images").write_bytes(header + pixels.numpy().tobytes())

    def fetch(task: str):
        asked.append(task)
        return {"t10k-images-idx3-ubyte": tmp_path / "images"}

    monkeypatch.setattr("wflib.tasks.outside.fetch_images", fetch)
    inputs = torch.tensor([-0.5, 2.0]).repeat(2, 392)
    for task, other in (("mnist", "fashion-mnist"), ("fashion-mnist", "mnist")):
        dataset = Dataset(task, "classification", 2, *(Split(inputs, torch.tensor([0, 1])),) * 3)
        found = outside_inputs(dataset, generator(0, "outside"))
        assert list(found) == ["permuted", other]
        assert found[other].shape == (3, 784)
        assert found[other].sort(0).values[:, 0].tolist() == pytest.approx([-0.5, 0.0, 2.0])
    assert asked == ["fashion-mnist", "mnist"]


def test_without_examples_nothing_is_strange():
    nothing = TASKS["none"]().for_networks(mlp([3, 2]), "test")
    with pytest.raises(ValueError, match="outside: the task none has no examples"):
        outside_inputs(nothing, generator(0, "outside"))
