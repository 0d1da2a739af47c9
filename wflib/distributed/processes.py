"""Helpers of a running command: the same command once more, as processes that share its work.

``torchrun`` starts all processes alike and judges them from outside. Here the process that a user or DVC has started is
the first of them: its output, its errors and its exit code are those of the work.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = ["MEETING", "end_with_the_first", "helpers", "number_of_processes"]

MEETING = "WFLIB_MEETING"
"""Environment variable: the file by which processes of one command find each other."""
MOST = 4
GRACE = 20.0
"""Seconds that the others have to end by themselves once one has failed, or the work is done."""


def number_of_processes(wanted: str | int) -> int:
    """How many processes a command asks for.

    Args:
        wanted: A number; or ``auto``: one on a machine with a GPU, else as many as torch has threads (``OMP_NUM_THREADS``,
            usually the cores), a power of two that batches can be split into and four at most.

    Raises:
        ValueError: It is neither.
    """
    if wanted == "auto":
        threads = 1 if torch.cuda.is_available() else min(MOST, torch.get_num_threads())
        return 1 << (threads.bit_length() - 1)
    if not str(wanted).isdecimal() or int(wanted) < 1:
        raise ValueError(f"expected a number from 1, or auto, got {wanted!r}")
    return int(wanted)


@contextmanager
def helpers(processes: int) -> Iterator[str]:
    """Run this command in further processes, ranks 1, 2, … of so many, while the block is rank 0.

    They are started as this process was (``sys.orig_argv``), find what they are in the variables that ``torchrun`` sets, and
    share the threads of this process evenly. They end when this process does, however that ends. Where one of them fails
    and the block does not end within some seconds, it never would: the command stops with that process's last words.

    Args:
        processes: How many in all, at least two.

    Yields:
        Path of the file by which they meet, a ``FileStore`` of ``torch.distributed``.

    Raises:
        ConnectionError: One of them ended before all had met.
    """
    threads = max(1, torch.get_num_threads() // processes)
    with tempfile.TemporaryDirectory(prefix="wflib-") as folder:
        meeting = str(Path(folder) / "meeting")
        shared = {**os.environ, MEETING: meeting, "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": str(threads)}
        started, logs, done = [], [Path(folder) / f"{rank}.log" for rank in range(1, processes)], threading.Event()
        for rank, path in enumerate(logs, 1):
            with path.open("wb") as output:
                own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                command, pipe, nowhere = [sys.executable, *sys.orig_argv[1:]], subprocess.PIPE, subprocess.DEVNULL
                started.append(subprocess.Popen(command, env=own, stdin=pipe, stdout=nowhere, stderr=output))
        for process, log in zip(started, logs, strict=True):
            threading.Thread(target=stop_if_it_fails, args=(process, log, done), daemon=True).start()
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield meeting
        except ConnectionError as error:
            for process, log in zip(started, logs, strict=True):
                if process.poll():
                    raise ConnectionError(last_words(process.returncode, log)) from error
            raise
        except BaseException:  # of a stage that was told to end, too: what they would still do is of no use
            for process in started:
                process.terminate()
            raise
        finally:
            done.set()
            torch.set_num_threads(before)
            for process in started:
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                if process.stdin is not None:
                    process.stdin.close()


def end_with_the_first() -> None:
    """End this helper when the process that has started it is gone, even killed: then the pipe between them is closed."""
    while os.read(0, 1):
        pass
    os._exit(1)


def stop_if_it_fails(process: subprocess.Popen[bytes], log: Path, done: threading.Event) -> None:
    """End this process where a helper has failed and left it waiting: no exception reaches a wait for others."""
    code = process.wait()
    if code == 0 or done.wait(GRACE):
        return
    print(last_words(code, log), file=sys.stderr)  # noqa: T201
    os._exit(1)


def last_words(code: int, log: Path) -> str:
    """What a helper that failed has said at its end."""
    said = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
    words = said[0] if said else "no message; was it killed for memory?"
    return f"a process that shared the work ended with code {code}: {words}"
