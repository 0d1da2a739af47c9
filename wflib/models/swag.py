"""SWAG: a Gaussian fitted to where gradient descent at a constant rate goes, after training by the zoo's recipe."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor

from wflib.models.model import Evidence, one_of, standard_normal
from wflib.models.training import RecipeSettings, TrainedByRecipe
from wflib.networks import Networks, batch_losses
from wflib.zoo import minibatches

__all__ = ["Swag"]


class Swag(TrainedByRecipe):
    """θ_SWA + (diag(s) ε_1 + D̂ ε_2 / √(K − 1)) / √2 of a random run (Maddox et al. 2019; several runs are Multi-SWAG).

    θ_SWA and s² are mean and variance of a run's iterates, D̂ the last K of them less the mean that they had at the time.
    """

    name, label, colour = "swag", "SWAG", "#EE6677"

    class Settings(RecipeSettings):
        """Runs and iterates."""

        runs: Annotated[int, Field(ge=1, strict=True, description="Networks trained, each with a Gaussian.")] = 16
        learning_rate: Annotated[float, Field(gt=0, description="Of plain gradient descent.")] = 0.05
        iterates: Annotated[int, Field(ge=2, strict=True, description="How many a Gaussian is fitted to.")] = 100
        every: Annotated[int, Field(ge=1, strict=True, description="Steps between two of them.")] = 10
        rank: Annotated[int, Field(ge=2, strict=True, description="K, the last iterates kept as directions.")] = 20

        @model_validator(mode="after")
        def enough_iterates(self) -> Swag.Settings:
            """Directions are among the iterates."""
            if self.rank > self.iterates:
                raise ValueError(f"rank ({self.rank}) must not exceed iterates ({self.iterates})")
            return self

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        ordinary, train = evidence.space.architecture.ordinary_form(), evidence.train
        recipe = settings.known_recipe.model_copy(update={"sampler": "optimizer"})
        if ordinary.statistics:
            raise ValueError(
                "swag: expected networks without running statistics, which an average of weights does not have; choose "
                "networks without batch norms, or trained-anew."
            )
        start = cls.trained(ordinary, train, recipe, settings.runs, generator).last_snapshots.networks[: settings.runs]
        weights = start.to(train.inputs.device).map(lambda tensor: tensor.clone().requires_grad_()).weights
        optimizer = torch.optim.SGD(weights.values(), lr=settings.learning_rate, weight_decay=recipe.weight_decay)
        batches = minibatches(train, settings.runs, recipe.batch_size, generator)
        mean = square = torch.zeros(settings.runs, ordinary.dimension, dtype=torch.float64)
        directions: list[Tensor] = []
        for place in range(1, settings.iterates + 1):
            for _ in range(settings.every):
                loss, _ = batch_losses(ordinary, weights, next(batches))
                optimizer.zero_grad()
                loss.sum().backward()
                optimizer.step()
            flat = ordinary.flatten(weights).detach().cpu().double()
            mean, square = mean + (flat - mean) / place, square + (flat.square() - square) / place
            directions = [*directions, flat - mean][-settings.rank :]
        found = {
            "mean": mean,
            "deviation": (square - mean.square()).clamp_min(0).sqrt() / 2**0.5,
            "factor": torch.stack(directions, 1) / (2 * (settings.rank - 1)) ** 0.5,
        }
        return {name: tensor.to(train.inputs) for name, tensor in found.items()}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        mean, deviation, factor = (self.state[name] for name in ("mean", "deviation", "factor"))
        chosen = one_of(mean, networks, generator)
        common = standard_normal(networks, mean, generator, factor.shape[1])[:, None] @ factor[chosen]
        flat = mean[chosen] + deviation[chosen] * standard_normal(networks, mean, generator) + common.squeeze(1)
        return self.space.encode(Networks.from_flat(self.space.architecture.ordinary_form(), flat))
