"""Flows conditioned on a figure of the wished-for network: its loss or accuracy on training examples, or its training step.

After Peebles et al., "Learning to learn with generative models of neural network checkpoints" (2022), and Ho and Salimans,
"Classifier-free diffusion guidance" (2022): in training a share of the pairs is not told its figure, so that one network
knows both fields, and sampling follows v = (1 + w) v(x, t | c) − w v(x, t).

A flow that draws c as the zoo has it, and then x_1 given c, draws from the zoo's law ∫ p(x_1 | c) p(c) dc, as every flow
should, but need not find out on the way which c it is heading for. That holds where x_0 says nothing about c: where both
sides are drawn independently, or where c is the step and every trajectory was kept at the same steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wflib.networks import LEAVE_OUT, Networks, accuracy, network_losses, predict, require_finite
from wflib.tasks import Split
from wflib.zoo import AnyZoo

__all__ = ["AS_IN_ZOO", "Condition", "network_figures", "zoo_figures"]

AS_IN_ZOO = "zoo"
"""The wish for figures as the zoo's networks have them."""
LEVELS = 1024


class Condition(nn.Module):
    """Standardizes a figure over the zoo: (g(c) − mean) / deviation, g the logarithm for a loss, else the identity.

    Args:
        name: ``loss``, ``accuracy`` or ``step``.
    """

    mean: Tensor
    deviation: Tensor
    levels: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("levels", torch.zeros(LEVELS))

    def transform(self, figure: Tensor) -> Tensor:
        """g(c); a loss that underflows to zero counts as 1e-12."""
        return figure.clamp_min(1e-12).log() if self.name == "loss" else figure

    def fit(self, figures: Tensor) -> None:
        """Set mean, deviation and quantiles from the figures of a zoo's networks.

        Raises:
            ValueError: Fewer than two networks, whose measured figures have no deviation, or figures that are not finite.
        """
        if len(figures) < (1 if self.name == "step" else 2):
            raise ValueError(f"flow.condition needs the figures of two networks or more, got {len(figures)}.")
        require_finite({self.name: figures}, "flow.condition", LEAVE_OUT)
        values = self.transform(figures.double())
        self.mean.copy_(values.mean())
        self.deviation.copy_(values.std(correction=0).clamp_min(1e-6))
        middles = (torch.arange(LEVELS, device=figures.device) + 0.5) / LEVELS
        self.levels.copy_(figures.sort().values[(middles * len(figures)).long()])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Figures as the zoo's networks have them, each one that some network has, (count,)."""
        chosen = torch.randint(LEVELS, (count,), generator=generator, device=generator.device)
        return self.levels[chosen.to(self.levels.device)]

    def forward(self, figure: Tensor) -> Tensor:
        """Standardized figures, NaN where NaN; three deviations from the mean at most, where training has seen some."""
        return ((self.transform(figure) - self.mean) / self.deviation).clamp(-3, 3).to(self.mean)


def zoo_figures(zoo: AnyZoo, split: Split | None, name: str) -> Tensor:
    """The figure of every network of a zoo: its step, or what :func:`network_figures` measures, (networks,).

    Raises:
        ValueError: A measured figure without examples.
    """
    if name == "step":
        return zoo.step.float()
    if split is None:
        raise ValueError(f"flow.condition: {name} needs the task's training examples.")
    return zoo.each(lambda networks: network_figures(networks, split, name))


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
        ValueError: The accuracy of a regression task was asked for, or what no examples say.
    """
    if name not in ("loss", "accuracy"):
        raise ValueError(f"flow.condition: {name} is not measured on examples; choose loss or accuracy.")
    if name == "loss":
        return network_losses(networks, split, chunk)
    if networks.architecture.task_type == "regression":
        raise ValueError("flow.condition: accuracy needs a classification task; choose loss.")
    return accuracy(predict(networks, split.inputs, chunk), split.targets)
