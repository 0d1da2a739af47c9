"""One training step of each velocity network: against all-pairs attention, the matrix-product limit, and base weights.

python -m pytest benchmarks/bench_velocity.py --benchmark-json=steps.json, then python -m benchmarks.report steps.json
"""

from __future__ import annotations

import shutil
import statistics
import time

import pytest
import torch

from benchmarks.cases import Case
from benchmarks.memory import peak_memory
from wflib.compiled import compiler

KINDS = ("neuron-tokens", "relational-transformer", "pna")
WDBC, MNIST = (30, 16, 16, 2), (784, 10, 10)
STEPS = [
    *(Case(kind, WDBC, 64, 5, 32, precision) for kind in KINDS for precision in ("float32", "bfloat16")),
    Case("relational-transformer", WDBC, 64, 5, 32, compiled=True),
    Case("all-pairs", WDBC, 64, 5, 32),
    *(Case(kind, MNIST, 32, 5, 8) for kind in KINDS),
    Case("relational-transformer", MNIST, 32, 5, 8, "bfloat16"),
    Case("relational-transformer", MNIST, 32, 5, 8, compiled=True),
    Case("all-pairs", MNIST, 32, 5, 1),
]
GROWTH = [
    *((30, width, width, 2) for width in (16, 48, 128, 340, 1000)),
    *((30, *[100] * depth, 2) for depth in (3, 10, 30, 100)),
]
"""From 802 to more than a million base weights, by width and by depth."""
SCALING = [Case(kind, widths, 16, 2, 1) for kind in KINDS for widths in GROWTH]


def product_rate(precision: str) -> float:
    """Operations a second of a 2048 × 2048 product, which no memory traffic slows."""
    dtype, seconds = getattr(torch, precision), []
    a, b = (torch.randn(2048, 2048, dtype=dtype) for _ in range(2))
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / statistics.median(seconds[1:])


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at those of tensors that have none
@pytest.mark.parametrize("case", STEPS, ids=lambda case: case.name)
def test_step(benchmark, case):
    """A step at the thesis' sizes; the rate of products right before and after, as a machine's speed drifts."""
    if case.compiled and shutil.which(compiler()[0]) is None:
        pytest.skip("Compiled layers need a C++ compiler.")
    slow = case.kind == "all-pairs"
    record(benchmark, "step", case)
    before = product_rate(case.precision)
    benchmark.pedantic(case.step(), rounds=2 if slow else 9, warmup_rounds=0 if slow else 2)
    benchmark.extra_info["rate"] = (before + product_rate(case.precision)) / 2


@pytest.mark.parametrize("case", SCALING, ids=lambda case: case.name)
def test_growth(benchmark, case):
    """A step on ever larger base networks."""
    record(benchmark, "growth", case)
    large = case.architecture.dimension > 200_000
    benchmark.pedantic(case.step(), rounds=2 if large else 5, warmup_rounds=0 if large else 1)


def record(benchmark, group: str, case: Case) -> None:
    """Facts that benchmarks.report needs beside the time."""
    facts = {"kind": case.label, "widths": "-".join(map(str, case.widths)), "precision": case.precision, "batch": case.batch}
    benchmark.extra_info.update(
        group=group,
        **facts,
        threads=torch.get_num_threads(),
        weights=case.architecture.dimension,
        operations=case.needed_operations() if case.kind == "relational-transformer" else None,
        memory=None if case.compiled else peak_memory(case),  # the compiler's own would be the peak
    )
