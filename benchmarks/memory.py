"""Peak memory of one training step in a process of its own: what the step adds to the process's peak, in MB.

python -m benchmarks.memory KIND WIDTHS DIMENSION LAYERS BATCH PRECISION
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.cases import Case


def peak() -> float:
    """The process's largest resident size so far, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux counts what a parent used before exec into ru_maxrss, but not into VmHWM.
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text()).group(1)) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_memory(case: Case) -> float:
    """MB that a step of the case adds, measured in a fresh process."""
    widths = ",".join(map(str, case.widths))
    arguments = [case.kind, widths, case.dimension, case.layers, case.batch, case.precision]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    kind, widths, dimension, layers, batch, precision = sys.argv[1:]
    case = Case(kind, tuple(map(int, widths.split(","))), int(dimension), int(layers), int(batch), precision)
    # A tiny step first: libraries that load on first use are not the step's memory.
    Case(kind, (3, 4, 2), 8, 1, 2, precision).step()()
    before, run = peak(), case.step()
    run()
    sys.stdout.write(f"{peak() - before:.1f}\n")
