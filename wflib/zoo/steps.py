"""A few steps of training from given weights: what a drawn network must be cheaper or better than, or takes afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wflib.networks import Networks, batch_losses
from wflib.tasks import Split
from wflib.zoo.compiled_training import compiled_steps
from wflib.zoo.training import networks_at_once

__all__ = ["adam_steps"]


def adam_steps(
    networks: Networks, split: Split, steps: int | Sequence[int], learning_rate: float, batches: Tensor | None = None
) -> list[Networks]:
    """Adam on the mean loss of all given examples, or of a batch of them at each step, every network by itself.

    Running statistics of batch norms become those of all examples that took part.

    Args:
        networks: Ordinary networks, where training begins.
        split: Training examples, shared by all networks.
        steps: After how many steps, at least 0, to stop, or several such numbers.
        learning_rate: Adam's.
        batches: Each step's examples, the same for all networks, indices (most steps, examples); None for all of them.

    Returns:
        The networks after each number of steps, in the order given.

    Raises:
        ValueError: Canonical networks or none, a negative number of steps, fewer batches than steps, or empty ones.
        IndexError: Batches name examples that there are not.
    """
    if not len(networks):
        raise ValueError("adam_steps: expected at least one network, got none.")
    if networks.architecture.canonical:
        raise ValueError("adam_steps: expected ordinary networks, got canonical ones; decanonicalize them first.")
    wanted = [steps] if isinstance(steps, int) else list(steps)
    if not wanted or min(wanted) < 0:
        raise ValueError(f"adam_steps: expected numbers of steps of at least 0, got {wanted}.")
    if batches is not None and len(batches) < max(wanted):
        raise ValueError(f"adam_steps: expected a batch for each of {max(wanted)} steps, got {len(batches)}.")
    if batches is not None and not batches.shape[1]:
        raise ValueError("adam_steps: expected at least one example a batch, got none.")
    examples = len(split.targets) if batches is None else batches.shape[1]
    at_once = networks_at_once(networks.architecture, examples) if networks.device.type == "cpu" else len(networks)
    split = split.to(networks.device)
    found = [steps_of_some(some, split, wanted, learning_rate, batches) for some in networks.split(at_once)]
    joined = []
    for place in range(len(wanted)):
        parts = [some[place].weights for some in found]
        joined.append(networks.with_weights({name: torch.cat([part[name] for part in parts]) for name in networks.weights}))
    return joined


def steps_of_some(
    networks: Networks, split: Split, wanted: list[int], learning_rate: float, batches: Tensor | None
) -> list[Networks]:
    """As :func:`adam_steps`, of networks that fit the cache together."""
    architecture, everyone = networks.architecture, torch.arange(len(split.targets)).expand(max(wanted), -1)
    found = compiled_steps(networks, split, wanted, learning_rate, everyone if batches is None else batches)
    if found is None:
        found = torch_steps(networks, split, wanted, learning_rate, batches)
    everything = split if batches is None else split[(batches % len(split.targets)).unique()]  # -1 is the last one
    kept = []
    for flat in found:
        now = architecture.unflatten(flat)
        if architecture.statistics:
            with torch.no_grad():
                now |= batch_losses(architecture, now, everything)[1]
        kept.append(networks.with_weights(now))
    return kept


def torch_steps(
    networks: Networks, split: Split, wanted: list[int], learning_rate: float, batches: Tensor | None
) -> list[Tensor]:
    """Flat networks after each number of steps; running statistics are left as they are."""
    architecture, weights = networks.architecture, networks.map(torch.clone).weights
    learned = [weights[name].requires_grad_() for name in weights if name not in architecture.statistics]
    optimizer = torch.optim.Adam(learned, lr=learning_rate)
    kept: dict[int, Tensor] = {}
    for step in range(max(wanted) + 1):
        if step in wanted:
            kept[step] = architecture.flatten(weights).detach()
        if step < max(wanted):
            loss, _ = batch_losses(architecture, weights, split if batches is None else split[batches[step]])
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
    return [kept[step] for step in wanted]
