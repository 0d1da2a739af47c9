"""Training a whole zoo at once: networks are slices of the same batched matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights, is_perceptron, with_batch_statistics
from wflib.architecture.operations import Moments
from wflib.config import ZooConfig
from wflib.distributed import put_together, rank, world_size
from wflib.networks import Networks, network_losses, output_losses
from wflib.rng import generator
from wflib.tasks import Dataset, Split
from wflib.zoo.initial import initialize
from wflib.zoo.posterior_draws import posterior_draws
from wflib.zoo.zoo import Zoo

__all__ = ["train_networks", "train_zoo"]

CACHED_ELEMENTS = 2**21
"""Inputs, in numbers, of all networks that a CPU trains at once: with more they leave its cache, with fewer it waits for the
overheads of operations."""
MOMENTUM = 0.1
"""How far running statistics move towards those of a batch, as in torch."""


def batch_losses(
    architecture: Architecture, weights: Weights, split: Split, momentum: float = MOMENTUM
) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses of networks in training mode, and their running statistics after these examples.

    Statistics are measured rather than learned: they move towards a batch's mean and unbiased variance, all the way with a
    momentum of one.
    """
    if not architecture.statistics:
        return network_losses(Networks.unchecked(architecture, weights), split), {}
    training, examples, found = with_batch_statistics(architecture), split.inputs.shape[1], {}
    measured = [operation for operation in training.operations if isinstance(operation, Moments)]
    kept = {name for operation in measured for name in (operation.output, *operation.inputs)}
    values = training.run(weights, split.inputs, kept)
    for operation in measured:
        count = examples * values[operation.inputs[0]][0, 0, 0].numel()
        mean, variance = values[operation.output].detach().unbind(1)
        found[operation.mean] = weights[operation.mean].lerp(mean, momentum)
        found[operation.variance] = weights[operation.variance].lerp(variance * (count / max(count - 1, 1)), momentum)
    return output_losses(architecture.task_type, values[training.operations[-1].output], split.targets).mean(1), found


def networks_at_once(architecture: Architecture, examples: int) -> int:
    """How many networks a CPU trains together, on so many examples each, so that their values stay in its cache.

    A perceptron's largest value are its features, other networks' is the largest of all that they compute.
    """
    numbers = math.prod(architecture.inputs)
    if not is_perceptron(architecture):
        weights = {name: torch.zeros(1, *shape) for name, shape in architecture.shapes}
        every = {operation.output for operation in architecture.operations}
        values = architecture.run(weights, torch.zeros(1, *architecture.inputs), every)
        numbers = max(numbers, *(value[0].numel() for value in values.values()))
    return max(1, CACHED_ELEMENTS // (examples * numbers))


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
    """Train ``config.networks`` networks together and keep snapshots of their trajectories, or draw them by Markov chains.

    Every network has its own initialization and its own order of examples; a GPU takes all through an epoch at once, a CPU
    as many as fit its cache. After ``skip_epochs`` epochs a snapshot of all networks is kept every ``snapshot_every``
    iterations. The last ``held_out`` share of trajectories is marked held out, one at least and never all. Several processes
    (:mod:`wflib.distributed`) share the networks, whose random numbers do not depend on that.

    With another ``sampler`` than the optimizer trajectories are chains and snapshots are draws from the posterior, see
    :func:`~wflib.zoo.posterior_draws.posterior_draws`; an epoch of ``hmc`` is one iteration, a trajectory of its own. Of
    ``gaussian`` nothing is trained: weights are independent draws from N(1, ``init_std``²), the thesis' toy (section 7.1).

    Args:
        architecture: What a network is. Batch norms are trained with the statistics of each batch.
        dataset: Only its training part is read; examples in the shape that networks take.
        config: Recipe, sizes and seed.
        device: Where to train.
        progress: Called after each epoch with (epoch, epochs, mean training loss).

    Returns:
        The zoo, on the CPU, with its initial weights.

    Raises:
        ValueError: No snapshot would be kept, a network diverged to NaN or infinity, or several processes are to run chains.
    """
    if config.sampler == "gaussian":
        drawn = generator(config.seed, "zoo", "init", device=device)
        start = initialize(architecture, config.networks, config.init_std, drawn, config.init)
        end = initialize(architecture, config.networks, config.init_std, drawn, config.init).flat + 1
        return zoo_of_runs(dataset, config, start, end[:, None].cpu(), [0])
    inputs, targets = dataset.train.inputs.to(device), dataset.train.targets.to(device)
    examples, networks, size = len(inputs), config.networks, min(config.batch_size, len(inputs))
    iterations = 1 if config.sampler == "hmc" else max(1, examples // config.batch_size)
    kept_iterations = (config.epochs - config.skip_epochs) * iterations
    if kept_iterations < config.snapshot_every:
        raise ValueError(
            f"train_zoo: no snapshot would be kept: {kept_iterations} iterations follow the skipped epochs and "
            f"zoo.snapshot_every is {config.snapshot_every}; lower it, or raise zoo.epochs."
        )
    drawn = generator(config.seed, "zoo", "init", device=device)
    start = initialize(architecture, networks, config.init_std, drawn, config.init)
    first = config.skip_epochs * iterations + config.snapshot_every
    steps = list(range(first, config.epochs * iterations + 1, config.snapshot_every))
    if config.sampler != "optimizer":
        if world_size() > 1:
            raise ValueError(f"zoo.sampler: {config.sampler} runs its chains in one process; start without torchrun.")
        drawn = generator(config.seed, "zoo", config.sampler, device=device)
        at_once = networks_at_once(architecture, size) if inputs.device.type == "cpu" else networks
        flat = posterior_draws(start, Split(inputs, targets), config, steps, at_once, drawn, progress)
        return zoo_of_runs(dataset, config, start, flat, steps)
    flat = train_networks(start, Split(inputs, targets), config, steps, progress)
    return zoo_of_runs(dataset, config, start, flat, steps)


def train_networks(
    start: Networks,
    train: Split,
    config: ZooConfig,
    steps: Sequence[int],
    progress: Callable[[int, int, float], None] | None = None,
) -> Tensor:
    """Train given networks by a zoo's recipe, each by itself and with an order of examples of its own.

    A zoo's trainer is this from random weights: the same start, seed and recipe end in the same networks.

    Args:
        start: Ordinary networks, where training begins; it runs where they are.
        train: Training examples in the shape that networks take, shared by all.
        config: Optimizer, rates, batch size, epochs, and the seed of the order of examples. What it says of numbers of
            networks, initial weights and snapshots does not count.
        steps: After which iterations networks are kept, rising; 0 is the start itself. Training ends with the last of them.
        progress: Called after each epoch with (epoch, epochs, mean training loss).

    Returns:
        Flat networks on the CPU, (networks, steps, D).

    Raises:
        ValueError: Canonical networks, steps that do not rise or are more than the recipe's epochs have, or a network that
            diverged to NaN or infinity.
    """
    architecture, networks, device = start.architecture, len(start), start.device
    inputs, targets = train.inputs.to(device), train.targets.to(device)
    examples, size, shape = len(inputs), min(config.batch_size, len(inputs)), tuple(inputs.shape[1:])
    iterations = max(1, examples // config.batch_size)
    if architecture.canonical:
        raise ValueError("train_networks: expected ordinary networks, got canonical ones; decanonicalize them first.")
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 0 or steps[-1] > config.epochs * iterations:
        raise ValueError(
            f"train_networks: expected rising steps from 0 to {config.epochs * iterations}, {iterations} an epoch, got "
            f"{list(steps)}; raise zoo.epochs for more."
        )
    learned = [name for name in start.weights if name not in architecture.statistics]
    at_once = networks_at_once(architecture, size) if device.type == "cpu" else networks
    if world_size() > 1:  # as many groups for each process
        at_once = math.ceil(networks / (world_size() * math.ceil(networks / at_once / world_size())))
    trained = [part.map(torch.clone).weights for part in start.split(at_once)]
    optimizers = [build_optimizer(config, [some[name].requires_grad_() for name in learned]) for some in trained]
    places = {step: place for place, step in enumerate(steps)}
    flat = torch.zeros(networks, len(steps), architecture.dimension)
    shuffle = generator(config.seed, "zoo", "shuffle", device=device)
    # One buffer for every iteration's examples: large blocks of fresh memory cost more than filling them.
    buffer = inputs.new_empty(min(at_once, networks), size, *shape)
    epochs = math.ceil(steps[-1] / iterations)
    for epoch in range(epochs):
        order, losses = torch.rand(networks, examples, generator=shuffle, device=device).argsort(1), []
        groups = zip(trained, optimizers, order.split(at_once), flat.split(at_once), strict=True)
        last = min(iterations, steps[-1] - epoch * iterations)
        for some, optimizer, shuffled, kept in list(groups)[rank() :: world_size()]:
            batch = buffer[: len(shuffled)]
            for step, chosen in enumerate(shuffled.split(size, 1)[:last], epoch * iterations + 1):
                torch.index_select(inputs, 0, chosen.flatten(), out=batch.view(-1, *shape))
                loss, statistics = batch_losses(architecture, some, Split(batch, targets[chosen]))
                optimizer.zero_grad(set_to_none=True)
                loss.sum().backward()
                optimizer.step()
                some |= statistics
                if step in places:
                    kept[:, places[step]] = architecture.flatten(some).detach().cpu()
            losses.append(loss.detach())
        if progress is not None and losses:
            progress(epoch + 1, epochs, torch.cat(losses).mean().item())
    put_together(flat)
    if 0 in places:
        flat[:, places[0]] = start.flat.detach().cpu()
    diverged = ~torch.isfinite(flat).all(-1).all(-1)
    if bool(diverged.any()):
        raise ValueError(f"train_zoo: {int(diverged.sum())} of {networks} networks diverged; lower zoo.learning_rate.")
    return flat


def zoo_of_runs(dataset: Dataset, config: ZooConfig, start: Networks, flat: Tensor, steps: list[int]) -> Zoo:
    """The zoo of snapshots (networks, steps, D) of runs that began at ``start``."""
    networks, count = flat.shape[:2]
    held_out = min(max(1, round(networks * config.held_out)), networks - 1)
    kept_out = torch.arange(networks) >= networks - held_out
    # One deviation describes initial weights of one distribution only.
    declared = {"init_std": config.init_std} if config.init == "normal" else {"init": config.init}
    return Zoo(
        networks=Networks.from_flat(start.architecture, flat.flatten(0, 1)),
        trajectory=torch.arange(networks).repeat_interleave(count),
        step=torch.tensor(steps).repeat(networks),
        held_out=kept_out.repeat_interleave(count),
        form="trained",
        initial=start.to("cpu"),
        metadata={
            "task": dataset.task,
            "seed": config.seed,
            **declared,
            "provenance": "wflib train-zoo",
            "recipe": config.model_dump(mode="json", exclude={"shard_networks"}),
        },
    )
