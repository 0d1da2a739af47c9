"""The posterior of a network's weights given training examples, and Markov chains that draw from it.

    log p(θ | D) = −Σ_j θ_j² / (2 σ_j²) − (1/T) Σ_i ℓ(y_i, f(x_i; θ)) + const

with ℓ the cross-entropy, or half the squared error of a regression (noise of variance one), over all training examples, and
T the temperature of the likelihood: T → ∞ leaves the prior N(0, σ²). Chains run in standard coordinates z = θ / σ, where
the prior is N(0, I), so that one step size fits tensors of different deviations.

Stochastic-gradient chains come from ``posteriors`` and run all at once; Hamiltonian Monte Carlo comes from ``pyro``, one
chain after the other. Both are installed by the extra ``wflib[bayes]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.config import extra_module
from wflib.networks import Networks, network_losses
from wflib.rng import global_numbers_from
from wflib.tasks import Split
from wflib.zoo.minibatches import minibatches

__all__ = ["Chains", "Posterior", "hamiltonian_chains", "stochastic_gradient_chains"]

Progress = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Posterior:
    """The posterior over flat weights of one architecture.

    Attributes:
        architecture: Of ordinary networks without running statistics.
        train: Examples that the likelihood is of.
        std: σ, the prior's deviation of each weight, (D,), on the examples' device, or one for all.
        temperature: T of the likelihood.

    Raises:
        ValueError: Another architecture, no examples, or no positive deviations, one or (D,), and temperature.
    """

    architecture: Architecture
    train: Split
    std: float | Tensor
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.architecture.canonical or self.architecture.statistics:
            found = "canonical ones" if self.architecture.canonical else "such with running statistics"
            raise ValueError(
                f"Posterior: expected ordinary networks whose outputs depend on weights alone, got {found}; "
                "decanonicalize them, or choose networks without batch norms."
            )
        if not self.examples:
            raise ValueError("Posterior: expected training examples, which the likelihood is of, got none.")
        if torch.as_tensor(self.std).shape not in ((), (self.architecture.dimension,)):
            raise ValueError(
                f"Shape mismatch: Posterior: expected one deviation or ({self.architecture.dimension},), got "
                f"{tuple(torch.as_tensor(self.std).shape)}."
            )
        if isinstance(self.std, Tensor):
            object.__setattr__(self, "std", self.std.to(self.train.inputs.device))
        if not bool((torch.as_tensor(self.std) > 0).all()) or not self.temperature > 0:
            raise ValueError(
                f"Posterior: expected positive deviations and a positive temperature, got {self.std} and {self.temperature}."
            )

    @property
    def examples(self) -> int:
        """Training examples."""
        return len(self.train.targets)

    def networks(self, z: Tensor) -> Networks:
        """The networks of standard coordinates (networks, D), θ = σ z; differentiable."""
        return Networks.from_flat(self.architecture, z * self.std)

    def log_density(self, z: Tensor, batch: Split | None = None) -> Tensor:
        """log p(z | D) up to a constant, in nats; on a batch its unbiased estimate.

        Args:
            z: Standard coordinates, (networks, D).
            batch: Examples shared by all networks, or (networks, examples, …); None for all.

        Returns:
            (networks,).
        """
        likelihood = network_losses(self.networks(z), self.train if batch is None else batch)
        return -self.examples / self.temperature * likelihood - z.square().sum(-1) / 2

    def standard_normal(self, networks: int, generator: torch.Generator) -> Tensor:
        """Draws from the prior in standard coordinates, (networks, D)."""
        shape = (networks, self.architecture.dimension)
        return torch.randn(shape, generator=generator, device=generator.device).to(self.train.inputs)


@dataclass(frozen=True)
class Chains:
    """What Markov chains have drawn.

    Attributes:
        z: Standard coordinates, (chains, draws, D).
        acceptance: Share of proposals that each chain accepted after its warm-up, (chains,); one where none is refused.
        divergences: Trajectories after the warm-up whose energy error passed a thousand nats, (chains,) int64.
    """

    z: Tensor
    acceptance: Tensor
    divergences: Tensor


def stochastic_gradient_chains(
    posterior: Posterior,
    method: str,
    start: Tensor,
    steps: int,
    every: int,
    warmup: int,
    learning_rate: float,
    batch_size: int,
    generator: torch.Generator,
    friction: float = 1.0,
    progress: Progress | None = None,
) -> Chains:
    """Stochastic-gradient Langevin dynamics, or Hamiltonian Monte Carlo with friction, without acceptance steps.

    ``sgld``: z ← z + ε ∇ log p + √(2 ε) N(0, I) (Welling and Teh 2011). ``sghmc``: z ← z + ε m, m ← m + ε ∇ log p − ε α m +
    √(2 α ε) N(0, I) (Chen, Fox and Guestrin 2014). Draws have an error that grows with ε and with the gradients' noise.

    Args:
        posterior: What to draw from.
        method: ``sgld`` or ``sghmc``.
        start: Standard coordinates where the chains begin, (chains, D).
        steps: Of every chain, warm-up included.
        every: Steps between two draws that are kept.
        warmup: Steps before them.
        learning_rate: ε.
        batch_size: Examples of a gradient, all at most.
        generator: Source of randomness.
        friction: α, of ``sghmc``.
        progress: Called after each step with the number of steps done and where the chains are.

    Returns:
        (steps − warmup) // every draws of each chain.

    Raises:
        ValueError: Another method, no draw would be kept, or a chain diverged.
    """
    if steps - warmup < every:
        raise ValueError(f"{method}: expected steps to exceed warmup by every ({every}) at least, got {steps} and {warmup}.")
    if method not in ("sgld", "sghmc"):
        raise ValueError(f"stochastic_gradient_chains: expected method sgld or sghmc, got {method!r}.")
    module = extra_module(f"posteriors.sgmcmc.{method}", method)
    batches = minibatches(posterior.train, len(start), batch_size, generator)

    def log_posterior(z: Tensor, batch: Split) -> tuple[Tensor, Tensor]:
        """Summed over chains, so that each sees its own gradient only."""
        return posterior.log_density(z, batch).sum(), z.new_zeros(())

    more = {"alpha": friction} if method == "sghmc" else {}
    transform = module.build(log_posterior, learning_rate, **more)
    kept = start.new_empty(len(start), max(steps - warmup, 0) // every, start.shape[1])
    with global_numbers_from(generator):
        state = transform.init(start.clone())
        for step in range(1, steps + 1):
            state, _ = transform.update(state, next(batches), inplace=False)
            place, rest = divmod(step - warmup, every)
            if step > warmup and not rest:
                kept[:, place - 1] = state.params
            if progress is not None:
                progress(step, state.params)
    if diverged := int((~torch.isfinite(state.params).all(1)).sum()):
        raise ValueError(f"{method}: {diverged} of {len(start)} chains diverged; lower learning_rate ({learning_rate}).")
    chains = len(start)
    return Chains(kept, torch.ones(chains), torch.zeros(chains, dtype=torch.int64))


def hamiltonian_chains(
    posterior: Posterior,
    start: Tensor,
    draws: int,
    every: int,
    warmup: int,
    trajectory: float,
    generator: torch.Generator,
    acceptance: float = 0.8,
    progress: Progress | None = None,
) -> Chains:
    """Hamiltonian Monte Carlo on all training examples, with acceptance steps: exact but for the chains' finite length.

    Momenta are N(0, I), which suits standard coordinates. Step sizes adapt during the warm-up until trajectories are
    accepted as often as wished; each chain has its own.

    Args:
        posterior: What to draw from.
        start: Standard coordinates where the chains begin, (chains, D).
        draws: How many to keep of each chain.
        every: Trajectories between two of them.
        warmup: Trajectories before them.
        trajectory: Length of a trajectory in standard coordinates; π/2 would make draws of the prior independent.
        generator: Source of randomness.
        acceptance: Share of trajectories that should be accepted.
        progress: Called after each chain with the number of chains done and where it is, (1, D).

    Returns:
        The draws.
    """
    mcmc = extra_module("pyro.infer.mcmc", "hmc")
    kept, accepted, divergences = [], [], []
    with global_numbers_from(generator):
        for place, z in enumerate(start):
            kernel = mcmc.HMC(
                potential_fn=lambda values: -posterior.log_density(values["z"][None])[0],
                step_size=0.05,
                trajectory_length=trajectory,
                adapt_mass_matrix=False,
                target_accept_prob=acceptance,
            )
            facts: dict[str, Any] = {}
            chain = mcmc.MCMC(
                kernel,
                num_samples=draws * every,
                warmup_steps=warmup,
                initial_params={"z": z},
                # The kernel forgets its counts at the end; the package's own summary of a chain needs four draws.
                hook_fn=lambda kernel, _values, stage, _iteration, facts=facts: (
                    facts.update(kernel.diagnostics()) if stage.startswith("Sample") else None
                ),
                disable_progbar=True,
            )
            chain.run()
            kept.append(chain.get_samples()["z"][every - 1 :: every])
            accepted.append(facts["acceptance rate"])
            divergences.append(len(facts["divergences"]))
            if progress is not None:
                progress(place + 1, kept[-1][-1:])
    return Chains(torch.stack(kept), torch.tensor(accepted), torch.tensor(divergences))
