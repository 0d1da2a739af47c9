"""The average network: one network, the mean of all aligned weights."""

from __future__ import annotations

from wflib.architecture import Weights
from wflib.zoo import Zoo

__all__ = ["average_network"]


def average_network(zoo: Zoo) -> Weights:
    """(1/N) Σ_n θ_n over all networks of a zoo.

    Args:
        zoo: Aligned networks; the average of unaligned ones mixes different neurons.

    Returns:
        Tensors of shape (1, *shape).

    Raises:
        ValueError: The zoo is empty.
    """
    if len(zoo) == 0:
        raise ValueError("average_network: expected at least one network, got an empty zoo.")
    return {name: tensor.mean(0, keepdim=True) for name, tensor in zoo.weights.items()}
