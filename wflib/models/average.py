"""Averages of training networks: of all of them, or of a few chosen at random."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor

from wflib.config import Section
from wflib.models.model import CoordinateModel, Evidence

__all__ = ["Average", "Interpolation"]


class Average(CoordinateModel):
    """(1/k) Σ θ_n over k random training networks; with ``networks: 0`` over all of them, one network then."""

    name, label, colour = "average", "average network", "#009E73"
    fewest = 1

    class Settings(Section):
        """How many are averaged."""

        networks: Annotated[int, Field(ge=0, strict=True, description="k; 0 for all.")] = 0

    settings: Settings

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        x = evidence.space.encode(evidence.training.networks)
        if settings.networks > len(x):
            raise ValueError(f"average: networks expected at most the zoo's {len(x)}, got {settings.networks}.")
        return {"training": x} if settings.networks else {"mean": x.mean(0)}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        if not self.settings.networks:
            return self.state["mean"].expand(1, -1)
        x, count = self.state["training"], self.settings.networks
        chosen = torch.rand(networks, len(x), generator=generator, device=generator.device).topk(count).indices
        return x.new_zeros(networks, len(x)).scatter_(1, chosen.to(x.device), 1 / count) @ x


class Interpolation(CoordinateModel):
    """(1 − s) θ_m + s θ_n of random pairs of training networks, s ~ U(low, high)."""

    name, label, colour = "interpolation", "interpolated pair", "#0A7E8C"

    class Settings(Section):
        """Where between the two."""

        low: Annotated[float, Field(ge=0, le=1)] = 0.5
        high: Annotated[float, Field(ge=0, le=1)] = 0.5

        @model_validator(mode="after")
        def in_order(self) -> Interpolation.Settings:
            """The range is not empty."""
            if self.low > self.high:
                raise ValueError(f"low ({self.low}) must not be above high ({self.high})")
            return self

    settings: Settings

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        return {"training": evidence.space.encode(evidence.training.networks)}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        x, device = self.state["training"], generator.device
        first = torch.randint(len(x), (networks,), generator=generator, device=device)
        other = (first + torch.randint(1, len(x), (networks,), generator=generator, device=device)) % len(x)
        low, high = self.settings.low, self.settings.high
        place = low + (high - low) * torch.rand(networks, 1, generator=generator, dtype=x.dtype, device=device)
        return torch.lerp(x[first.to(x.device)], x[other.to(x.device)], place.to(x.device))
