"""The average network: one network, the mean of all aligned weights."""

from __future__ import annotations

from wflib.networks import Networks
from wflib.zoo import Zoo

__all__ = ["average_network"]


def average_network(zoo: Zoo) -> Networks:
    """(1/N) Σ_n θ_n over all networks of a zoo.

    Args:
        zoo: Aligned networks; the average of unaligned ones mixes different neurons.

    Returns:
        One network.

    Raises:
        ValueError: The zoo is empty.
    """
    if len(zoo) == 0:
        raise ValueError("average_network: expected at least one network, got an empty zoo.")
    return zoo.networks.map(lambda tensor: tensor.mean(0, keepdim=True))
