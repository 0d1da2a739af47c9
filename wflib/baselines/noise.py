"""Training networks with a little noise: what a flow that only memorizes would give."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.networks import Networks
from wflib.zoo import Zoo

__all__ = ["noised_copies", "sample_training_noise"]


def noised_copies(zoo: Zoo, chosen: Tensor, generator: torch.Generator, noise: float) -> Networks:
    """θ_n + noise × s ε for chosen networks n of a zoo, ε ~ N(0, I), s one deviation per tensor.

    s² of a tensor is the mean over its coordinates of the variance over networks (divisor N − 1): how far the zoo's
    networks differ from one another, not how far coordinates do.

    Args:
        zoo: Aligned networks, at least two.
        chosen: Indices into the zoo, (networks,).
        generator: Source of randomness.
        noise: Noise relative to s, for example 0.05; zero gives copies.

    Returns:
        As many networks, on the zoo's device.

    Raises:
        ValueError: Fewer than two networks in the zoo, or negative noise.
    """
    if len(zoo) < 2:
        raise ValueError(f"noised_copies: expected at least two networks to know their spread, got {len(zoo)}.")
    if noise < 0:
        raise ValueError(f"noised_copies: noise must not be negative, got {noise}.")

    def noised(tensor: Tensor) -> Tensor:
        deviation, shape = tensor.var(0).mean().sqrt(), (len(chosen), *tensor.shape[1:])
        standard = torch.randn(shape, generator=generator, dtype=tensor.dtype, device=generator.device)
        return tensor[chosen.to(tensor.device)] + noise * deviation * standard.to(tensor.device)

    return zoo.networks.map(noised)


def sample_training_noise(zoo: Zoo, networks: int, generator: torch.Generator, noise: float) -> Networks:
    """Noised copies of random networks, drawn with replacement; arguments and errors of :func:`noised_copies`.

    Args:
        zoo: Aligned networks, at least two.
        networks: How many to draw.
        generator: Source of randomness.
        noise: Noise relative to one deviation per tensor.

    Returns:
        As many networks, on the zoo's device.
    """
    chosen = torch.randint(len(zoo), (networks,), generator=generator, device=generator.device)
    return noised_copies(zoo, chosen, generator, noise)
