"""Folders written whole: complete under their name, or not there at all."""

from __future__ import annotations

import pytest

from wflib.storage import atomic_folder


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
