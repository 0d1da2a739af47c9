"""Endless mini-batches, every network with an order of examples of its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from wflib.tasks import Split

__all__ = ["minibatches"]


def minibatches(split: Split, networks: int, size: int, generator: torch.Generator) -> Iterator[Split]:
    """Examples (networks, size, *inputs), without replacement within an epoch; what an epoch has left over is not used.

    Where a batch is to hold all examples, it is the split itself, shared by all networks.

    Args:
        split: Training examples, (examples, *inputs).
        networks: How many networks want batches.
        size: Examples of a batch.
        generator: Draws the orders.

    Yields:
        Batches without end.
    """
    examples = len(split.targets)
    while size >= examples:
        yield split
    while True:
        order = torch.rand(networks, examples, generator=generator, device=generator.device).argsort(1)
        for chosen in order.to(split.inputs.device).split(size, 1)[: examples // size]:
            yield split[chosen]
