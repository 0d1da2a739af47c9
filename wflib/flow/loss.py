"""The loss that a training configuration names, ready to be called on batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.config import TrainingConfig
from wflib.distributed import average
from wflib.flow.flow import Flow
from wflib.flow.objective import flow_matching_error, function_change, function_sensitivity, weighted_mean_square
from wflib.networks import Networks
from wflib.rng import generator
from wflib.tasks import Split
from wflib.zoo import AnyZoo

__all__ = ["Batch", "FlowMatchingLoss"]

SENSITIVITY_NETWORKS, SENSITIVITY_EXAMPLES = 16, 256
FUNCTION_EXAMPLES = 128


@dataclass(frozen=True)
class Batch:
    """Points between coupled pairs, and what a loss needs to know of them.

    Attributes:
        x_t: (batch, D).
        x_1: (batch, D).
        t: (batch,).
        condition: Figures of x_1, NaN where not told, (batch,), for flows with a condition.
        noise: Standard normal numbers, (batch, D), for ``gauss-newton``.
        examples: Training inputs in the axes of the coordinates, (examples, *shape), for ``gauss-newton``.
        displacement: (1 − t) u_t where paths are bent, (batch, D); else it is the one from x_t to x_1.
    """

    x_t: Tensor
    x_1: Tensor
    t: Tensor
    condition: Tensor | None = None
    noise: Tensor | None = None
    examples: Tensor | None = None
    displacement: Tensor | None = None

    def part(self, start: int, step: int) -> Batch:
        """Every ``step``-th pair, with all examples."""

        def some(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[start::step]

        pairs = (self.x_t[start::step], self.x_1[start::step], self.t[start::step])
        return Batch(*pairs, some(self.condition), some(self.noise), self.examples, some(self.displacement))


class FlowMatchingLoss:
    """One of the losses of :mod:`wflib.flow.objective`.

    Attributes:
        weight: For ``function``, weights of coordinates with mean one, (D,): share of the function's error, and a floor.

    Args:
        flow: Whose predictions are measured; its preconditioner is fitted already.
        config: Section ``training``.
        zoo: Training networks, whose mean sensitivity weights coordinates.
        split: The task's training part, for the losses in function space.

    Raises:
        ValueError: A loss in function space without training inputs, or one at x̂_1 where paths are bent.
    """

    def __init__(self, flow: Flow, config: TrainingConfig, zoo: AnyZoo, split: Split | None) -> None:
        self.flow, self.config = flow, config
        self.inputs: Tensor | None = None
        self.weight: Tensor | None = None
        if config.loss in ("standardized", "mean-squared"):
            return
        if config.loss == "gauss-newton" and flow.config.path != "straight":
            raise ValueError("training.loss: gauss-newton is taken at x̂_1, which bent paths do not say; choose function.")
        if split is None:
            raise ValueError(f"training.loss: {config.loss} needs the task's training inputs.")
        coordinates, random = flow.coordinates, generator(config.seed, "flow", "sensitivity")
        # Tokens are counted in whole numbers, which have no derivative.
        inputs = split.inputs if split.inputs.is_floating_point() else split.inputs.float()
        self.inputs = coordinates.rotate_inputs(inputs)
        chosen = torch.randperm(len(zoo), generator=random)[:SENSITIVITY_NETWORKS]
        examples = torch.randperm(len(self.inputs), generator=random)[:SENSITIVITY_EXAMPLES]
        encoded = coordinates.encode(zoo[chosen].networks).to(self.inputs.dtype)
        networks = Networks.from_flat(coordinates.chart, encoded)
        sensitivity = function_sensitivity(networks, self.inputs[examples]).to(flow.device)
        self.unexplained = flow.preconditioner(torch.zeros(1, device=flow.device)).output_scale.squeeze(0)
        self.share = sensitivity * self.unexplained.square()
        if config.loss == "function":
            self.weight = self.share / self.share.mean() * (1 - config.function_floor) + config.function_floor

    def draw(self, x_t: Tensor, random: torch.Generator) -> tuple[Tensor | None, Tensor | None]:
        """Noise and examples of a batch, where the loss needs them."""
        if self.inputs is None or self.config.loss != "gauss-newton":
            return None, None
        noise = torch.randn(x_t.shape, generator=random, device=random.device).to(x_t)
        chosen = torch.randint(len(self.inputs), (FUNCTION_EXAMPLES,), generator=random, device=random.device)
        return noise, self.inputs[chosen.to(self.inputs.device)].to(x_t)

    def __call__(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        flow, config = self.flow, self.config
        velocity = flow.config.prediction == "velocity"
        with torch.autocast(flow.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            predict = flow.displacement if velocity else flow.predict
            predicted, scale = predict(batch.x_t, batch.t, batch.condition)
        if velocity:
            towards = flow.geometry.displacement(batch.x_t, batch.x_1) if batch.displacement is None else batch.displacement
            error = predicted - towards
        else:
            error = flow_matching_error(flow.geometry, batch.x_t, batch.x_1, predicted, config.distance)
        if config.loss == "mean-squared":
            return weighted_mean_square(error / (1 - batch.t[:, None]) if velocity else error, None, None)
        standardized = weighted_mean_square(error, scale, self.weight)
        if config.loss != "gauss-newton":
            return standardized
        if batch.noise is None or batch.examples is None:
            raise ValueError("training.loss: gauss-newton needs a batch with the noise and examples of its own draw.")
        end = flow.geometry.step(batch.x_t, predicted) if velocity else predicted
        chart = flow.coordinates.chart
        # A draw that knows x_t only: at x_1 itself the Jacobian would move the minimizer, at x̂_1 it is an average network's.
        somewhere = flow.geometry.project_prediction(end.detach() + scale * batch.noise)
        change, curvature = function_change(chart, somewhere, error / scale * self.unexplained, batch.examples)
        # Per curvature, over all processes: confident networks would leave the floor alone otherwise.
        change = change.mean() / average(curvature.mean()) / self.share.sum()
        total: Tensor = (1 - config.function_floor) * change + config.function_floor * standardized
        return total
