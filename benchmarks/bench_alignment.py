"""Sinkhorn matching of 100 networks at once against the same descent network by network.

python -m pytest benchmarks/bench_alignment.py
"""

from __future__ import annotations

import pytest
import torch

from wflib.architecture import mlp
from wflib.networks import Networks, network_losses
from wflib.symmetry import identity, sinkhorn_matching, squared_distance
from wflib.tasks import Split

ARCHITECTURE, NETWORKS, ITERATIONS = mlp([30, 16, 16, 2]), 100, 20
RANDOM = torch.Generator().manual_seed(0)
DRAWN = Networks.from_flat(ARCHITECTURE, torch.randn(NETWORKS + 1, ARCHITECTURE.dimension, generator=RANDOM))
REFERENCE = DRAWN[:1]
EXAMPLES = Split(torch.randn(128, 30, generator=RANDOM), torch.randint(0, 2, (128,), generator=RANDOM))


def distance(networks):
    """‖θ_reference − π(θ)‖²."""
    return squared_distance(REFERENCE, networks)


def midpoint_loss(networks):
    """The loss at (θ_reference + π(θ)) / 2 on 128 examples."""
    return network_losses(REFERENCE.lerp(networks, 0.5), EXAMPLES)


def align(networks: Networks, objective) -> None:
    """Twenty steps of Sinkhorn matching."""
    sinkhorn_matching(networks, objective, objective, identity(ARCHITECTURE, len(networks)), ITERATIONS)


@pytest.mark.parametrize("together", [True, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("objective", [distance, midpoint_loss])
def test_sinkhorn(benchmark, objective, together):
    """The ratio of the medians of both ways is what batching gains."""
    parts = DRAWN[1:].split(NETWORKS if together else 1)
    benchmark.pedantic(lambda: [align(part, objective) for part in parts], rounds=3, warmup_rounds=1)
