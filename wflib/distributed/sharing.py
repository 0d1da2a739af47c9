"""Work on several processes: who am I, shares of it put together, gradients averaged. Alone, nothing here does anything."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from wflib.distributed.processes import MEETING, end_with_the_first, helpers

__all__ = [
    "average",
    "average_gradients",
    "exchanged",
    "ours",
    "process_group",
    "put_together",
    "rank",
    "wait_for_all",
    "world_size",
]

PATIENCE = timedelta(days=1)
"""How long a process waits for the others, whose shares of the work may take longer."""


@contextmanager
def process_group(processes: int = 1) -> Iterator[None]:
    """Join the processes that ``torchrun`` started: gloo, and NCCL between tensors on GPUs where each process has one.

    Args:
        processes: Where nobody has started any: how many to be, with :func:`~wflib.distributed.processes.helpers`.
    """
    if "WORLD_SIZE" not in os.environ and processes > 1:
        with helpers(processes) as meeting, joined(meeting, 0, processes):
            yield
    elif (size := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        if MEETING in os.environ:
            threading.Thread(target=end_with_the_first, daemon=True).start()
        with joined(os.environ.get(MEETING), int(os.environ["RANK"]), size):
            yield
    else:
        yield


@contextmanager
def joined(meeting: str | None, rank: int, processes: int) -> Iterator[None]:
    """Be one of some processes.

    Args:
        meeting: File by which they meet; None for the variables that ``torchrun`` sets.
        rank: Which of them.
        processes: How many they are.

    Raises:
        ConnectionError: They did not meet, as one of them ended before.
    """
    gpus, here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % gpus)
    backend = "cpu:gloo,cuda:nccl" if gpus >= here else "gloo"  # NCCL refuses processes that share a GPU
    try:
        if meeting is None:
            distributed.init_process_group(backend, timeout=PATIENCE, rank=rank, world_size=processes)
        else:  # not by file://…, whose spaces and letters torch looks for as they are written there
            store = distributed.FileStore(meeting, processes)  # type: ignore[attr-defined]  # torch lists it nowhere
            store.set_timeout(PATIENCE)
            distributed.init_process_group(backend, store=store, timeout=PATIENCE, rank=rank, world_size=processes)
    except (RuntimeError, ValueError) as error:
        raise ConnectionError(f"processes that share the work did not meet: {error}") from error
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process's number; process 0 writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def ours(index: int) -> bool:
    """Whether the piece of work of this number is this process's."""
    return index % world_size() == rank()


def wait_for_all() -> None:
    """Go on when every process is here."""
    if world_size() > 1:
        distributed.barrier()


def put_together(values: Tensor) -> Tensor:
    """A tensor each entry of which one process has computed, while it is zero on the others; in place, exact to the bit."""
    if world_size() > 1:
        # Sums of whole numbers: −0.0 + 0.0 would lose its sign.
        widths = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        distributed.all_reduce(values.view(widths[values.element_size()]))
    return values


def exchanged(content: bytes) -> list[bytes]:
    """What every process gives, in the order of processes."""
    if world_size() == 1:
        return [content]
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size())]
    distributed.all_gather(sizes, torch.tensor([len(content)]))
    longest = max(int(size) for size in sizes)
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else 0
    found = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(found, padded)
    return [bytes(one[: int(size)].numpy()) for one, size in zip(found, sizes, strict=True)]


def average(value: Tensor) -> Tensor:
    """Mean of a tensor over processes, in place."""
    if world_size() > 1:
        distributed.all_reduce(value)
        value /= world_size()
    return value


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over processes, in one exchange of all of them."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if world_size() == 1 or not gradients:
        return
    flat = average(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
