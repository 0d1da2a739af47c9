"""Flow matching by a plain perceptron on flat aligned weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from wflib.flow import integrate
from wflib.flow.geometry import EuclideanGeometry
from wflib.models.gaussian import leading_directions
from wflib.models.model import CoordinateModel, Evidence, standard_normal
from wflib.models.neural import TimedPerceptron, TrainingSettings, build, restore, tensors_of, train, uniform

__all__ = ["FlatFlow"]


@dataclass(frozen=True)
class PerceptronField:
    """A trained velocity in flat space, as solvers take it."""

    geometry: EuclideanGeometry
    velocity: nn.Module


class FlatFlow(CoordinateModel):
    """dx / dt = u_t(x) from N(0, σ² I) to (θ − mean) / s, s one deviation of all: min E ‖u_t(x_t) − (x_1 − x_0)‖².

    The recipe of Gupta et al., "DeepWeightFlow: Re-Basined Flow Matching for Generating Neural Network Weights" (2026).

    Kept: aligned networks as flat vectors, or as their coordinates along principal components where there are many weights;
    straight paths x_t = (1 − t) x_0 + t x_1 from a Gaussian, coupled independently; a perceptron of 512 neurons a layer that
    sees time beside the vector; 30,000 steps of batches of eight; a Runge–Kutta solver.

    Not kept, or this module's own choice: depth and features of time, no layer norms, no dropout, no choice of the step with
    the lowest loss, Adam at a rate that falls to zero, data brought to deviation one. There x_0 has deviation one too, so
    that it covers the data, where theirs is a small cloud about the mean, of 0.01 in units of weights: ``source: 0.01``.
    Alignment is the pipeline's; batch norms are not calibrated anew.
    """

    name, label, colour = "flat-flow", "flat flow matching", "#3B4CC0"

    class Settings(TrainingSettings):
        """Coordinates, network, training, solver."""

        components: Annotated[
            int, Field(ge=0, strict=True, description="Principal components, N − 1 of N networks at most; 0: weights.")
        ] = 0
        width: Annotated[int, Field(ge=1, strict=True)] = 512
        layers: Annotated[int, Field(ge=1, strict=True, description="Hidden layers.")] = 3
        steps: Annotated[int, Field(ge=0, strict=True)] = 30_000
        batch_size: Annotated[int, Field(ge=1, strict=True)] = 8
        learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5e-4
        source: Annotated[
            float, Field(ge=0, allow_inf_nan=False, description="Deviation of x_0, as published 0.01; 0: the data's own.")
        ] = 0.0
        solver: Literal["euler", "heun", "rk4", "dopri5"] = "rk4"
        solver_steps: Annotated[int, Field(ge=1, strict=True)] = 100

    settings: Settings

    @classmethod
    def velocity(cls, settings: Settings, dimension: int) -> TimedPerceptron:
        """The network u_t(x), (batch, D) and (batch,) → (batch, D)."""
        return TimedPerceptron(dimension, settings.width, settings.layers)

    @classmethod
    def source_deviation(cls, settings: Settings, scale: Tensor) -> Tensor:
        """Deviation of x_0 where the data's is one."""
        return settings.source / scale if settings.source else torch.ones_like(scale)

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        weights = evidence.space.encode(evidence.training.networks)
        state = {"mean": weights.mean(0)}
        x = weights - state["mean"]
        if settings.components:
            state["rows"] = leading_directions(weights, settings.components)[1]
            x = x @ state["rows"].T
        state["scale"] = x.square().mean().sqrt().clamp_min(torch.finfo(x.dtype).tiny)
        x = x / state["scale"]
        source = cls.source_deviation(settings, state["scale"])
        network = build(lambda: cls.velocity(settings, x.shape[1]), x, generator)

        def loss(x_1: Tensor) -> Tensor:
            x_0 = source * standard_normal(len(x_1), x_1, generator)
            t = uniform(len(x_1), x_1, generator)
            found: Tensor = network(torch.lerp(x_0, x_1, t[:, None]), t)
            return (found - (x_1 - x_0)).square().mean()

        train(network, loss, x, settings.steps, settings, generator)
        return state | tensors_of(network, "velocity")

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        mean, scale, rows = self.state["mean"], self.state["scale"], self.state.get("rows")
        dimension = len(mean) if rows is None else len(rows)
        source = self.source_deviation(self.settings, scale)
        x_0 = source * standard_normal(networks, mean, generator, dimension)
        network = restore(lambda: self.velocity(self.settings, dimension), self.state, "velocity")
        field = PerceptronField(EuclideanGeometry(self.space.manifold), network)
        x = scale * integrate(field, x_0, self.settings.solver_steps, solver=self.settings.solver)
        return mean + (x if rows is None else x @ rows)
