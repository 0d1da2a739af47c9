"""Polishing: a few steps of training that networks take after they were drawn, from whatever model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.config import SampleConfig
from wflib.networks import Networks, network_losses
from wflib.rng import generator, random_order
from wflib.symmetry import canonicalize, decanonicalize
from wflib.tasks import Split
from wflib.zoo import adam_steps

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
    """Train drawn networks further, each by itself, by ``config.polish_steps`` steps of Adam.

    A step's batch are ``config.polish_examples`` training examples, drawn anew for each step by ``config.seed`` and the same
    for all networks, or all examples where there are no more. Where ``config.polish_learning_rate`` is ``auto``, it is the
    one of ``LEARNING_RATES`` after whose steps up to ``TRIED`` of the networks have the lowest mean validation loss.

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
    batches, train = batches_of(len(train.targets), config, random), train.to(networks.device)
    if config.polish_learning_rate == "auto":
        tried = networks[torch.randperm(len(networks), generator=random)[:TRIED]]
        rate = best_learning_rate(tried, train, validation, config.polish_steps, LEARNING_RATES, batches)
    else:
        rate = config.polish_learning_rate
    moved = trained_further(networks, train, config.polish_steps, rate, batches, progress=progress)
    moved.require_finite("polish", "lower sample.polish_learning_rate or sample.polish_steps")
    return Polished(moved, rate, time.perf_counter() - started)


def batches_of(examples: int, config: SampleConfig, random: torch.Generator) -> Tensor:
    """Indices of each step's examples, (steps, batch): random ones of its own, or one order of all of them."""
    if config.polish_examples >= examples:
        return random_order(examples, random).expand(config.polish_steps, -1)
    orders = (random_order(examples, random) for _ in range(config.polish_steps))
    return torch.stack([order[: config.polish_examples] for order in orders])


def best_learning_rate(
    networks: Networks,
    train: Split,
    validation: Split,
    steps: int,
    learning_rates: Sequence[float],
    batches: Tensor | None = None,
) -> float:
    """The learning rate with the lowest mean validation loss after so many steps of Adam from given networks.

    Args:
        networks: Where the steps begin, ordinary or canonical.
        train: Training examples.
        validation: Examples that say which is best; losses that are not finite are worst.
        steps: How many.
        learning_rates: Among which to choose.
        batches: As :func:`~wflib.zoo.adam_steps` takes them; None for all examples at each step.
    """
    losses = []
    for rate in learning_rates:
        moved = trained_further(networks, train, steps, rate, batches)
        losses.append(network_losses(moved, validation.to(moved.device), chunk=256).mean())
    return learning_rates[int(torch.stack(losses).nan_to_num(torch.inf).argmin())]


def trained_further(
    networks: Networks,
    train: Split,
    steps: int,
    learning_rate: float,
    batches: Tensor | None = None,
    chunk: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Networks:
    """Networks after some steps of Adam, in the form in which they came.

    Canonical networks take them as the ordinary ones behind them, and are made canonical again: the steps do not depend on
    the form. Running statistics become those of the examples.

    Args:
        networks: Ordinary or canonical ones.
        train: Training examples.
        steps: How many, at least 0.
        learning_rate: Adam's.
        batches: As :func:`~wflib.zoo.adam_steps` takes them; None for all examples at each step.
        chunk: Networks trained at a time, which bounds memory.
        progress: Called with the number of networks trained so far.
    """
    norm, parts, done = networks.architecture.norm, [], 0
    for some in decanonicalize(networks).split(chunk):
        (moved,) = adam_steps(some, train, steps, learning_rate, batches)
        parts.append(moved.weights)
        done += len(moved)
        if progress is not None:
            progress(done)
    ordinary = moved.with_weights({name: torch.cat([part[name] for part in parts]) for name in moved.weights})
    return ordinary if norm is None else canonicalize(ordinary, norm).networks
