"""A generator with a density as proposal for the posterior: importance weights, and whether they can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.config import extra_module
from wflib.flow import Flow, log_likelihood_of_coordinates
from wflib.zoo import Posterior

__all__ = ["TRUSTED", "ImportanceWeights", "flow_importance", "importance_weights", "weighted_average"]

TRUSTED = 0.7
"""Pareto k up to which averages with these weights can be trusted (Vehtari, Simpson, Gelman, Yao and Gabry 2024)."""


@dataclass(frozen=True)
class ImportanceWeights:
    """Weights of draws.

    Attributes:
        log_weights: Pareto-smoothed and normalized, Σ exp = 1, (draws,).
        effective: 1 / Σ w², the number of equal draws that the average is worth.
        pareto_k: Shape of the weights' tail: above one half they have no variance, above one no mean; see ``TRUSTED``. −∞
            where all are equal.
    """

    log_weights: Tensor
    effective: float
    pareto_k: float


def importance_weights(log_target: Tensor, log_proposal: Tensor) -> ImportanceWeights:
    """Self-normalized weights w_n ∝ p(θ_n) / q(θ_n), their largest ones smoothed by a Pareto fit.

    Args:
        log_target: log p of draws from q, up to a constant, (draws,).
        log_proposal: log q of them, up to a constant, (draws,).

    Raises:
        ValueError: Shapes differ, fewer than 25 draws, a tail of which cannot be fitted, or numbers that are not finite.
    """
    if log_target.ndim != 1 or log_target.shape != log_proposal.shape or len(log_target) < 25:
        raise ValueError(
            "importance_weights: expected two log-densities (draws,) of 25 draws at least, got "
            f"{tuple(log_target.shape)} and {tuple(log_proposal.shape)}."
        )
    ratio = log_target.detach().cpu().double() - log_proposal.detach().cpu().double()
    if not bool(ratio.isfinite().all()):
        raise ValueError("importance_weights: expected finite log-densities, found others; leave those draws out.")
    if ratio.max() == ratio.min():  # no tail to fit
        return ImportanceWeights(torch.zeros_like(ratio).log_softmax(0), float(len(ratio)), -math.inf)
    stats = extra_module("arviz_stats.base", "importance_weights").array_stats
    # Made for leaving one out, where log-weights are minus log-likelihoods: it takes the latter.
    smoothed, k = stats.psislw((ratio.max() - ratio).numpy())
    log_weights = torch.as_tensor(smoothed).log_softmax(0)
    return ImportanceWeights(log_weights, (-(2 * log_weights).logsumexp(0)).exp().item(), float(k))


def weighted_average(log_probabilities: Tensor, weights: ImportanceWeights) -> Tensor:
    """log Σ_n w_n p_n: the average of predictions, (examples, classes).

    Args:
        log_probabilities: Of the draws, (networks, examples, classes).
        weights: As many.

    Raises:
        ValueError: Other numbers of networks and weights.
    """
    if log_probabilities.ndim != 3 or len(log_probabilities) != len(weights.log_weights):
        raise ValueError(
            f"Shape mismatch: expected log-probabilities of {len(weights.log_weights)} networks (networks, examples, "
            f"classes), got {tuple(log_probabilities.shape)}."
        )
    return (log_probabilities + weights.log_weights.to(log_probabilities)[:, None, None]).logsumexp(0)


def flow_importance(
    flow: Flow,
    posterior: Posterior,
    x: Tensor,
    seed: int = 0,
    probes: int | None = 1,
    steps: int = 32,
    end: float = 1.0,
) -> ImportanceWeights:
    """Weights of a flow's draws under the posterior.

    A flow of an aligned zoo covers one order of hidden neurons, the posterior all of them alike: weights of what does not
    feel the order, such as predictions, are right nonetheless.

    Args:
        flow: Euclidean, so that both densities are of the same weights.
        posterior: Of the same networks.
        x: Draws from the flow as its coordinates, (draws, D); without noise and guidance, which have other densities.
        seed: As :func:`wflib.flow.log_likelihood_of_coordinates` takes it, like the others.
        probes: None for the exact density; estimates of it add their own noise to the weights.
        steps: Of the solver.
        end: Time that draws belong to.

    Raises:
        ValueError: Another flow, or networks of another architecture.
    """
    if flow.config.geometry != "euclidean":
        raise ValueError(
            f"flow_importance: expected a flow over ordinary weights, got flow.geometry: {flow.config.geometry}, whose "
            "density is one of canonical weights; use euclidean."
        )
    if flow.architecture != posterior.architecture:
        raise ValueError("flow_importance: expected a posterior of the flow's networks, got one of another architecture.")
    proposal = log_likelihood_of_coordinates(flow, x, seed, probes, steps, end)
    networks = flow.coordinates.decode(x).to(posterior.train.inputs.device)
    with torch.no_grad():
        target = torch.cat([posterior.log_density(part.flat / posterior.std) for part in networks.split(64)])
    return importance_weights(target, proposal)
