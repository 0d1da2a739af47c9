"""Sinkhorn matching: gradient descent over relaxed permutations, for objectives that no assignment problem solves.

Peña et al., "Re-basin via implicit Sinkhorn differentiation" (2023): a permutation is relaxed to the doubly stochastic
matrix S_τ(X) that Sinkhorn's iteration makes of free logits X; the objective is differentiated through it, and an assignment
at the end returns to a permutation. Here for a whole zoo at once: networks are independent, so one step of Adam serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.symmetry.assignment import solve_assignments
from wflib.symmetry.permutation import Permutations, permute

__all__ = ["Objective", "mix", "sinkhorn", "sinkhorn_matching"]

Objective = Callable[[Weights], Tensor]
"""Permuted networks, tensors (networks, *shape) → what each should make small, (networks,)."""

START_LOGIT = 3.0


def sinkhorn(logits: Tensor, temperature: float = 1.0, sweeps: int = 10) -> Tensor:
    """The Sinkhorn operator S_τ(X): exp(X/τ) with rows and columns normalized in turn, in the log domain.

    Args:
        logits: X, (..., n, n).
        temperature: τ; the smaller, the nearer to a permutation matrix.
        sweeps: Normalizations of rows and columns.

    Returns:
        Matrices (..., n, n) with columns that sum to one, and rows nearly so.
    """
    logs = logits / temperature
    for _ in range(sweeps):
        logs = logs - logs.logsumexp(-1, keepdim=True)
        logs = logs - logs.logsumexp(-2, keepdim=True)
    return logs.exp()


def mix(architecture: Architecture, weights: Mapping[str, Tensor], matrices: Mapping[str, Tensor]) -> Weights:
    """Apply a matrix per hidden group: W_l ← P_l W_l P_{l−1}ᵀ, b_l ← P_l b_l. For permutation matrices this permutes.

    Args:
        architecture: Says which axis of which tensor counts which neurons.
        weights: Tensors of shape (networks, *shape).
        matrices: Hidden group → (networks, neurons, neurons); row k says what neuron k is made of.

    Returns:
        New tensors of the same shapes; differentiable.
    """
    mixed = dict(weights)
    for spec in architecture.tensors:
        for axis, group in enumerate(spec.axes, 1):
            if group in matrices:
                moved = mixed[spec.name].movedim(axis, -1).unsqueeze(-1)
                matrix = matrices[group].view(len(moved), *[1] * (moved.ndim - 3), *matrices[group].shape[1:])
                mixed[spec.name] = (matrix @ moved).squeeze(-1).movedim(-1, axis)
    return mixed


def matrices_of(permutations: Permutations, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Permutations as matrices P[k, permutation[k]] = 1."""
    return {
        group: torch.nn.functional.one_hot(indices, indices.shape[1]).to(device, dtype)
        for group, indices in permutations.items()
    }


def sinkhorn_matching(
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    objective: Objective,
    judge: Objective,
    start: Permutations,
    iterations: int = 60,
    learning_rate: float = 0.2,
    temperature: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> Permutations:
    """Permutations that make an objective small, by gradient descent on relaxed ones.

    Args:
        architecture: Which axis counts which neurons.
        weights: Networks to align, tensors of shape (networks, *shape).
        objective: Differentiable; may draw other examples at every call.
        judge: The same, on fixed examples: decides per network between the start and what was found.
        start: Where the descent begins, for example weight matching's answer; the result is judged no worse.
        iterations: Steps of Adam.
        learning_rate: Of Adam, on the logits.
        temperature: τ of the Sinkhorn operator.
        progress: Called with the number of iterations done.

    Returns:
        Indices per hidden group, to be applied with :func:`~wflib.symmetry.permutation.permute`.
    """
    some = next(iter(weights.values()))
    logits = {
        group: (START_LOGIT * matrix).requires_grad_()
        for group, matrix in matrices_of(start, some.dtype, some.device).items()
    }
    if not logits:
        return start
    optimizer = torch.optim.Adam(logits.values(), lr=learning_rate)
    for iteration in range(iterations):
        relaxed = {group: sinkhorn(x, temperature) for group, x in logits.items()}
        optimizer.zero_grad(set_to_none=True)
        # Summed, so that each network sees its own gradient only.
        objective(mix(architecture, weights, relaxed)).sum().backward()
        optimizer.step()
        if progress is not None:
            progress(iteration + 1)
    found = {group: solve_assignments(x.detach()) for group, x in logits.items()}
    with torch.no_grad():
        better = (judge(permute(architecture, weights, found)) < judge(permute(architecture, weights, start))).cpu()
    return {group: torch.where(better[:, None], found[group], start[group]) for group in found}
