"""Flows conditioned on a figure of the wished-for network: its loss or accuracy on the task's training examples.

After Peebles et al., "Learning to learn with generative models of neural network checkpoints" (2022), and Ho and Salimans,
"Classifier-free diffusion guidance" (2022): in training a share of the pairs is not told its figure, so that one network
knows both fields, and sampling follows v = (1 + w) v(x, t | c) − w v(x, t).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wflib.networks import LEAVE_OUT, Networks, accuracy, network_losses, predict, require_finite
from wflib.tasks import Split

__all__ = ["Condition", "network_figures"]


class Condition(nn.Module):
    """Standardizes a figure over the zoo: (g(c) − mean) / deviation, g the logarithm for a loss, else the identity.

    Args:
        name: ``loss`` or ``accuracy``.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def transform(self, figure: Tensor) -> Tensor:
        """g(c); a loss that underflows to zero counts as 1e-12."""
        return figure.clamp_min(1e-12).log() if self.name == "loss" else figure

    def fit(self, figures: Tensor) -> None:
        """Set mean and deviation from the figures of a zoo's networks.

        Raises:
            ValueError: Fewer than two networks, whose figures have no deviation, or figures that are not finite.
        """
        if len(figures) < 2:
            raise ValueError(f"flow.condition needs the figures of two networks or more, got {len(figures)}.")
        require_finite({self.name: figures}, "flow.condition", LEAVE_OUT)
        values = self.transform(figures.double())
        self.mean.copy_(values.mean())
        self.deviation.copy_(values.std().clamp_min(1e-6))

    def forward(self, figure: Tensor) -> Tensor:
        """Standardized figures, NaN where NaN; three deviations from the mean at most, where training has seen some."""
        return ((self.transform(figure) - self.mean) / self.deviation).clamp(-3, 3).to(self.mean)


@torch.no_grad()
def network_figures(networks: Networks, split: Split, name: str, chunk: int = 256) -> Tensor:
    """Every network's mean loss in nats, or its accuracy, on a set of examples.

    Args:
        networks: Of any kind.
        split: Examples; the training part, when a flow is to be conditioned.
        name: ``loss`` or ``accuracy``.
        chunk: Networks at a time, which bounds memory.

    Returns:
        (networks,).

    Raises:
        ValueError: The accuracy of a regression task was asked for.
    """
    if name == "loss":
        return network_losses(networks, split, chunk)
    if networks.architecture.task_type == "regression":
        raise ValueError("flow.condition: accuracy needs a classification task; choose loss.")
    return accuracy(predict(networks, split.inputs, chunk), split.targets)
