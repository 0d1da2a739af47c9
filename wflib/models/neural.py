"""Neural networks that models are made of: built and trained by the model's generator alone, kept as its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from wflib.config import Section
from wflib.velocity.embedding import TimeEmbedding

__all__ = [
    "TimedPerceptron",
    "TrainingSettings",
    "build",
    "perceptron",
    "restore",
    "standardization",
    "tensors_of",
    "train",
    "uniform",
]

Network = TypeVar("Network", bound=nn.Module)

TIME_FEATURES = 64
CONSTANT = 1e-6
"""Deviations below this share of the coordinates' size are rounding."""


class TrainingSettings(Section):
    """What is common to models that train a network."""

    steps: Annotated[int, Field(ge=0, strict=True, description="Batches that it is trained with.")]
    batch_size: Annotated[int, Field(ge=1, strict=True)] = 64
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False, description="At the first step.")] = 1e-3


def perceptron(sizes: list[int]) -> nn.Sequential:
    """Linear maps between so many features, GELU between them."""
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.GELU())]
    return nn.Sequential(*layers[:-1])


class TimedPerceptron(nn.Module):
    """(x (batch, D), t (batch,) in [0, 1]) → (batch, D): a perceptron that sees x and features of t side by side.

    Args:
        dimension: D.
        width: Hidden neurons of each layer.
        layers: Hidden layers.
    """

    def __init__(self, dimension: int, width: int, layers: int) -> None:
        super().__init__()
        self.time = TimeEmbedding(TIME_FEATURES)
        self.layers = perceptron([dimension + TIME_FEATURES, *[width] * layers, dimension])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The field at x and t."""
        found: Tensor = self.layers(torch.cat([x, self.time(t)], 1))
        return found


def build(make: Callable[[], Network], like: Tensor, generator: torch.Generator) -> Network:
    """A network of a tensor's precision and on its device, initialized from the generator.

    torch initializes from its global generator: it is seeded here from the given one, and put back as it was.
    """
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every device's
        return make().to(like)


def tensors_of(network: nn.Module, name: str) -> dict[str, Tensor]:
    """Parameters and buffers as part of a model's state, under names that start with the network's."""
    return {f"{name}.{key}": tensor.detach() for key, tensor in network.state_dict().items()}


def restore(make: Callable[[], Network], state: Mapping[str, Tensor], name: str) -> Network:
    """The network that :func:`tensors_of` has put into a state; ``make`` says its sizes.

    Raises:
        RuntimeError: The state's tensors are those of a network of other sizes.
    """
    tensors = {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
    with torch.random.fork_rng(devices=[]):
        network = make().to(next(iter(tensors.values())))
    network.load_state_dict(tensors)
    return network.eval()


def standardization(x: Tensor, deviation: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean of each coordinate of (N, D), and its deviation or the given one; a tiny one to divide by if nothing varies."""
    smallest = CONSTANT * x.square().mean().sqrt() + torch.finfo(x.dtype).tiny
    return x.mean(0), (x.std(0) if deviation is None else deviation).clamp_min(smallest)


def uniform(rows: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from U(0, 1), (rows,), of a tensor's precision and on its device."""
    return torch.rand(rows, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def train(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    steps: int,
    settings: TrainingSettings,
    generator: torch.Generator,
    ema_decay: float = 0.0,
) -> None:
    """Minimize the mean loss of random rows by Adam, its rate falling to zero as a cosine.

    Args:
        network: Changed in place.
        loss: Of a batch of rows, differentiable in the network's parameters.
        x: Rows (N, …), drawn with replacement.
        steps: Batches, of this network; the settings' own are those of the model's main one.
        settings: Rows of a batch, and learning rate.
        generator: Draws rows.
        ema_decay: The network ends as the moving average m ← d m + (1 − d) θ over steps, d growing up to this; 0: as θ.

    Raises:
        ValueError: The loss became NaN or infinite.
    """
    parameters: list[Tensor] = list(network.parameters())
    value = torch.zeros(())
    averages = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.Adam(parameters, settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for step in range(1, steps + 1):
        chosen = torch.randint(len(x), (settings.batch_size,), generator=generator, device=generator.device)
        optimizer.zero_grad(set_to_none=True)
        value = loss(x[chosen.to(x.device)])
        value.backward()
        optimizer.step()
        schedule.step()
        if ema_decay:
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, 1 - min(ema_decay, step / (step + 10)))
    if not torch.isfinite(value):
        rate = settings.learning_rate
        raise ValueError(f"learning_rate: {rate}: the loss is {value.item()} after {steps} steps; lower it.")
    if ema_decay:
        with torch.no_grad():
            torch._foreach_copy_(parameters, averages)
