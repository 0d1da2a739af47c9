"""A family of networks with trajectories that needs no training, and generators that are wrong about it in known ways."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.tasks import Split
from wflib.zoo import Zoo

ARCHITECTURE = mlp([4, 6, 6, 2])
RUN, SNAPSHOT = 0.3, 0.05
"""Deviation of runs about the centre, and of snapshots about their run."""
CENTRE = torch.randn(ARCHITECTURE.dimension, generator=generator(0, "centre")) * 0.6


def runs(count: int, seed: int, *names: str | int) -> Tensor:
    """Independent networks of the family, (count, D)."""
    noise = torch.randn(2, count, ARCHITECTURE.dimension, generator=generator(seed, "runs", *names))
    return CENTRE + RUN * noise[0] + SNAPSHOT * noise[1]


def zoo(training: int, held_out: int, snapshots: int, seed: int, uneven: bool = False) -> Zoo:
    """Trajectories with so many snapshots each, or, uneven, with one to so many; the last trajectories are held out."""
    random, count = generator(seed, "zoo"), training + held_out
    run = CENTRE + RUN * torch.randn(count, 1, ARCHITECTURE.dimension, generator=random)
    flat = (run + SNAPSHOT * torch.randn(count, snapshots, ARCHITECTURE.dimension, generator=random)).flatten(0, 1)
    trajectory = torch.arange(count).repeat_interleave(snapshots)
    step = torch.arange(snapshots).repeat(count)
    every = Zoo(Networks.from_flat(ARCHITECTURE, flat), trajectory, step, trajectory >= training, "trained")
    kept = torch.randint(1, snapshots + 1, (count,), generator=random)
    return every[step < kept[trajectory]] if uneven else every


def examples(count: int = 100) -> Split:
    """Inputs and what the centre says of them."""
    inputs = torch.randn(count, 4, generator=generator(0, "inputs"))
    return Split(inputs, Networks.from_flat(ARCHITECTURE, CENTRE[None]).forward(inputs)[0].argmax(-1))


def wrong_networks(kind: str, training: Zoo, count: int, seed: int) -> Networks:
    """What a generator draws that is wrong in one way.

    Raises:
        KeyError: An unknown way.
    """
    flat, fresh = training.networks.flat, runs(count, seed, kind)
    copied = flat[torch.randint(len(flat), (count,), generator=generator(seed, "copies", kind))]
    mean = flat.mean(0)
    tenth = torch.arange(count)[:, None] < count // 10
    noise = torch.randn(count, ARCHITECTURE.dimension, generator=generator(seed, "noise"))
    return Networks.from_flat(
        ARCHITECTURE,
        {
            "memoriser": copied,
            "copies with noise": copied + 0.03 * noise,
            "a tenth of copies": torch.where(tenth, copied, fresh),
            "noise": 0.6 * noise,
            "mean network": mean.expand(count, -1),
            "narrow": mean + 0.9**0.5 * (fresh - mean),
            "wide norms": 1.03 * fresh,
        }[kind],
    )
