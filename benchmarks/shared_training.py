"""Seconds that training a zoo takes, by one process or by those that torchrun starts, for larger_than_memory.

python -m benchmarks.shared_training NETWORKS EPOCHS
torchrun --nproc-per-node 2 -m benchmarks.shared_training NETWORKS EPOCHS

Prints the seconds on the clock and the largest of the processes' seconds of computing: on cores that others use as well only
the latter say what sharing saves.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from wflib.config import load_settings
from wflib.distributed import exchanged, process_group, rank, wait_for_all
from wflib.tasks import fetch_dataset
from wflib.zoo import network_for, train_zoo

ROOT = Path(__file__).resolve().parents[1]


def main(networks: str, epochs: str) -> None:
    """Train the perceptrons of the preset for WDBC, and print."""
    torch.set_num_threads(1)
    changes = [f"zoo.networks={networks}", f"zoo.epochs={epochs}", f"zoo.skip_epochs={int(epochs) // 2}"]
    settings = load_settings(ROOT / "params.yaml", ROOT / "stages/presets", changes)
    dataset = fetch_dataset(settings.task, settings.data.split)
    architecture = network_for(settings.zoo, dataset)
    with process_group():
        wait_for_all()
        clock, computing = time.perf_counter(), time.process_time()
        train_zoo(architecture, dataset, settings.zoo)
        computing = time.process_time() - computing
        most = max(json.loads(each) for each in exchanged(json.dumps(computing).encode()))
        if rank() == 0:
            sys.stdout.write(json.dumps({"clock": time.perf_counter() - clock, "computing": most}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
