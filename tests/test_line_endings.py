"""Tracked text has LF, in the index and in every checkout: DVC compares bytes, and shells read scripts as they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def other_endings(folder: Path) -> list[str]:
    """Tracked text files with other ends of lines than LF, in the index or as checked out."""
    rows = [line.split("\t") for line in git(folder, "ls-files", "--eol").splitlines()]
    text = [(state.split()[:2], name) for state, name in rows if "attr/-text" not in state]
    return [name for places, name in text if any(place[2:] in ("crlf", "mixed") for place in places)]


@pytest.fixture
def repository(tmp_path) -> Path:
    """An empty repository on a machine that converts ends of lines, with our attributes."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "core.autocrlf", "true")
    git(tmp_path, "config", "core.safecrlf", "false")
    return tmp_path


needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs git, and a checkout of it"
)


@needs_git
def test_tracked_text_has_line_feeds_only():
    assert git(ROOT, "ls-files", ".gitattributes") == ".gitattributes\n"
    assert other_endings(ROOT) == []


@needs_git
@pytest.mark.parametrize("ours", [True, False])
def test_a_checkout_that_would_convert_them_does_not(repository, ours):
    if ours:
        (repository / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    (repository / "run.sh").write_bytes(b"echo one\r\necho two\r\n")
    if ours:
        (repository / "data.parquet").write_bytes(b"PAR1\r\nPAR1")
    git(repository, "add", ".")
    (repository / "run.sh").unlink()
    git(repository, "checkout", "--", "run.sh")
    assert (other_endings(repository) == []) == ours
    assert ((repository / "run.sh").read_bytes() == b"echo one\necho two\n") == ours
    if ours:
        assert git(repository, "ls-files", "--eol", "data.parquet").split()[2] == "attr/-text"
