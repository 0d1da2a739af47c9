"""Training networks as they are, or with a little noise: what a model that only memorizes would give."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from wflib.architecture import Architecture
from wflib.config import Section
from wflib.models.model import CoordinateModel, Evidence, one_of, standard_normal

__all__ = ["Memorizer", "TrainingNoise", "noised", "tensor_deviations"]


def tensor_deviations(architecture: Architecture, x: Tensor) -> Tensor:
    """Of each coordinate the deviation s of its tensor: s² is the mean over entries of the variance over networks.

    It says how far networks differ from one another, not how far entries do.

    Args:
        architecture: Of the networks.
        x: Flat vectors (networks, D), at least two.

    Returns:
        (D,).
    """
    deviations = torch.empty_like(x[0])
    for where in architecture.slices.values():
        deviations[where] = x[:, where].var(0).mean().sqrt()
    return deviations


def noised(x: Tensor, deviation: Tensor, noise: float, generator: Generator) -> Tensor:
    """x + noise × s ε with ε ~ N(0, I): flat vectors (networks, D), deviations s (D,), noise relative to them."""
    return x + noise * deviation * standard_normal(len(x), x, generator)


class TrainingNoise(CoordinateModel):
    """θ_n + noise × s ε of random training networks n, ε ~ N(0, I), s one deviation per tensor."""

    name, label, colour = "training-noise", "training + noise", "#CC79A7"

    class Settings(Section):
        """How far from the training networks."""

        noise: Annotated[float, Field(ge=0, allow_inf_nan=False, description="Relative to s.")] = 0.05

    settings: Settings

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        x = evidence.space.encode(evidence.training.networks)
        return {"training": x, "deviation": tensor_deviations(evidence.space.architecture, x)}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        x = self.state["training"]
        return noised(x[one_of(x, networks, generator)], self.state["deviation"], self.settings.noise, generator)


class Memorizer(CoordinateModel):
    """Random training networks: what the exact flow to the empirical distribution draws."""

    name, label, colour = "memorizer", "memorizer", "#7A3E9D"
    fewest = 1

    @classmethod
    def learn(cls, evidence: Evidence, settings: Section, generator: Generator) -> dict[str, Tensor]:
        return {"training": evidence.space.encode(evidence.training.networks)}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        x = self.state["training"]
        return x[one_of(x, networks, generator)]
