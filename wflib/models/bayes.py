"""What models of the posterior over a network's weights have in common: prior, likelihood, and what their draws are."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from wflib.config import Section
from wflib.flow import Coordinates
from wflib.flow.initial import initialization_of
from wflib.models.model import CoordinateModel, Evidence
from wflib.networks import Networks
from wflib.zoo import Posterior, Zoo

__all__ = ["BayesianModel", "BayesianSettings", "prior_deviations"]


class BayesianSettings(Section):
    """Prior and likelihood."""

    prior_std: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="σ of the prior N(0, σ²) of all weights; null for that of the zoo's initial weights."
    )
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False, description="Of the likelihood; 1 for Bayes' rule.")] = (
        1.0
    )


def prior_deviations(zoo: Zoo, space: Coordinates) -> float | Tensor:
    """σ of the prior N(0, σ²) that a zoo's initial weights were drawn from, for ordinary networks.

    One number where the zoo declares it or its initial weights all have it. Otherwise (D,), for each tensor the root mean
    square of its initial entries, or of the networks' own where those are unknown or zero.
    """
    found, _ = initialization_of(zoo, space)
    if isinstance(found, (int, float)):
        return float(found)
    networks = space.decode(space.encode(zoo.networks))
    deviations = torch.empty(networks.architecture.dimension)
    for name, where in networks.architecture.slices.items():
        initial = 0.0 if zoo.initial is None else zoo.initial.weights[name].double().square().mean().sqrt().item()
        deviations[where] = initial or networks.weights[name].double().square().mean().sqrt().item()
    return deviations


class BayesianModel(CoordinateModel):
    """A model of the posterior: the zoo gives the prior's deviation and the form of draws, the task the likelihood."""

    fewest, learns_from_networks = 1, False
    Settings = BayesianSettings

    @classmethod
    def needs_examples(cls, settings: Section) -> bool:
        return True

    @classmethod
    def posterior(cls, evidence: Evidence, settings: BayesianSettings) -> Posterior:
        """The posterior of ordinary networks of the zoo's kind.

        Raises:
            ValueError: Networks with running statistics.
        """
        std = prior_deviations(evidence.training, evidence.space) if settings.prior_std is None else settings.prior_std
        return Posterior(evidence.space.architecture.ordinary_form(), evidence.train, std, settings.temperature)

    def encoded(self, flat: Tensor) -> Tensor:
        """Coordinates of ordinary networks' flat weights, (networks, D) each."""
        return self.space.encode(Networks.from_flat(self.space.architecture.ordinary_form(), flat))
