"""Polishing: a few full-batch steps of training that networks take after they were drawn, from whatever model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from wflib.config import SampleConfig
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.symmetry import canonicalize, decanonicalize
from wflib.tasks import Split
from wflib.zoo import full_batch_steps

__all__ = ["LEARNING_RATES", "Polished", "best_learning_rate", "polish", "trained_further"]

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03)
"""Among which ``sample.polish_learning_rate: auto`` chooses."""
TRIED = 100
"""Most drawn networks by which it does."""


@dataclass(frozen=True)
class Polished:
    """What :func:`polish` returns.

    Attributes:
        networks: In the form in which they were drawn.
        learning_rate: The one that was given or chosen; None without steps.
        seconds: That all of it took, the choice included.
    """

    networks: Networks
    learning_rate: float | None
    seconds: float


def polish(
    networks: Networks,
    train: Split,
    validation: Split,
    config: SampleConfig,
    progress: Callable[[int], None] | None = None,
) -> Polished:
    """Train drawn networks further, each by itself, by ``config.polish_steps`` full-batch steps of Adam.

    At most ``config.polish_examples`` training examples, a random subset by ``config.seed``, are the batch. Where
    ``config.polish_learning_rate`` is ``auto``, it is the one of ``LEARNING_RATES`` after whose steps up to ``TRIED`` of
    the networks have the lowest mean validation loss.

    Args:
        networks: Ordinary or canonical ones.
        train: Training examples in the shape that networks take.
        validation: Validation examples, which only the choice of the rate reads.
        config: Section ``sample``.
        progress: Called with the number of networks that have their steps.

    Returns:
        Networks of the same form, canonical ones on the manifold; without steps the very ones that were given.

    Raises:
        ValueError: Steps without examples, or networks that ran to NaN or infinity.
    """
    if config.polish_steps == 0:
        return Polished(networks, None, 0.0)
    if not len(train.targets):
        raise ValueError(f"polish: sample.polish_steps: {config.polish_steps} needs training examples; choose 0.")
    started, random = time.perf_counter(), generator(config.seed, "sample", "polish")
    chosen = torch.randperm(len(train.targets), generator=random)[: config.polish_examples]
    batch = Split(train.inputs[chosen], train.targets[chosen]).to(networks.device)
    if config.polish_learning_rate == "auto":
        tried = networks[torch.randperm(len(networks), generator=random)[:TRIED]]
        rate = best_learning_rate(tried, batch, validation, config.polish_steps, LEARNING_RATES)
    else:
        rate = config.polish_learning_rate
    moved = trained_further(networks, batch, config.polish_steps, rate, progress=progress)
    moved.require_finite("polish", "lower sample.polish_learning_rate or sample.polish_steps")
    return Polished(moved, rate, time.perf_counter() - started)


def best_learning_rate(
    networks: Networks, train: Split, validation: Split, steps: int, learning_rates: Sequence[float]
) -> float:
    """The learning rate with the lowest mean validation loss after so many full-batch steps from given networks.

    Args:
        networks: Where the steps begin, ordinary or canonical.
        train: Examples of each step.
        validation: Examples that say which is best; losses that are not finite are worst.
        steps: How many.
        learning_rates: Among which to choose.
    """
    losses = []
    for rate in learning_rates:
        moved = trained_further(networks, train, steps, rate)
        losses.append(network_losses(moved, validation.to(moved.device), chunk=256).mean())
    return learning_rates[int(torch.stack(losses).nan_to_num(torch.inf).argmin())]


def trained_further(
    networks: Networks,
    train: Split,
    steps: int,
    learning_rate: float,
    chunk: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Networks:
    """Networks after full-batch steps of Adam, in the form in which they came.

    Canonical networks take them as the ordinary ones behind them, and are made canonical again: the steps do not depend on
    the form. Running statistics become those of the examples.

    Args:
        networks: Ordinary or canonical ones.
        train: Examples of each step.
        steps: How many, at least 0.
        learning_rate: Adam's.
        chunk: Networks trained at a time, which bounds memory.
        progress: Called with the number of networks trained so far.
    """
    norm, parts, done = networks.architecture.norm, [], 0
    for some in decanonicalize(networks).split(chunk):
        (moved,) = full_batch_steps(some, train, steps, learning_rate)
        parts.append(moved.weights)
        done += len(moved)
        if progress is not None:
            progress(done)
    ordinary = moved.with_weights({name: torch.cat([part[name] for part in parts]) for name in moved.weights})
    return ordinary if norm is None else canonicalize(ordinary, norm).networks
