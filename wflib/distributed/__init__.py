"""Work on several processes, started by this command or by ``torchrun``."""

from wflib.distributed.processes import number_of_processes
from wflib.distributed.sharing import (
    average,
    average_gradients,
    exchanged,
    ours,
    process_group,
    put_together,
    rank,
    wait_for_all,
    world_size,
)

__all__ = [
    "average",
    "average_gradients",
    "exchanged",
    "number_of_processes",
    "ours",
    "process_group",
    "put_together",
    "rank",
    "wait_for_all",
    "world_size",
]
