"""Zoos that are draws from the posterior: trajectories are Markov chains, snapshots the draws that are kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wflib.config import ZooConfig
from wflib.networks import Networks, network_losses
from wflib.tasks import Split
from wflib.zoo.posterior import Posterior, hamiltonian_chains, stochastic_gradient_chains

__all__ = ["posterior_draws"]

SHOWN = 16
"""Chains whose training loss is told as they run."""


def posterior_draws(
    start: Networks,
    train: Split,
    config: ZooConfig,
    steps: list[int],
    at_once: int,
    generator: torch.Generator,
    progress: Callable[[int, int, float], None] | None = None,
) -> Tensor:
    """Draws of chains from the posterior with the prior N(0, init_std²), which the chains begin at a draw of.

    ``sgld`` takes iterations of mini-batches with ε = ``learning_rate`` for weights over ``init_std``; ``hmc`` takes one
    trajectory of length π/2 an epoch, the skipped epochs being its warm-up, and needs neither batch size nor learning rate.

    Args:
        start: Initial networks, one for each chain.
        train: Training examples.
        config: Section ``zoo``.
        steps: Iterations after which a draw is kept, evenly spaced.
        at_once: Chains that run together.
        generator: Source of randomness.
        progress: Called ``epochs`` times with (epoch, epochs, training loss of some chains).

    Returns:
        (chains, steps, D), on the CPU.

    Raises:
        ValueError: Networks with running statistics, or a chain diverged.
    """
    posterior = Posterior(start.architecture, train, config.init_std)
    every, warmup, z = config.snapshot_every, steps[0] - config.snapshot_every, start.flat / config.init_std
    told, done = 0, 0.0

    def tell(share: float, at: Tensor) -> None:
        """Of all work this share is done."""
        nonlocal told
        while progress is not None and told < int(share * config.epochs + 1e-9):
            told += 1
            with torch.no_grad():
                loss = network_losses(posterior.networks(at[:SHOWN]), train).mean().item()
            progress(told, config.epochs, loss)

    if config.sampler == "hmc":
        trajectory = torch.pi / 2
        chains = hamiltonian_chains(
            posterior,
            z,
            len(steps),
            every,
            warmup,
            trajectory,
            generator,
            progress=lambda count, at: tell(count / len(z), at),
        )
        return (chains.z * config.init_std).cpu()
    found = []
    for part in z.split(at_once):

        def of_all(step: int, at: Tensor, done: float = done, size: float = len(part) / len(z)) -> None:
            tell(done + size * step / steps[-1], at)

        chains = stochastic_gradient_chains(
            posterior,
            config.sampler,
            part,
            steps[-1],
            every,
            warmup,
            config.learning_rate,
            config.batch_size,
            generator,
            progress=of_all,
        )
        done += len(part) / len(z)
        found.append((chains.z * config.init_std).cpu())
    return torch.cat(found)
