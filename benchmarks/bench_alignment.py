"""Sinkhorn matching of 100 networks at once against the same descent network by network.

python -m pytest benchmarks/bench_alignment.py
"""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.symmetry import identity, sinkhorn_matching, squared_distance

ARCHITECTURE, NETWORKS, ITERATIONS = mlp([30, 16, 16, 2]), 100, 20
FLAT = torch.randn(NETWORKS + 1, ARCHITECTURE.dimension, generator=torch.Generator().manual_seed(0))
REFERENCE = ARCHITECTURE.unflatten(FLAT[:1])


def align(flat: torch.Tensor) -> None:
    """Sinkhorn matching from the identity, for the squared distance."""

    def distance(weights):
        return squared_distance(ARCHITECTURE, REFERENCE, weights)

    start = identity(ARCHITECTURE, len(flat))
    sinkhorn_matching(ARCHITECTURE, ARCHITECTURE.unflatten(flat), distance, distance, start, ITERATIONS)


@pytest.mark.parametrize("together", [True, False], ids=["at once", "one by one"])
def test_sinkhorn(benchmark, together):
    """The ratio of the two medians is what batching gains."""
    parts = [FLAT[1:]] if together else FLAT[1:].split(1)
    benchmark.pedantic(lambda: [align(part) for part in parts], rounds=3, warmup_rounds=1)
