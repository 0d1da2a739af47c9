"""Mean-field variational inference: independent Gaussians that are close to the posterior; by ``posteriors``."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from wflib.config import extra_module
from wflib.models.bayes import BayesianModel, BayesianSettings
from wflib.models.model import Evidence, one_of, standard_normal
from wflib.rng import global_numbers_from
from wflib.tasks import Split
from wflib.zoo import minibatches

__all__ = ["MeanField"]


class MeanField(BayesianModel):
    """N(μ, diag(s²)) that minimizes KL(N ‖ posterior), several of them from starts of their own; a draw is of a random one.

    Each is fitted by Adam on stochastic gradients of the evidence bound, with the path derivative of Roeder et al. (2017).
    """

    name, label, colour = "mean-field", "mean-field", "#AA3377"

    class Settings(BayesianSettings):
        """Fits, which run together."""

        runs: Annotated[int, Field(ge=1, strict=True, description="Gaussians, each from a start of its own.")] = 4
        steps: Annotated[int, Field(ge=1, strict=True)] = 2000
        learning_rate: Annotated[float, Field(gt=0, description="Adam's, of weights over their prior's deviation.")] = 0.01
        batch_size: Annotated[int, Field(ge=1, strict=True)] = 512
        initial_std: Annotated[float, Field(gt=0, description="s at first, over the prior's deviation.")] = 0.1

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        posterior = cls.posterior(evidence, settings)
        torchopt = extra_module("torchopt", cls.name)
        batches = minibatches(posterior.train, settings.runs, settings.batch_size, generator)

        def log_posterior(z: Tensor, batch: Split) -> tuple[Tensor, Tensor]:
            """Summed over runs, so that each sees its own gradient only."""
            return posterior.log_density(z, batch).sum(), z.new_zeros(())

        transform = extra_module("posteriors.vi.diag", cls.name).build(
            log_posterior, torchopt.adam(lr=settings.learning_rate), init_log_sds=math.log(settings.initial_std)
        )
        with global_numbers_from(generator):
            state = transform.init(posterior.standard_normal(settings.runs, generator))
            for _ in range(settings.steps):
                state, _ = transform.update(state, next(batches), inplace=False)
        if not bool(torch.isfinite(state.params).all()):
            raise ValueError(f"mean-field: a fit diverged; lower learning_rate ({settings.learning_rate}).")
        return {"mean": state.params * posterior.std, "deviation": state.log_sd_diag.exp() * posterior.std}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        mean, deviation = self.state["mean"], self.state["deviation"]
        chosen = one_of(mean, networks, generator)
        return self.encoded(mean[chosen] + deviation[chosen] * standard_normal(networks, mean, generator))
