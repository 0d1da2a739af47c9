"""``wflib inspect``: what lies in a file or folder, and which setting is missing."""

from __future__ import annotations

from typer.testing import CliRunner

from tests.zoo import foreign
from wflib.command import app, setting
from wflib.config.loading import read_yaml
from wflib.zoo import read, write


def run(*arguments: str):
    return CliRunner().invoke(app, arguments)


def test_inspect_says_what_a_path_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    foreign.modelzoo(tmp_path / "theirs")
    (tmp_path / "theirs" / foreign.RUNS[0] / "checkpoint_000005/checkpoints").write_bytes(b"PK")
    result = run("inspect", "theirs")
    assert result.exit_code == 0, result.output
    for words in ("modelzoo", "12", "4, 3 to 3", "1 × 28 × 28 inputs, 10 outputs", "2,464 in float32", "24 signs"):
        assert words in result.output
    assert "12 networks, 11 of them readable and finite" in result.output
    assert "0.25 … 0.39 … 0.53" in result.output
    foreign.state_dicts(tmp_path / "own", count=3)
    assert "zoo.read.activation" in run("inspect", "own").output
    assert "26,506 in float32" in run("inspect", "own", "--read", "activation=relu").output
    write("own.safetensors", read("own", activation="relu"), "stacked")
    assert "wflib: a zoo or stacked networks" in run("inspect", "own.safetensors").output
    gone = run("inspect", "gone")
    assert (gone.exit_code, "found neither" in gone.output) == (1, True)


def test_texts_of_settings_need_no_quotes():
    pattern = r"run #(?P<run>\d+)/(?P<step>\d+)"
    for name, text, value in (
        ("pattern", pattern, pattern),
        ("pattern", f"'{pattern}'", pattern),
        ("pattern", "[ab]+_(?P<run>.+)", "[ab]+_(?P<run>.+)"),
        ("key", "2024", "2024"),
        ("key", "null", None),
        ("inputs", "[1, 28, 28] # images", [1, 28, 28]),
        ("skip_broken", "true", True),
        ("unknown", "1", 1),
    ):
        assert setting(name, text) == value
    assert read_yaml("pattern", pattern) == "run"  # what YAML makes of it
