"""A command's helpers: counted, joined, and never waited for in vain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from wflib.distributed import number_of_processes

ROOT = Path(__file__).resolve().parents[1]
SUMS = """
import sys
import torch
from wflib.distributed import process_group, rank, world_size
with process_group({processes}):
    total = torch.tensor([rank() + 1.0])
    if world_size() > 1:
        torch.distributed.all_reduce(total)
    print(rank(), world_size(), total.item(), torch.get_num_threads())
"""
FAILS = """
import sys, time
from wflib.distributed import processes
from wflib.distributed import process_group, rank, wait_for_all
processes.GRACE = 0.5
with process_group(2):
    if rank() == 1:
        sys.exit("the helper has no strength left")
    time.sleep(0.2)
    {then}
"""


def run(code: str, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "command.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "command.py"]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (2, 2), (3, 2), (7, 4), (64, 4)])
def test_automatic_is_a_power_of_two_of_the_threads(monkeypatch, threads, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert number_of_processes("auto") == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert number_of_processes("auto") == 1


def test_numbers_are_taken_and_others_refused():
    assert number_of_processes("3") == number_of_processes(3) == 3
    for wrong in ("0", "-1", "two", "1.5", ""):
        with pytest.raises(ValueError, match="a number from 1, or auto"):
            number_of_processes(wrong)


def test_the_first_process_speaks_for_all_and_shares_its_threads(tmp_path):
    alone = run(SUMS.format(processes=1), tmp_path, OMP_NUM_THREADS="4")
    *said, threads = alone.stdout.split()
    assert (alone.returncode, said) == (0, ["0", "1", "1.0"]), alone.stderr
    done = run(SUMS.format(processes=2), tmp_path, OMP_NUM_THREADS="4")
    assert (done.returncode, done.stdout) == (0, f"0 2 3.0 {max(1, int(threads) // 2)}\n"), done.stderr


@pytest.mark.parametrize("name", ["two words", "größe", "a%20b#c?d=1"])
def test_processes_meet_in_temporary_folders_of_any_name(tmp_path, name):
    """A file's address would write spaces and letters otherwise, and torch took them as they were written: all waited."""
    (tmp_path / name).mkdir()
    result = run(SUMS.format(processes=2), tmp_path, TMPDIR=str(tmp_path / name))
    assert (result.returncode, result.stdout) == (0, "0 2 3.0 1\n"), result.stderr
    assert list((tmp_path / name).iterdir()) == []
    assert (tmp_path / name / "meeting").as_uri() != f"file://{tmp_path / name / 'meeting'}"


def test_a_failed_helper_ends_a_wait_that_would_have_no_end(tmp_path):
    started = time.monotonic()
    done = run(FAILS.format(then="time.sleep(100)"), tmp_path)
    assert done.returncode == 1
    assert "ended with code 1: the helper has no strength left" in done.stderr
    assert time.monotonic() - started < 60
    assert run(FAILS.format(then="pass"), tmp_path).returncode == 0  # the work was done: nobody waits for the helper


def test_a_helper_that_ends_before_all_have_met_is_heard(tmp_path):
    early = """
import os, sys
if os.environ.get("RANK") == "1":
    sys.exit("the helper was in a hurry")
from wflib.distributed import process_group, processes, sharing
if "RANK" not in os.environ:
    import time
    def fails(*_, **__):
        time.sleep(5)  # as a connection that is refused once the helper has ended
        raise RuntimeError("Connection refused")
    sharing.distributed.init_process_group = fails
with process_group(2):
    pass
"""
    done = run(early, tmp_path)
    assert done.returncode == 1
    assert "ended with code 1: the helper was in a hurry" in done.stderr


WORKS = """
import os, pathlib, time
from wflib.distributed import process_group, rank
with process_group(2):
    pathlib.Path(f"{rank()}.pid").write_text(str(os.getpid()))
    time.sleep(100)
"""


def works(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_helpers_end_with_a_command_that_is_killed(tmp_path, kill):
    (tmp_path / "command.py").write_text(WORKS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "command.py"], cwd=tmp_path, env=environment) as first:
        places = [tmp_path / f"{rank}.pid" for rank in range(2)]
        until(lambda: all(path.exists() and path.read_text() for path in places))
        helper = int(places[1].read_text())
        time.sleep(1)
        assert works(helper)  # as long as the first does
        first.send_signal(kill)
        first.wait()
        until(lambda: not works(helper), 20)


def until(condition, seconds: float = 60) -> None:
    """Wait for something, but not for ever."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
