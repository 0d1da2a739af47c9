"""Guidance: descend a task's loss while sampling (thesis, section 6.5.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.flow.flow import Flow
from wflib.zoo import Split, network_losses

__all__ = ["TaskGuidance"]


class TaskGuidance:
    """−λ ∇_x L(f_x) at x_t, from mini-batches of a task's training part.

    The gradient is taken through the decoding of coordinates, so it is laid out as x is, in whatever basis.

    Args:
        flow: Gives the coordinates.
        split: Training examples; never validation or test data.
        strength: λ ≥ 0.
        batch_size: Examples of each gradient.
        generator: Draws mini-batches.
    """

    def __init__(self, flow: Flow, split: Split, strength: float, batch_size: int, generator: torch.Generator) -> None:
        self.flow, self.split, self.strength = flow, split.to(flow.device), strength
        self.batch_size, self.generator = min(batch_size, len(split.inputs)), generator

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The extra velocity at x_t, (batch, D)."""
        chosen = torch.randperm(len(self.split.inputs), generator=self.generator, device=self.generator.device)
        chosen = chosen[: self.batch_size].to(x_t.device)
        batch = Split(self.split.inputs[chosen], self.split.targets[chosen])
        return -self.strength * self.gradient(x_t, batch)

    def gradient(self, x: Tensor, batch: Split) -> Tensor:
        """∇_x of each network's mean loss, (batch, D)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            losses = network_losses(self.flow.architecture, self.flow.coordinates.decode_state(x), batch)
            return torch.autograd.grad(losses.sum(), x)[0]
