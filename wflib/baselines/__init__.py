"""Baselines: simple ways to make networks from an aligned zoo, which a flow must beat.

Every function of ``BASELINES`` has the signature ``(zoo, networks, generator, noise) → Networks``.
"""

from collections.abc import Callable

import torch

from wflib.baselines.average import average_network
from wflib.baselines.gaussian import sample_diagonal_gaussian, sample_full_gaussian
from wflib.baselines.noise import noised_copies, sample_training_noise
from wflib.networks import Networks
from wflib.zoo import Zoo

__all__ = [
    "BASELINES",
    "Baseline",
    "average_network",
    "noised_copies",
    "sample_diagonal_gaussian",
    "sample_full_gaussian",
    "sample_training_noise",
]

Baseline = Callable[[Zoo, int, torch.Generator, float], Networks]
"""(aligned training networks, how many to draw, randomness, relative noise) → networks."""

BASELINES: dict[str, Baseline] = {
    "average": lambda zoo, networks, generator, noise: average_network(zoo),
    "gaussian-diagonal": lambda zoo, networks, generator, noise: sample_diagonal_gaussian(zoo, networks, generator),
    "gaussian-full": lambda zoo, networks, generator, noise: sample_full_gaussian(zoo, networks, generator),
    "training-noise": sample_training_noise,
}
"""Name → baseline. ``average`` is one network, whatever number is asked for; only ``training-noise`` reads the noise."""
