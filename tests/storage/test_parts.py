"""Parts of a long computation: made once, made anew where their file is damaged, never kept where they are no result."""

from __future__ import annotations

import math
import time

import pytest
import torch

from wflib.storage import KeptParts


class Made:
    """Counts what is made."""

    def __init__(self, value: float = 1.0, seconds: float = 0.0) -> None:
        self.value, self.seconds, self.count = value, seconds, 0

    def __call__(self) -> dict[str, torch.Tensor]:
        time.sleep(self.seconds)
        self.count += 1
        return {"x": torch.full((3,), self.value), "places": torch.arange(2)}


def test_a_part_is_made_once_and_each_name_is_another(tmp_path):
    made, other = Made(), Made(2.0)
    first = KeptParts(tmp_path)("a", made)
    again = KeptParts(tmp_path)("a", other)
    assert {name: tensor.tolist() for name, tensor in again.items()} == {"x": [1.0] * 3, "places": [0, 1]}
    assert torch.equal(first["x"], again["x"])
    assert (made.count, other.count) == (1, 0)
    assert KeptParts(tmp_path)("b", other)["x"].tolist() == [2.0] * 3
    assert KeptParts(tmp_path / "other")("a", other)["x"].tolist() == [2.0] * 3


def test_seconds_are_those_of_the_runs_before(tmp_path):
    killed = KeptParts(tmp_path)
    killed("a", Made(seconds=0.05))
    killed("b", Made(seconds=0.05))
    assert killed.seconds == 0
    resumed = KeptParts(tmp_path)
    for name in ("a", "b", "c"):
        resumed(name, Made(seconds=0.2))
    assert 0.1 <= resumed.seconds < 0.2


@pytest.mark.parametrize("damage", [b"", b"PK", None])
def test_a_damaged_part_is_made_anew(tmp_path, damage):
    KeptParts(tmp_path)("a", Made())
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3] if damage is None else damage)
    parts, made = KeptParts(tmp_path), Made(2.0)
    assert parts("a", made)["x"].tolist() == [2.0] * 3
    assert (made.count, parts.seconds) == (1, 0)
    assert KeptParts(tmp_path)("a", made)["x"].tolist() == [2.0] * 3
    assert made.count == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_not_kept(tmp_path, value):
    assert not KeptParts(tmp_path)("a", Made(value))["x"].isfinite().any()
    assert KeptParts(tmp_path)("a", Made(2.0))["x"].tolist() == [2.0] * 3


def test_without_a_folder_nothing_is_kept_and_a_whole_is_discarded(tmp_path):
    parts, made = KeptParts(), Made()
    parts("a", made)
    parts("a", made)
    parts.discard()
    assert made.count == 2
    kept = KeptParts(tmp_path / "kept")
    kept("a", made)
    assert list((tmp_path / "kept").iterdir())
    kept.discard()
    assert not list(tmp_path.iterdir())
