"""Draws of Markov chains over the posterior: the reference by Hamiltonian Monte Carlo, and stochastic-gradient chains."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field, model_validator
from torch import Generator, Tensor

from wflib.models.bayes import BayesianModel, BayesianSettings
from wflib.models.model import Evidence, one_of
from wflib.networks import Networks
from wflib.zoo import Chains, Posterior, hamiltonian_chains, stochastic_gradient_chains

__all__ = ["ChainModel", "Hamiltonian", "HamiltonianGradient", "Langevin"]

Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ChainModel(BayesianModel):
    """Random draws of chains. State ``chains`` are their ordinary flat weights, (chains, draws, D)."""

    @classmethod
    def learn(cls, evidence: Evidence, settings: BayesianSettings, generator: Generator) -> dict[str, Tensor]:
        posterior = cls.posterior(evidence, settings)
        found = cls.run(posterior, settings, generator)
        return {"chains": found.z * posterior.std, "acceptance": found.acceptance, "divergences": found.divergences}

    @classmethod
    def run(cls, posterior: Posterior, settings: Any, generator: Generator) -> Chains:
        """The chains in standard coordinates."""
        raise NotImplementedError

    def networks(self) -> Networks:
        """All draws as ordinary networks, chain after chain, as :func:`wflib.evaluation.diagnose_networks` takes them."""
        return Networks.from_flat(self.space.architecture.ordinary_form(), self.state["chains"].flatten(0, 1))

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        draws = self.state["chains"].flatten(0, 1)
        return self.encoded(draws[one_of(draws, networks, generator)])


class Hamiltonian(ChainModel):
    """Hamiltonian Monte Carlo on all training examples: the reference posterior of small tasks; by ``pyro``."""

    name, label, colour = "hmc", "HMC", "#000000"

    class Settings(BayesianSettings):
        """Chains, which run one after the other."""

        chains: Annotated[int, Field(ge=1, strict=True)] = 4
        warmup: Annotated[int, Field(ge=1, strict=True, description="Trajectories in which step sizes adapt.")] = 200
        draws: Annotated[int, Field(ge=1, strict=True, description="Of each chain.")] = 1000
        every: Annotated[int, Field(ge=1, strict=True, description="Trajectories between two draws.")] = 1
        trajectory: Annotated[float, Field(gt=0, description="Length, in deviations of the prior.")] = math.pi / 2
        acceptance: Annotated[float, Field(gt=0, lt=1, description="Share of trajectories to accept.")] = 0.8

    @classmethod
    def run(cls, posterior: Posterior, settings: Settings, generator: Generator) -> Chains:
        start = posterior.standard_normal(settings.chains, generator)
        return hamiltonian_chains(
            posterior,
            start,
            settings.draws,
            settings.every,
            settings.warmup,
            settings.trajectory,
            generator,
            settings.acceptance,
        )


class GradientSettings(BayesianSettings):
    """Chains that run together, on gradients of mini-batches."""

    chains: Count = 16
    steps: Annotated[int, Field(ge=1, strict=True, description="Of each chain, warm-up included.")] = 10_000
    warmup: Annotated[int, Field(ge=0, strict=True, description="Steps before the first draw.")] = 2000
    every: Annotated[int, Field(ge=1, strict=True, description="Steps between two draws.")] = 100
    learning_rate: Positive = Field(default=1e-3, description="ε, for weights over their prior's deviation.")
    batch_size: Count = 64

    @model_validator(mode="after")
    def leaves_draws(self) -> GradientSettings:
        """A chain must leave one draw at least."""
        if self.steps - self.warmup < self.every:
            raise ValueError(f"steps ({self.steps}) must exceed warmup ({self.warmup}) by every ({self.every}) at least")
        return self


class StochasticGradientModel(ChainModel):
    """Chains of :func:`wflib.zoo.stochastic_gradient_chains`; by ``posteriors``."""

    Settings = GradientSettings

    @classmethod
    def run(cls, posterior: Posterior, settings: GradientSettings, generator: Generator) -> Chains:
        return stochastic_gradient_chains(
            posterior,
            cls.name,
            posterior.standard_normal(settings.chains, generator),
            settings.steps,
            settings.every,
            settings.warmup,
            settings.learning_rate,
            settings.batch_size,
            generator,
            getattr(settings, "friction", 1.0),
        )


class Langevin(StochasticGradientModel):
    """Stochastic-gradient Langevin dynamics."""

    name, label, colour = "sgld", "SGLD", "#4477AA"


class HamiltonianGradient(StochasticGradientModel):
    """Stochastic-gradient Hamiltonian Monte Carlo with friction."""

    name, label, colour = "sghmc", "SGHMC", "#228833"

    class Settings(GradientSettings):
        """Steps of momenta, and their friction."""

        learning_rate: Positive = Field(default=0.03, description="ε, for weights over their prior's deviation.")
        friction: Positive = Field(default=10.0, description="α: momenta are forgotten in 1/α of time, 1/(α ε) steps.")
