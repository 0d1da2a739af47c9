"""Means and variances of drawn weights, tensor by tensor, against the zoo's."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from wflib.networks import Networks
from wflib.symmetry import pool, pooling_index
from wflib.zoo import StoredNetworks

__all__ = ["MOMENT_SCHEMA", "tensor_moments"]

MOMENT_SCHEMA: dict[str, str] = {"source": "str", "tensor": "str", "shift": "float64", "spread": "float64"}
"""Column → dtype of :func:`tensor_moments`."""


def tensor_moments(source: str, samples: Networks, zoo: Networks | StoredNetworks) -> pd.DataFrame:
    """How far each tensor's mean and variance are from the zoo's; quality and overall spread can hide either.

    Coordinates of a tensor that permutations of hidden neurons exchange have one distribution, pooled over networks and
    neurons, so the order of neurons does not enter. With mean m and variance s² of a pool p,

    - shift:   root mean square over the tensor's pools of (m_p(samples) − m_p(zoo)) / s_p(zoo), about √(1/samples) or less
      where nothing is wrong
    - spread:  mean over the tensor's pools of s²_p(samples) / s²_p(zoo)

    Pools without variance in the zoo are left out.

    Args:
        source: What the networks are, for the table.
        samples: In any neuron order.
        zoo: Of the same architecture, in any neuron order.

    Returns:
        Rows with the columns of ``MOMENT_SCHEMA``, one per tensor; NaN where the zoo has no variance.

    Raises:
        ValueError: Networks of another architecture.
    """
    if samples.architecture != zoo.architecture:
        raise ValueError("tensor_moments: expected samples of the zoo's architecture, got others; bring both to one form.")
    index = pooling_index(zoo.architecture)
    (mean, variance), (mean_zoo, variance_zoo) = (pooled(side, index) for side in (samples, zoo))
    varies = variance_zoo > 0
    squared_shift = ((mean - mean_zoo).square() / variance_zoo).where(varies, torch.nan)
    ratio = (variance / variance_zoo).where(varies, torch.nan)
    rows = []
    for name, where in zoo.architecture.slices.items():
        pools = index[where].unique()
        shift, spread = squared_shift[pools].nanmean().sqrt().item(), ratio[pools].nanmean().item()
        rows.append({"source": source, "tensor": name, "shift": shift, "spread": spread})
    return pd.DataFrame(rows).astype(MOMENT_SCHEMA)


def pooled(networks: Networks | StoredNetworks, index: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each pool over networks and neurons, in float64 on the CPU, a thousand networks at a time."""
    index = index.cpu()
    if isinstance(networks, StoredNetworks):
        each, around = networks.moments
        mean = pool(each, index)
        return mean, pool(around + (each - mean[index]).square(), index)
    flat = networks.flat

    def average(of: Callable[[Tensor], Tensor]) -> Tensor:
        sums = (of(part.double().cpu()).sum(0) for part in flat.split(1000))
        return pool(sum(sums, torch.zeros((), dtype=torch.float64)) / len(flat), index)

    mean = average(lambda part: part)
    return mean, average(lambda part: (part - mean[index]).square())
