"""Whether Markov chains have reached the distribution that they are to draw from, judged by what networks predict.

Weights of two chains may sit in different orders of hidden neurons and never meet; predictions do not feel that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from wflib.config import extra_module
from wflib.networks import Networks, predict

__all__ = ["ChainDiagnostics", "chain_diagnostics", "diagnose_networks"]

TAIL = (0.05, 0.95)
"""Quantiles whose effective sample size is that of the tails."""


@dataclass(frozen=True)
class ChainDiagnostics:
    """Of the worst of all quantities that were followed.

    Attributes:
        r_hat: Largest R̂, rank-normalized and split (Vehtari et al. 2021); one where chains agree, at most 1.01 by their bar.
        ess_bulk: Least effective sample size for means, of all chains together.
        ess_tail: Least effective sample size for the quantiles 5 % and 95 %.
        quantities: How many were followed; those that are the same in all draws are left out.
        draws: Of all chains together.
    """

    r_hat: float
    ess_bulk: float
    ess_tail: float
    quantities: int
    draws: int


def chain_diagnostics(values: Tensor) -> ChainDiagnostics:
    """R̂ and effective sample sizes of quantities along chains.

    Args:
        values: (chains, draws, …): at least two chains of four draws.

    Returns:
        The worst over quantities; R̂ has no bound where chains stand still at different values.

    Raises:
        ValueError: Too few chains or draws, or values that are not finite.
    """
    if values.ndim < 2 or values.shape[0] < 2 or values.shape[1] < 4:
        raise ValueError(
            f"chain_diagnostics: expected values (chains, draws, …) of two chains and four draws at least, got "
            f"{tuple(values.shape)}."
        )
    array = values.detach().cpu().double().flatten(2) if values.ndim > 2 else values.detach().cpu().double()[..., None]
    if not bool(array.isfinite().all()):
        raise ValueError("chain_diagnostics: expected finite values, found NaN or infinity; leave those draws out.")
    array = array[..., (array != array[:1, :1]).flatten(0, 1).any(0)]
    draws, quantities = array.shape[0] * array.shape[1], array.shape[2]
    if not quantities:
        return ChainDiagnostics(1.0, float(draws), float(draws), 0, draws)
    stats = extra_module("arviz_stats.base", "chain_diagnostics").array_stats
    axes = {"chain_axis": 0, "draw_axis": 1}
    r_hat = stats.rhat(array.numpy(), **axes)
    bulk, tail = stats.ess(array.numpy(), **axes), stats.ess(array.numpy(), method="tail", prob=TAIL, **axes)
    worst = math.inf if bool(np.isnan(r_hat).any()) else float(r_hat.max())
    return ChainDiagnostics(worst, float(bulk.min()), float(tail.min()), quantities, draws)


def diagnose_networks(networks: Networks, chains: int, inputs: Tensor) -> ChainDiagnostics:
    """Diagnostics of class probabilities, or of a regression's predictions, on inputs.

    Args:
        networks: (chains × draws), chain after chain.
        chains: How many.
        inputs: (examples, *inputs), such as the validation part's.

    Raises:
        ValueError: Networks that are not as many of each chain.
    """
    if chains < 1 or len(networks) % chains:
        raise ValueError(f"diagnose_networks: expected as many networks of each of {chains} chains, got {len(networks)}.")
    classifier = networks.architecture.task_type == "classification"
    outputs = predict(networks, inputs).exp()[..., 1:] if classifier else networks.forward(inputs)
    return chain_diagnostics(outputs.unflatten(0, (chains, -1)))
