"""How a command answers what it cannot do: one sentence in place of a traceback, the same for stages and for ``wflib``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from wflib.config.extras import MissingExtra

__all__ = ["TRACEBACK", "clear_errors"]

TRACEBACK = "WFLIB_TRACEBACK"
"""Environment variable that lets exceptions through."""


class Terminated(KeyboardInterrupt):
    """The process was told to end, by kill, a container or a queue of jobs."""


@contextmanager
def termination_raised() -> Iterator[None]:
    """SIGTERM as an exception, so that blocks put away what they have begun; a second one ends the process at once.

    Where somebody else handles it already, or off the main thread, all stays as it is.

    Raises:
        Terminated: On the signal.
    """

    def raised(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, raised)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def clear_errors(command: str) -> Iterator[None]:
    """One clear sentence that names the command, and exit code 1, in place of a traceback.

    It is 130 for an interrupt and 143 where the command was told to end (SIGTERM): what is half-written is taken away first.

    ValueError and OSError are what bad input raises, MissingExtra says what to install. Anything else is a limit of the
    machine or a mistake of ours: its sentence says so, and ``WFLIB_TRACEBACK=1`` in the environment lets the exception
    through, to look at.

    Raises:
        Exit: The work failed; the sentence has been shown.
    """
    code = 1
    cause: BaseException
    try:
        with termination_raised():
            yield
        return
    except KeyboardInterrupt as error:
        what, code = ("told to end", 143) if isinstance(error, Terminated) else ("interrupted", 130)
        cause, kept = error, "train-zoo, align and train-flow go on from what they have kept"
        sentence = f"{what}; nothing half-written is left, and {kept}"
    except (ValueError, OSError, MissingExtra) as error:
        cause, sentence = error, str(error)
    except Exception as error:
        if isinstance(error, (typer.Exit, typer.Abort)):
            raise
        cause, sentence = error, explained(error)
    if os.environ.get(TRACEBACK) == "1":
        raise cause
    typer.secho(f"{command}: {sentence}", fg="red", err=True)
    raise typer.Exit(code) from cause


def explained(error: Exception) -> str:
    """A sentence for what no check of input foresaw."""
    first = next(iter(str(error).splitlines()), "")
    torch = sys.modules.get("torch")  # where it was never loaded, it did not run out of memory
    kinds = (MemoryError, *((torch.OutOfMemoryError,) if torch else ()))
    if isinstance(error, kinds) or "can't allocate memory" in first:
        return f"out of memory ({first}); ask for fewer networks or lower training.batch_size, or use a larger machine."
    return (
        f"stopped by {type(error).__name__}: {first or 'no message'}; no check of settings and inputs foresaw it. Set "
        f"{TRACEBACK}=1 to see where, and please report it."
    )
