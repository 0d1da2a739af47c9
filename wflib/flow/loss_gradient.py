"""The gradient of the task's training loss at x_t, which a velocity network may see beside x_t.

Networks of a zoo have followed this gradient from their initial weights, so where they end depends on it; from the weights
alone a velocity network would have to work out what the data say. It turns with permutations of hidden neurons exactly as
weights do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wflib.flow.coordinates import Coordinates
from wflib.flow.geometry import Geometry
from wflib.zoo import Split, network_losses

__all__ = ["LossGradient"]

SMALLEST = 1e-8
"""Root mean square below which a gradient counts as zero."""


class LossGradient(nn.Module):
    """g_b / rms(g_b) of every tensor b, g = P_x ∇_x L(x): the direction in which each tensor would lower the loss, negated.

    Examples are part of the state, so that a flow's file needs no dataset.

    Args:
        coordinates: What x is.
        geometry: Gives P_x, the projection on tangent vectors.
        examples: Training examples that L is the mean loss of, inputs in the axes of the coordinates.
        directions: Leading input directions whose weights' gradients are wanted; 0 for all.
    """

    def __init__(self, coordinates: Coordinates, geometry: Geometry, examples: Split, directions: int = 0) -> None:
        super().__init__()
        self.architecture, self.geometry = coordinates.architecture, geometry
        part, places = coordinates.leading(directions)
        self.tensors = tuple(part.slices.values())
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("inputs", examples.inputs)
        self.register_buffer("targets", examples.targets)

    @property
    def examples(self) -> Split:
        """Training examples, inputs in the axes of the coordinates."""
        return Split(self.inputs, self.targets)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate it at x (batch, D), of the weights that are wanted (batch, ≤ D); differentiable."""
        architecture, examples = self.architecture, self.examples

        def total(point: Tensor) -> Tensor:
            return network_losses(architecture, architecture.unflatten(point), examples).sum()

        with torch.autocast(x.device.type, enabled=False):
            gradient = self.geometry.tangent(x, torch.func.grad(total)(x))[:, self.places]
        parts = (gradient[:, where] for where in self.tensors)
        return torch.cat([part * (part.square().mean(1, keepdim=True) + SMALLEST**2).rsqrt() for part in parts], 1)
