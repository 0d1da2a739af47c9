"""Sinkhorn matching of 100 networks at once against the same descent network by network.

python -m pytest benchmarks/bench_alignment.py
"""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.symmetry import identity, sinkhorn_matching, squared_distance
from wflib.tasks import Split
from wflib.zoo import network_losses

ARCHITECTURE, NETWORKS, ITERATIONS = mlp([30, 16, 16, 2]), 100, 20
RANDOM = torch.Generator().manual_seed(0)
FLAT = torch.randn(NETWORKS + 1, ARCHITECTURE.dimension, generator=RANDOM)
REFERENCE = ARCHITECTURE.unflatten(FLAT[:1])
EXAMPLES = Split(torch.randn(128, 30, generator=RANDOM), torch.randint(0, 2, (128,), generator=RANDOM))


def distance(weights):
    """‖θ_reference − π(θ)‖²."""
    return squared_distance(ARCHITECTURE, REFERENCE, weights)


def midpoint_loss(weights):
    """The loss at (θ_reference + π(θ)) / 2 on 128 examples."""
    return network_losses(ARCHITECTURE, {name: (REFERENCE[name] + w) / 2 for name, w in weights.items()}, EXAMPLES)


def align(flat: torch.Tensor, objective) -> None:
    """Twenty steps of Sinkhorn matching."""
    start = identity(ARCHITECTURE, len(flat))
    sinkhorn_matching(ARCHITECTURE, ARCHITECTURE.unflatten(flat), objective, objective, start, ITERATIONS)


@pytest.mark.parametrize("together", [True, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("objective", [distance, midpoint_loss])
def test_sinkhorn(benchmark, objective, together):
    """The ratio of the medians of both ways is what batching gains."""
    parts = [FLAT[1:]] if together else FLAT[1:].split(1)
    benchmark.pedantic(lambda: [align(part, objective) for part in parts], rounds=3, warmup_rounds=1)
