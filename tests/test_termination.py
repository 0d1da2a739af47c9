"""Commands that are told to end: what is half-written is taken away, and the exit code says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import typer

from wflib.config import clear_errors

ROOT = Path(__file__).resolve().parents[1]
WRITES = """
import time, typer
import torch
from wflib.architecture import mlp
from wflib.config import clear_errors
from wflib.networks import Networks
from wflib.zoo import ZooWriter

app, architecture = typer.Typer(), mlp([3, 4, 2])

@app.command()
def main():
    with {guard}, ZooWriter("zoo/trained.safetensors", 2) as writer:
        writer.append(Networks.from_flat(architecture, torch.randn(5, architecture.dimension)))
        print("ready", flush=True)
        time.sleep(60)

app()
"""


@pytest.mark.parametrize(
    ("guard", "code", "left"), [("clear_errors('stage')", 143, False), ("torch.no_grad()", -signal.SIGTERM, True)]
)
def test_what_is_half_written_is_taken_away(tmp_path, guard, code, left):
    """The second is what came of it before: hidden folders for good."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITES.format(guard=guard)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert any((tmp_path / "zoo").iterdir()) == left
    assert ("stage: told to end; nothing half-written is left" in said) != left


def test_handlers_of_others_stay_and_ours_goes(capsys):
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(typer.Exit) as caught, clear_errors("stage"):
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with clear_errors("stage"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert heard == [1]
    elsewhere = threading.Thread(target=entered, args=(heard,))
    elsewhere.start()
    elsewhere.join()
    assert heard == [1, 2]


def entered(heard: list[int]) -> None:
    """Signals are the main thread's: another one that sets a handler gets an error."""
    with clear_errors("stage"):
        heard.append(2)
