"""Gaussian fits to a zoo's coordinates: independent ones, a few common directions, or the full covariance."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Generator, Tensor

from wflib.config import Section
from wflib.models.model import CoordinateModel, Evidence, standard_normal

__all__ = ["DiagonalGaussian", "FullGaussian", "LowRankGaussian", "PrincipalComponents", "leading_directions"]


class DiagonalGaussian(CoordinateModel):
    """N(mean, diag(variance)) of the coordinates, variances with divisor N − 1."""

    name, label, colour = "gaussian-diagonal", "diagonal Gaussian", "#E69F00"

    @classmethod
    def learn(cls, evidence: Evidence, settings: Section, generator: Generator) -> dict[str, Tensor]:
        x = evidence.space.encode(evidence.training.networks)
        return {"mean": x.mean(0), "deviation": x.std(0)}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        mean, deviation = self.state["mean"], self.state["deviation"]
        return mean + deviation * standard_normal(networks, mean, generator)


class FullGaussian(CoordinateModel):
    """N(mean, S), S = X_cᵀ X_c / (N − 1) the sample covariance of the coordinates.

    θ = mean + X_cᵀ z / √(N − 1) with z ~ N(0, I_N) and X_c the centred (N, D) data: exact for covariances of any rank,
    without a D × D matrix or a jitter.
    """

    name, label, colour = "gaussian-full", "full Gaussian", "#555555"

    @classmethod
    def learn(cls, evidence: Evidence, settings: Any, generator: Generator) -> dict[str, Tensor]:
        x = evidence.space.encode(evidence.training.networks)
        return {"mean": x.mean(0), "factor": (x - x.mean(0)) / (len(x) - 1) ** 0.5}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        mean, factor = self.state["mean"], self.state["factor"]
        return mean + standard_normal(networks, mean, generator, len(factor)) @ factor


def leading_directions(x: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Largest principal components of data (N, D): deviations (r,) with divisor N − 1, orthonormal rows (r, D).

    There are min(rank, N − 1, D) of them, by falling deviation.
    """
    centred = x - x.mean(0)
    _, values, rows = torch.linalg.svd(centred, full_matrices=False)
    kept = min(rank, len(x) - 1, x.shape[1])
    return values[:kept] / (len(x) - 1) ** 0.5, rows[:kept]


class PrincipalComponents(FullGaussian):
    """mean + Σ_k √λ_k z_k v_k over the leading directions only: an affine span of the zoo of so many dimensions."""

    name, label, colour = "principal-components", "PCA + Gaussian", "#A6761D"

    class Settings(Section):
        """How many directions."""

        rank: Annotated[int, Field(ge=1, strict=True)] = 50

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        x = evidence.space.encode(evidence.training.networks)
        deviations, rows = leading_directions(x, settings.rank)
        return {"mean": x.mean(0), "factor": deviations[:, None] * rows}


class LowRankGaussian(PrincipalComponents):
    """N(mean, V diag(λ) Vᵀ + diag(r)): the leading directions as they vary, the rest of each coordinate's variance alone."""

    name, label, colour = "gaussian-low-rank", "low-rank Gaussian", "#8C6D1F"

    @classmethod
    def learn(cls, evidence: Evidence, settings: PrincipalComponents.Settings, generator: Generator) -> dict[str, Tensor]:
        found = super().learn(evidence, settings, generator)
        variance = evidence.space.encode(evidence.training.networks).var(0)
        return found | {"rest": (variance - found["factor"].square().sum(0)).clamp_min(0).sqrt()}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        common, rest = super().coordinates(networks, generator), self.state["rest"]
        return common + rest * standard_normal(networks, rest, generator)
