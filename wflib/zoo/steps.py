"""A few full-batch steps of training from given weights: what a drawn network must be cheaper or better than."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wflib.networks import Networks
from wflib.tasks import Split
from wflib.zoo.training import batch_losses, networks_at_once

__all__ = ["full_batch_steps"]


def full_batch_steps(networks: Networks, split: Split, steps: int | Sequence[int], learning_rate: float) -> list[Networks]:
    """Adam on the mean loss of all given examples, every network by itself.

    Running statistics of batch norms become those of the examples.

    Args:
        networks: Ordinary networks, where training begins.
        split: Training examples, shared by all networks.
        steps: After how many steps, at least 0, to stop, or several such numbers.
        learning_rate: Adam's.

    Returns:
        The networks after each number of steps, in the order given.

    Raises:
        ValueError: Canonical networks or none, or a negative number of steps.
    """
    if not len(networks):
        raise ValueError("full_batch_steps: expected at least one network, got none.")
    if networks.architecture.canonical:
        raise ValueError("full_batch_steps: expected ordinary networks, got canonical ones; decanonicalize them first.")
    wanted = [steps] if isinstance(steps, int) else list(steps)
    if not wanted or min(wanted) < 0:
        raise ValueError(f"full_batch_steps: expected numbers of steps of at least 0, got {wanted}.")
    at_once = networks_at_once(networks.architecture, len(split.targets)) if networks.device.type == "cpu" else len(networks)
    found = [steps_of_some(some, split.to(networks.device), wanted, learning_rate) for some in networks.split(at_once)]
    joined = []
    for place in range(len(wanted)):
        parts = [some[place].weights for some in found]
        joined.append(networks.with_weights({name: torch.cat([part[name] for part in parts]) for name in networks.weights}))
    return joined


def steps_of_some(networks: Networks, split: Split, wanted: list[int], learning_rate: float) -> list[Networks]:
    """As :func:`full_batch_steps`, of networks that fit the cache together."""
    architecture, weights = networks.architecture, networks.map(torch.clone).weights
    learned = [weights[name].requires_grad_() for name in weights if name not in architecture.statistics]
    optimizer = torch.optim.Adam(learned, lr=learning_rate)
    if architecture.statistics:  # measured for each network on examples of its own
        split = Split(*(part.expand(len(networks), *part.shape) for part in (split.inputs, split.targets)))
    kept: dict[int, Networks] = {}
    for step in range(max(wanted) + 1):
        if step in wanted:
            with torch.no_grad():
                now = weights | batch_losses(architecture, weights, split, momentum=1.0)[1]
                kept[step] = networks.with_weights({name: tensor.detach().clone() for name, tensor in now.items()})
        if step < max(wanted):
            loss, _ = batch_losses(architecture, weights, split)
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
    return [kept[step] for step in wanted]
