"""Training a whole zoo at once: networks are slices of the same batched matrices, or go through kernels one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.config import ZooConfig
from wflib.distributed import put_together, rank, world_size
from wflib.networks import Networks, batch_losses, largest_value
from wflib.rng import generator, permutations, seed_of
from wflib.storage import KeptParts
from wflib.tasks import Dataset, Split, check_dataset
from wflib.zoo.compiled_training import MOMENTUM, CompiledTrainer
from wflib.zoo.initial import initialize
from wflib.zoo.posterior_draws import posterior_draws
from wflib.zoo.zoo import Zoo

__all__ = ["TRAINED_HERE", "train_networks", "train_zoo"]

TRAINED_HERE = "wflib train-zoo"
"""Provenance of a zoo from :func:`train_zoo`."""

CACHED_ELEMENTS = 2**21
"""Inputs, in numbers, of all networks that a CPU trains at once: with more they leave its cache, with fewer it waits for the
overheads of operations."""


def networks_at_once(architecture: Architecture, examples: int) -> int:
    """How many networks a CPU trains together, on so many examples each, so that their values stay in its cache."""
    return max(1, CACHED_ELEMENTS // (examples * largest_value(architecture)))


def build_optimizer(config: ZooConfig, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The recipe's optimizer. Losses are summed over networks, so that each network sees its own gradient only."""
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)


class BatchedTrainer:
    """Some of the networks that are trained, as slices of the same tensors, with one optimizer.

    Args:
        start: Where training begins, and on which device.
        first: Number of the first of them among all, which names its order of examples.
        train: Training examples, shared by all, on the same device.
        config: Optimizer, rates and batch size.
    """

    def __init__(self, start: Networks, first: int, train: Split, config: ZooConfig) -> None:
        self.architecture, self.train, self.weights = start.architecture, train, start.map(torch.clone).weights
        learned = [
            tensor.requires_grad_() for name, tensor in self.weights.items() if name not in self.architecture.statistics
        ]
        self.optimizer, self.size = build_optimizer(config, learned), min(config.batch_size, len(train.inputs))
        self.rows = torch.arange(first, first + len(start), device=start.device)

    def run(self, seed: int, steps: range, places: Sequence[int], kept: Tensor) -> Tensor:
        """As :meth:`CompiledTrainer.run <wflib.zoo.compiled_training.CompiledTrainer.run>`."""
        inputs, targets = self.train.inputs, self.train.targets
        order = permutations(seed, self.rows, len(inputs))
        # One buffer for all batches of an epoch: large blocks of fresh memory cost more than filling them.
        batch = inputs.new_empty(len(order), self.size, *inputs.shape[1:])
        for chosen, place in zip(order.split(self.size, 1), places, strict=False):
            torch.index_select(inputs, 0, chosen.flatten(), out=batch.view(-1, *inputs.shape[1:]))
            losses, statistics = batch_losses(self.architecture, self.weights, Split(batch, targets[chosen]), MOMENTUM)
            self.optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()
            self.optimizer.step()
            self.weights |= {name: tensor.detach() for name, tensor in statistics.items()}
            if place >= 0:
                kept[:, place] = self.architecture.flatten(self.weights).detach().cpu()
        return losses.detach()


def train_zoo(
    architecture: Architecture,
    dataset: Dataset,
    config: ZooConfig,
    device: str | torch.device = "cpu",
    progress: Callable[[float, int, float], None] | None = None,
    parts: KeptParts | None = None,
) -> Zoo:
    """Train ``config.networks`` networks together and keep snapshots of their trajectories, or draw them by Markov chains.

    Every network has its own initialization and its own order of examples; a GPU takes all through an epoch at once, a CPU
    as many as fit its cache, or one by one (:mod:`~wflib.zoo.compiled_training`). After ``skip_epochs`` epochs a snapshot of
    all networks is kept every ``snapshot_every`` iterations, and before them ``early_snapshots`` on the way. The last
    ``held_out`` share of trajectories is marked held out, one at least and never all. Several processes
    (:mod:`wflib.distributed`) share the networks, whose random numbers do not depend on that.

    With another ``sampler`` than the optimizer trajectories are chains and snapshots are draws from the posterior, see
    :func:`~wflib.zoo.posterior_draws.posterior_draws`; an epoch of ``hmc`` is one iteration, a trajectory of its own. Of
    ``gaussian`` nothing is trained: weights are independent draws from N(1, ``init_std``²), the thesis' toy (section 7.1).

    Args:
        architecture: What a network is. Batch norms are trained with the statistics of each batch.
        dataset: Networks learn from its training part alone; examples in the shape that networks take.
        config: Recipe, sizes and seed.
        device: Where to train.
        progress: Called with (epochs done, epochs, mean training loss of those that have just ended one), as parts of the
            networks come to the end of an epoch.
        parts: Keeps networks that are trained, for a run that is killed; not of chains, nor where all are trained at once.

    Returns:
        The zoo, on the CPU, with its initial weights.

    Raises:
        ValueError: A dataset that :func:`~wflib.tasks.check_dataset` refuses, no snapshot would be kept, a network diverged
            to NaN or infinity, or several processes are to run chains.
    """
    if config.sampler == "gaussian":
        drawn = generator(config.seed, "zoo", "init", device=device)
        start = initialize(architecture, config.networks, config.init_std, drawn, config.init)
        end = initialize(architecture, config.networks, config.init_std, drawn, config.init).flat + 1
        return zoo_of_runs(dataset, config, start, end[:, None].cpu(), [0])
    check_dataset(dataset, "train_zoo")
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
    steps = early_steps(first, config.early_snapshots)
    steps += range(first, config.epochs * iterations + 1, config.snapshot_every)
    if config.sampler != "optimizer":
        if world_size() > 1:
            raise ValueError(f"zoo.sampler: {config.sampler} runs its chains in one process; start without torchrun.")
        drawn = generator(config.seed, "zoo", config.sampler, device=device)
        at_once = networks_at_once(architecture, size) if inputs.device.type == "cpu" else networks
        flat = posterior_draws(start, Split(inputs, targets), config, steps, at_once, drawn, progress)
        return zoo_of_runs(dataset, config, start, flat, steps)
    flat = train_networks(start, Split(inputs, targets), config, steps, progress, parts)
    return zoo_of_runs(dataset, config, start, flat, steps)


def early_steps(first: int, count: int) -> list[int]:
    """Steps of snapshots before the first one that counts, at equal distances.

    Raises:
        ValueError: More snapshots than steps.
    """
    if count >= first:
        raise ValueError(
            f"train_zoo: zoo.early_snapshots: {count} are more than the {first - 1} iterations before the first snapshot; "
            "lower it, or raise zoo.skip_epochs."
        )
    return [round(first * place / (count + 1)) for place in range(1, count + 1)]


def train_networks(
    start: Networks,
    train: Split,
    config: ZooConfig,
    steps: Sequence[int],
    progress: Callable[[float, int, float], None] | None = None,
    parts: KeptParts | None = None,
) -> Tensor:
    """Train given networks by a zoo's recipe, each by itself and with an order of examples of its own.

    A zoo's trainer is this from random weights: the same start, seed and recipe end in the same networks. Network n sees
    the examples of epoch e in an order that depends on the seed, e and n alone, on all devices. Perceptrons,
    convolutional and residual networks and transformers of float32 on a CPU are trained by compiled kernels where there is a
    C++ compiler, which differ from torch by rounding.

    Args:
        start: Ordinary networks, where training begins; it runs where they are.
        train: Training examples in the shape that networks take, shared by all.
        config: Optimizer, rates, batch size, epochs, and the seed of the order of examples. What it says of numbers of
            networks, initial weights and snapshots does not count.
        steps: After which iterations networks are kept, rising; 0 is the start itself. Training ends with the last of them.
        progress: As in :func:`train_zoo`.
        parts: As in :func:`train_zoo`; its folder names start, examples, recipe and steps.

    Returns:
        Flat networks on the CPU, (networks, steps, D).

    Raises:
        ValueError: Canonical networks, steps that do not rise or are more than the recipe's epochs have, or a network that
            diverged to NaN or infinity.
    """
    architecture, networks, device = start.architecture, len(start), start.device
    train, examples = train.to(device), len(train.inputs)
    size = min(config.batch_size, examples)
    iterations = max(1, examples // config.batch_size)
    if architecture.canonical:
        raise ValueError("train_networks: expected ordinary networks, got canonical ones; decanonicalize them first.")
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 0 or steps[-1] > config.epochs * iterations:
        raise ValueError(
            f"train_networks: expected rising steps from 0 to {config.epochs * iterations}, {iterations} an epoch, got "
            f"{list(steps)}; raise zoo.epochs for more."
        )
    at_once = networks_at_once(architecture, size) if device.type == "cpu" else networks
    if world_size() > 1:  # as many groups for each process
        at_once = math.ceil(networks / (world_size() * math.ceil(networks / at_once / world_size())))
    flat = torch.zeros(networks, len(steps), architecture.dimension)
    ours = [*zip(start.split(at_once), range(0, networks, at_once), flat.split(at_once), strict=True)][
        rank() :: world_size()
    ]
    kind = CompiledTrainer if CompiledTrainer.can_train(start, train) else BatchedTrainer
    places, epochs = {step: place for place, step in enumerate(steps)}, math.ceil(steps[-1] / iterations)

    def trained(group: int, some: Networks, first: int, kept: Tensor) -> dict[str, Tensor]:
        """Train a group of networks through all epochs."""
        trainer = kind(some, first, train, config)
        for epoch in range(epochs):
            now = range(epoch * iterations + 1, min((epoch + 1) * iterations, steps[-1]) + 1)
            columns = [places.get(step, -1) for step in now]
            losses = trainer.run(seed_of(config.seed, "zoo", "shuffle", epoch), now, columns, kept)
            if progress is not None:
                progress((group * epochs + epoch + 1) / len(ours), epochs, losses.mean().item())
        return {"weights": kept}

    parts = parts if parts is not None and len(ours) > 1 else KeptParts()
    for group, (some, first, kept) in enumerate(ours):
        name, train_them = f"{first}-{first + len(some)}", partial(trained, group, some, first, kept)
        kept.copy_(parts(name, train_them)["weights"])
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
            **({"first_step": steps[config.early_snapshots]} if config.early_snapshots else {}),
            "provenance": TRAINED_HERE,
            **({"training_examples": dataset.train.fingerprint} if dataset.has_examples else {}),
            "recipe": config.model_dump(mode="json", exclude={"shard_networks", "early_snapshots"}),
        },
    )
