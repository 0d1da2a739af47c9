"""Training a whole zoo at once: every network is a slice of the same batched matrices."""

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


def network_losses(architecture: Architecture, weights: Weights, split: Split) -> Tensor:
    """Mean loss of every network on a set of examples: cross-entropy in nats, or half the squared error.

    Args:
        architecture: What a network is.
        weights: Tensors of shape (networks, *shape).
        split: Examples shared by all networks, or with a leading network axis.

    Returns:
        (networks,).
    """
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

    Every network has its own initialization and its own order of examples. After ``skip_epochs`` epochs a snapshot of all
    networks is kept every ``snapshot_every`` iterations. The last ``held_out`` share of trajectories is marked held out,
    one at least and never all.

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
    examples, networks = len(inputs), config.networks
    iterations = max(1, examples // config.batch_size)
    kept_iterations = (config.epochs - config.skip_epochs) * iterations
    if kept_iterations < config.snapshot_every:
        raise ValueError(
            f"train_zoo: no snapshot would be kept: {kept_iterations} iterations follow the skipped epochs and "
            f"zoo.snapshot_every is {config.snapshot_every}; lower it, or raise zoo.epochs."
        )
    weights = initialize(architecture, networks, config.init_std, generator(config.seed, "zoo", "init", device=device))
    initial = {name: tensor.cpu().clone() for name, tensor in weights.items()}
    weights = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    optimizer = build_optimizer(config, list(weights.values()))
    shuffle = generator(config.seed, "zoo", "shuffle", device=device)
    # One buffer for every iteration's examples: large blocks of fresh memory cost more than filling them.
    batch = inputs.new_empty(networks, min(config.batch_size, examples), dataset.features)
    snapshots, steps, step = [], [], 0
    for epoch in range(config.epochs):
        order = torch.rand(networks, examples, generator=shuffle, device=device).argsort(1)
        for iteration in range(iterations):
            chosen = order[:, iteration * config.batch_size : (iteration + 1) * config.batch_size]
            torch.index_select(inputs, 0, chosen.flatten(), out=batch.view(-1, dataset.features))
            losses = network_losses(architecture, weights, Split(batch, targets[chosen]))
            optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimizer.step()
            step += 1
            since_skip = step - config.skip_epochs * iterations
            if since_skip > 0 and since_skip % config.snapshot_every == 0:
                snapshots.append(architecture.flatten(weights).detach().cpu().clone())
                steps.append(step)
        if progress is not None:
            progress(epoch + 1, config.epochs, losses.mean().item())
    flat = torch.stack(snapshots, 1)
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
