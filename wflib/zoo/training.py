"""Training a whole zoo at once: networks are slices of the same batched matrices."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture, Weights
from wflib.config import ZooConfig
from wflib.rng import generator
from wflib.zoo.tasks import Dataset, Split
from wflib.zoo.zoo import Zoo

__all__ = ["initialize", "network_losses", "train_zoo"]

CACHED_ELEMENTS = 2**21
"""Inputs, in numbers, of all networks that a CPU trains at once: with more they leave its cache, with fewer it waits for the
overheads of operations."""


def network_losses(architecture: Architecture, weights: Weights, split: Split) -> Tensor:
    """Mean loss of every network on a set of examples: cross-entropy in nats, or half the squared error.

    Args:
        architecture: What a network is.
        weights: Tensors of shape (networks, *shape).
        split: Examples shared by all networks, or with a leading network axis.

    Returns:
        (networks,).

    Raises:
        ValueError: Inputs of another number of features.
    """
    if tuple(split.inputs.shape[-len(architecture.inputs) :]) != architecture.inputs:
        expected = ", ".join(map(str, architecture.inputs))
        raise ValueError(f"Shape mismatch: expected inputs (…, {expected}), got {tuple(split.inputs.shape)}.")
    outputs = architecture.forward(weights, split.inputs)
    if architecture.task_type == "regression":
        return 0.5 * (outputs - split.targets).square().mean((1, 2))
    targets = split.targets.expand(outputs.shape[:2])
    losses = nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(outputs.shape[:2]).mean(1)


def initialize(architecture: Architecture, networks: int, std: float, random: torch.Generator) -> Weights:
    """All weights and biases from N(0, std²): the prior that flows start from as well."""
    flat = torch.randn(networks, architecture.dimension, generator=random, device=random.device)
    return architecture.unflatten(flat * std)


def build_optimizer(config: ZooConfig, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The recipe's optimizer. Losses are summed over networks, so that each network sees its own gradient only."""
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)


def train_zoo(
    architecture: Architecture,
    dataset: Dataset,
    config: ZooConfig,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int, float], None] | None = None,
) -> Zoo:
    """Train ``config.networks`` networks together and keep snapshots of their trajectories.

    Every network has its own initialization and its own order of examples; a GPU takes all through an epoch at once, a CPU
    as many as fit its cache. After ``skip_epochs`` epochs a snapshot of all networks is kept every ``snapshot_every``
    iterations. The last ``held_out`` share of trajectories is marked held out, one at least and never all.

    Args:
        architecture: What a network is.
        dataset: Only its training part is read.
        config: Recipe, sizes and seed.
        device: Where to train.
        progress: Called after each epoch with (epoch, epochs, mean training loss).

    Returns:
        The zoo, on the CPU, with its initial weights.

    Raises:
        ValueError: No snapshot would be kept, or a network diverged to NaN or infinity.
    """
    inputs, targets = dataset.train.inputs.to(device), dataset.train.targets.to(device)
    examples, networks, size = len(inputs), config.networks, min(config.batch_size, len(inputs))
    iterations = max(1, examples // config.batch_size)
    kept_iterations = (config.epochs - config.skip_epochs) * iterations
    if kept_iterations < config.snapshot_every:
        raise ValueError(
            f"train_zoo: no snapshot would be kept: {kept_iterations} iterations follow the skipped epochs and "
            f"zoo.snapshot_every is {config.snapshot_every}; lower it, or raise zoo.epochs."
        )
    weights = initialize(architecture, networks, config.init_std, generator(config.seed, "zoo", "init", device=device))
    initial = {name: tensor.cpu().clone() for name, tensor in weights.items()}
    at_once = networks if inputs.device.type != "cpu" else max(1, CACHED_ELEMENTS // (size * dataset.features))
    parts = zip(*(tensor.split(at_once) for tensor in weights.values()), strict=True)
    trained = [{name: tensor.clone().requires_grad_() for name, tensor in zip(weights, part, strict=True)} for part in parts]
    optimizers = [build_optimizer(config, list(some.values())) for some in trained]
    first = config.skip_epochs * iterations + config.snapshot_every
    steps = list(range(first, config.epochs * iterations + 1, config.snapshot_every))
    places = {step: place for place, step in enumerate(steps)}
    flat = torch.empty(networks, len(steps), architecture.dimension)
    shuffle = generator(config.seed, "zoo", "shuffle", device=device)
    # One buffer for every iteration's examples: large blocks of fresh memory cost more than filling them.
    buffer = inputs.new_empty(min(at_once, networks), size, dataset.features)
    for epoch in range(config.epochs):
        order, losses = torch.rand(networks, examples, generator=shuffle, device=device).argsort(1), []
        for some, optimizer, ours, kept in zip(trained, optimizers, order.split(at_once), flat.split(at_once), strict=True):
            batch = buffer[: len(ours)]
            for step, chosen in enumerate(ours.split(size, 1)[:iterations], epoch * iterations + 1):
                torch.index_select(inputs, 0, chosen.flatten(), out=batch.view(-1, dataset.features))
                loss = network_losses(architecture, some, Split(batch, targets[chosen]))
                optimizer.zero_grad(set_to_none=True)
                loss.sum().backward()
                optimizer.step()
                if step in places:
                    kept[:, places[step]] = architecture.flatten(some).detach().cpu()
            losses.append(loss.detach())
        if progress is not None:
            progress(epoch + 1, config.epochs, torch.cat(losses).mean().item())
    diverged = ~torch.isfinite(flat).all(-1).all(-1)
    if bool(diverged.any()):
        raise ValueError(f"train_zoo: {int(diverged.sum())} of {networks} networks diverged; lower zoo.learning_rate.")
    held_out = min(max(1, round(networks * config.held_out)), networks - 1)
    kept_out = torch.arange(networks) >= networks - held_out
    count = len(steps)
    return Zoo(
        architecture=architecture,
        weights=architecture.unflatten(flat.flatten(0, 1)),
        trajectory=torch.arange(networks).repeat_interleave(count),
        step=torch.tensor(steps).repeat(networks),
        held_out=kept_out.repeat_interleave(count),
        form="trained",
        initial=initial,
        initial_architecture=architecture,
        metadata={"task": dataset.task, "seed": config.seed, "init_std": config.init_std, "provenance": "wflib train-zoo"},
    )
