"""A kernel density in the zoo's principal components, around all training networks or the best of them."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Generator, Tensor

from wflib.config import Section
from wflib.models.gaussian import leading_directions
from wflib.models.model import CoordinateModel, Evidence, one_of, standard_normal
from wflib.networks import network_losses

__all__ = ["KernelDensity"]


class KernelDensity(CoordinateModel):
    """mean + (a_n + h s ε) V: Gaussian kernels around training networks n in the span of the leading directions V.

    Latents a_n are coordinates along V, s their deviations; the bandwidth h is Scott's n^(−1/(r + 4)) where it is 0. As
    hyper-representations are drawn from, kernels may sit on the best share of training networks only, best by their loss on
    validation examples.
    """

    name, label, colour = "kernel-density", "kernel density", "#B15928"

    class Settings(Section):
        """Directions, width, and around whom."""

        rank: Annotated[int, Field(ge=1, strict=True)] = 50
        bandwidth: Annotated[float, Field(ge=0, description="h, relative to the deviations; 0 for Scott's rule.")] = 0.0
        best: Annotated[float, Field(gt=0, le=1, description="Share of training networks that have a kernel.")] = 1.0

    @classmethod
    def needs_examples(cls, settings: Settings) -> bool:
        return settings.best < 1

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        x = evidence.space.encode(evidence.training.networks)
        deviations, rows = leading_directions(x, settings.rank)
        mean = x.mean(0)
        if settings.best < 1:
            losses = network_losses(evidence.training.networks, evidence.validation, chunk=256)
            x = x[losses.argsort()[: max(1, math.ceil(settings.best * len(x)))]]
        width = settings.bandwidth or len(x) ** (-1 / (len(rows) + 4))
        return {"mean": mean, "rows": rows, "latents": (x - mean) @ rows.T, "width": width * deviations}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        latents, width = self.state["latents"], self.state["width"]
        chosen = one_of(latents, networks, generator)
        drawn = latents[chosen] + width * standard_normal(networks, width, generator)
        return self.state["mean"] + drawn @ self.state["rows"]
