"""Files and folders written whole: complete under their name, or not there at all; and places that take none."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from wflib.storage import atomic_folder, atomic_path, require_writable


def test_a_folder_takes_its_name_when_it_is_complete(tmp_path):
    with atomic_folder(tmp_path / "new" / "folder") as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "new" / "folder").exists()
    assert (tmp_path / "new" / "folder" / "a").read_text() == "1"
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "new" / "folder").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_failure_leaves_nothing(tmp_path):
    def fail(temporary):
        (temporary / "a").write_text("1")
        raise RuntimeError

    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder") as temporary:
        fail(temporary)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_replaced_and_a_full_one_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("2")
    assert (tmp_path / "folder" / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def closed(monkeypatch, folder: Path) -> None:
    """A folder that nobody can write, root included, whom permissions do not stop."""
    folder.mkdir()
    for name, usual in (("open", os.open), ("mkdir", os.mkdir)):
        monkeypatch.setattr(os, name, partial(refusing, folder, usual))


def refusing(folder: Path, usual, path, *arguments, **further):
    """What the operating system would do, but for a folder."""
    if Path(path).is_relative_to(folder):
        raise PermissionError(13, "Permission denied", str(path))
    return usual(path, *arguments, **further)


def write(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("1")


def fill(path: Path) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text("1")


@pytest.mark.parametrize("call", [write, fill, require_writable])
def test_places_that_cannot_be_written_are_told_by_their_folder(tmp_path, monkeypatch, call):
    (tmp_path / "file").write_text("1")
    with pytest.raises(
        OSError, match=r"file/a: expected .* folder \S+/file, found: that is a file; choose another"
    ) as caught:
        call(tmp_path / "file" / "a")
    assert "[Errno" not in str(caught.value)
    closed(monkeypatch, tmp_path / "closed")
    for name in ("a.txt", "deeper/a.txt"):
        with pytest.raises(
            PermissionError, match=r"folder \S+/closed, found: Permission denied; choose another\.$"
        ) as caught:
            call(tmp_path / "closed" / name)
        assert str(caught.value).startswith(f"{tmp_path}/closed/{name}: ")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["closed", "file"]


@pytest.mark.parametrize("call", [write, require_writable])
def test_a_folder_is_no_place_for_a_file(tmp_path, call):
    with pytest.raises(IsADirectoryError, match=f"found: {tmp_path} is a folder; choose another"):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_asking_makes_nothing(tmp_path):
    require_writable(tmp_path / "new" / "deeper" / "file.txt")
    assert not list(tmp_path.iterdir())
