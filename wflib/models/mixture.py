"""A mixture of Gaussians in the zoo's principal components."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from wflib.config import Section
from wflib.models.gaussian import leading_directions
from wflib.models.model import CoordinateModel, Evidence, standard_normal

__all__ = ["GaussianMixture"]


class GaussianMixture(CoordinateModel):
    """mean + Σ_k √λ_k z_k v_k along the leading directions, z ~ Σ_c π_c N(μ_c, diag(σ_c²)) by expectation maximization."""

    name, label, colour = "gaussian-mixture", "Gaussian mixture", "#B8860B"

    class Settings(Section):
        """How many clusters, and in how many directions."""

        clusters: Annotated[int, Field(ge=1, strict=True, description="As many as training networks at most.")] = 4
        rank: Annotated[int, Field(ge=1, strict=True, description="Directions.")] = 50
        floor: Annotated[float, Field(gt=0, description="Added to variances, relative to the zoo's.")] = 1e-3
        iterations: Annotated[int, Field(ge=1, strict=True, description="Of expectation maximization, at most.")] = 1000

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        from sklearn.mixture import GaussianMixture as Mixture  # slow to import, and few runs need it

        x = evidence.space.encode(evidence.training.networks)
        if settings.clusters > len(x):
            raise ValueError(f"{cls.name}: clusters expected at most the zoo's {len(x)}, got {settings.clusters}.")
        deviations, rows = leading_directions(x, settings.rank)
        deviations = deviations.clamp_min(1e-6 * deviations[0] + torch.finfo(x.dtype).tiny)  # divided by
        z = ((x - x.mean(0)) @ rows.T / deviations).double().cpu().numpy()
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        options = {"reg_covar": settings.floor, "max_iter": settings.iterations, "random_state": seed}
        fitted = Mixture(settings.clusters, covariance_type="diag", **options).fit(z)
        found = {"shares": fitted.weights_, "centres": fitted.means_, "deviations": fitted.covariances_**0.5}
        clusters = {name: torch.from_numpy(value).to(x) for name, value in found.items()}
        return {"mean": x.mean(0), "factor": deviations[:, None] * rows} | clusters

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        shares, centres = self.state["shares"], self.state["centres"]
        chosen = torch.multinomial(shares.to(generator.device), networks, replacement=True, generator=generator)
        chosen = chosen.to(centres.device)
        z = centres[chosen] + self.state["deviations"][chosen] * standard_normal(networks, centres, generator)
        return self.state["mean"] + z @ self.state["factor"]
