"""Artifacts: what is written is read back, damage is named, and writing is all or nothing."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wflib.storage import ArtifactError, atomic_path, load_artifact, save_artifact
from wflib.storage import artifact as artifact_module

TENSORS = {
    "a": torch.arange(12, dtype=torch.float32).view(3, 4),
    "b": torch.tensor([1, 2], dtype=torch.int64),
    "c": torch.tensor([True, False]),
    "d": torch.tensor(0.5, dtype=torch.float64),
    "e": torch.zeros(0, 3),
}
METADATA = {"task": "wdbc", "steps": [1, 2], "nested": {"x": None, "θ": 1.5}}


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "folder" / "thing.safetensors"
    save_artifact(path, "thing", TENSORS, METADATA)
    return path


def refusal(path: Path, kind: str = "thing") -> str:
    """The message with which a file is refused; it names the file and the stage to rerun."""
    with pytest.raises(ArtifactError) as caught:
        load_artifact(path, kind, stage="make-thing")
    message = str(caught.value)
    assert str(path) in message
    assert "dvc repro --single-item --force make-thing" in message
    return message


def test_round_trip(saved):
    tensors, metadata = load_artifact(saved, "thing", stage="make-thing")
    assert metadata == METADATA
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert not torch.equal(tensors["a"], TENSORS["a"] + 1)


def test_views_and_gradients_are_saved_as_plain_numbers(tmp_path):
    whole = torch.arange(12.0, requires_grad=True)
    views = {"left": whole[:6].view(2, 3), "right": whole[6:], "turned": whole.view(3, 4).T, "wide": whole[:1].expand(5)}
    save_artifact(tmp_path / "x.safetensors", "thing", views, {})
    tensors, _ = load_artifact(tmp_path / "x.safetensors", "thing", stage="make-thing")
    for name, view in views.items():
        assert torch.equal(tensors[name], view.detach())


def test_the_same_tensor_may_be_saved_under_two_names(tmp_path):
    save_artifact(tmp_path / "x.safetensors", "thing", {"a": TENSORS["a"], "b": TENSORS["a"]}, {})
    tensors, _ = load_artifact(tmp_path / "x.safetensors", "thing", stage="make-thing")
    assert torch.equal(tensors["a"], tensors["b"])


def test_a_missing_file_is_refused(tmp_path):
    assert "found no file" in refusal(tmp_path / "gone.safetensors")


def test_another_kind_is_refused(saved):
    assert "expected a other artifact, found a thing one" in refusal(saved, kind="other")


def test_another_version_is_refused(saved, monkeypatch):
    monkeypatch.setattr(artifact_module, "FORMAT_VERSION", artifact_module.FORMAT_VERSION + 1)
    assert "expected format version 3, found 2" in refusal(saved)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("start", [0, 8, 12])
def test_a_corrupt_header_is_refused(saved, start):
    content = bytearray(saved.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    saved.write_bytes(content)
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize(
    "header", [None, {}, {"other": "x"}, *({"wflib": text} for text in ("", "{", "[1]", "3", "{}", '{"kind": 1}'))]
)
def test_a_file_without_our_header_is_refused(tmp_path, header):
    save_file(TENSORS, tmp_path / "x.safetensors", metadata=header)
    assert "expected a wflib header" in refusal(tmp_path / "x.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_when_read(tmp_path, value):
    spoiled = TENSORS["a"].clone()
    spoiled[1, 2] = value
    header = {"wflib": json.dumps({"kind": "thing", "format": artifact_module.FORMAT_VERSION})}
    save_file({"fine": TENSORS["a"], "spoiled": spoiled}, tmp_path / "x.safetensors", metadata=header)
    assert "found 1 NaN or infinite ones in spoiled" in refusal(tmp_path / "x.safetensors")


def test_numbers_that_are_not_finite_are_not_written(saved):
    before = saved.read_bytes()
    with pytest.raises(ArtifactError, match="nothing was written"):
        save_artifact(saved, "thing", {"a": torch.tensor([1.0, float("nan")])}, {})
    assert saved.read_bytes() == before


def test_reserved_metadata_is_refused(tmp_path):
    with pytest.raises(ValueError, match="kind"):
        save_artifact(tmp_path / "x.safetensors", "thing", {}, {"kind": "other"})


def leaves_the_old_file(write, path: Path) -> bool:
    """Whether an interrupted write leaves the old content and nothing beside it."""
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write(path)
    return path.read_bytes() == b"old" and os.listdir(path.parent) == [path.name]


def interrupted(path: Path) -> None:
    path.write_bytes(b"ne")
    raise KeyboardInterrupt


def test_an_interrupted_write_leaves_the_old_file_and_no_temporary(tmp_path):
    def careful(path):
        with atomic_path(path) as temporary:
            interrupted(temporary)

    assert leaves_the_old_file(careful, tmp_path / "file.txt")
    assert not leaves_the_old_file(interrupted, tmp_path / "file.txt")


def test_an_interrupted_artifact_leaves_the_old_one(saved, monkeypatch):
    def stop_halfway(tensors, filename, metadata):
        interrupted(Path(filename))

    monkeypatch.setattr(artifact_module, "save_file", stop_halfway)
    before = saved.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        save_artifact(saved, "thing", TENSORS, {})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_finished_write_replaces_the_file_and_has_ordinary_rights(tmp_path):
    plain, path = tmp_path / "plain", tmp_path / "deep" / "er" / "file.txt"
    plain.write_text("x")
    for content in ("old", "new"):
        with atomic_path(path) as temporary:
            temporary.write_text(content)
        assert path.read_text() == content
    assert os.listdir(path.parent) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
