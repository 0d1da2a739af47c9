"""Laplace's approximation of the last layer, around networks of largest posterior density; by ``posteriors``."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from wflib.architecture.operations import Linear
from wflib.config import extra_module
from wflib.models.bayes import BayesianModel, BayesianSettings
from wflib.models.model import Evidence, one_of, standard_normal
from wflib.networks import output_losses
from wflib.zoo import Posterior

__all__ = ["LastLayerLaplace", "most_probable"]

OUTPUTS = 1024
"""Outputs of all examples whose Hessian is formed at once, which takes its square in memory."""


def most_probable(posterior: Posterior, start: Tensor, steps: int, learning_rate: float) -> Tensor:
    """Standard coordinates where −log p(z | D) is small, by so many full-batch steps of Adam from each start, (runs, D)."""
    z = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (-posterior.log_density(z).sum()).backward()
        optimizer.step()
        schedule.step()
    return z.detach()


def layer_curvatures(posterior: Posterior, last: Linear, layers: Tensor, features: Tensor, targets: Tensor) -> Tensor:
    """Σ_i J_iᵀ H_i J_i of some examples, divided by the temperature, for the last layers of several networks.

    Args:
        posterior: Gives outputs, loss and temperature.
        last: The layer.
        layers: Its weights and bias, (runs, weights).
        features: What it reads, (runs, examples, width).
        targets: (examples, …).

    Returns:
        (runs, weights, weights).
    """
    ggn = extra_module("posteriors", LastLayerLaplace.name).ggn
    outputs, width = posterior.architecture.shape(last.weight)

    def of_one(mean: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        def forward(layer: Tensor) -> Tensor:
            found = features @ layer[: outputs * width].view(outputs, width).T
            return found if last.bias is None else found + layer[outputs * width :]

        def loss(found: Tensor) -> Tensor:
            return output_losses(posterior.architecture.task_type, found[None], targets).sum() / posterior.temperature

        found: Tensor = ggn(forward, loss, forward_has_aux=False, loss_has_aux=False, normalize=False)(mean)
        return found

    found: Tensor = torch.func.vmap(of_one, (0, 0, None))(layers, features, targets)
    return found


class LastLayerLaplace(BayesianModel):
    """N(θ_MAP, (G + σ⁻²)⁻¹) of the last layer's weights and bias, all others as they are in the network of largest density.

    G is the generalized Gauss–Newton matrix Σ_i J_iᵀ H_i J_i of the loss over all training examples, divided by the
    temperature. There are several such networks, each from a start of its own; a draw is around a random one.
    """

    name, label, colour = "laplace-last-layer", "last-layer Laplace", "#CCBB44"

    class Settings(BayesianSettings):
        """How networks of large density are found, all together."""

        runs: Annotated[int, Field(ge=1, strict=True)] = 16
        steps: Annotated[int, Field(ge=1, strict=True, description="Full-batch steps of Adam, its size falling to 0.")] = (
            1000
        )
        learning_rate: Annotated[float, Field(gt=0, description="Of weights over their prior's deviation.")] = 0.02

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        posterior, train = cls.posterior(evidence, settings), evidence.train
        architecture, last = posterior.architecture, posterior.architecture.output_layer
        if last is None:
            raise ValueError(
                "laplace-last-layer: expected networks that end in a linear map of its own weights, got others; choose "
                "mean-field or sgld."
            )
        extra_module("posteriors", cls.name)
        start = posterior.standard_normal(settings.runs, generator)
        flat = most_probable(posterior, start, settings.steps, settings.learning_rate) * posterior.std
        where = torch.cat([torch.arange(architecture.dimension)[architecture.slices[name]] for name in last.tensors])
        where = where.to(flat.device)
        features = architecture.run(architecture.unflatten(flat), train.inputs, {last.inputs[0]})[last.inputs[0]]
        examples = max(1, OUTPUTS // architecture.shape(last.weight)[0])
        parts = zip(features.double().split(examples, 1), train.targets.split(examples), strict=True)
        layers = flat[:, where].double()
        curvatures = layers.new_zeros(*layers.shape, len(where))
        for part in parts:
            curvatures += layer_curvatures(posterior, last, layers, *part)
        std = torch.as_tensor(posterior.std, dtype=torch.float64, device=flat.device).expand(architecture.dimension)[where]
        lower = torch.linalg.cholesky(curvatures + std.pow(-2).diag())
        # θ = mean + L⁻ᵀ ε has the covariance (L Lᵀ)⁻¹.
        factor = torch.linalg.solve_triangular(
            lower, torch.eye(len(where), dtype=lower.dtype, device=lower.device), upper=False
        )
        return {"mean": flat, "where": where, "factor": factor.to(flat)}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        mean, where, factor = (self.state[name] for name in ("mean", "where", "factor"))
        chosen = one_of(mean, networks, generator)
        noise = standard_normal(networks, mean, generator, len(where))
        flat = mean[chosen]
        flat[:, where] += (noise[:, None] @ factor[chosen]).squeeze(1)
        return self.encoded(flat)
