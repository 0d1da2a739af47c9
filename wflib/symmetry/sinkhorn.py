"""Sinkhorn matching: gradient descent over relaxed permutations, for objectives that no assignment problem solves.

Peña et al., "Re-basin via implicit Sinkhorn differentiation" (2023): a permutation is relaxed to the doubly stochastic
matrix S_τ(X) that Sinkhorn's iteration makes of free logits X; the objective is differentiated through it, and an assignment
at the end returns to a permutation. Here for a whole zoo at once: networks are independent, so one step of Adam serves all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from wflib.networks import Networks
from wflib.symmetry.assignment import solve_assignments
from wflib.symmetry.mixing import mix
from wflib.symmetry.permutation import Permutations, permute

__all__ = ["Objective", "sinkhorn", "sinkhorn_matching"]

Objective = Callable[[Networks], Tensor]
"""Permuted networks → what each should make small, (networks,)."""


class Sinkhorn(torch.autograd.Function):
    """The Sinkhorn operator; its backward pass solves for the gradient, so that sweeps leave nothing in memory."""

    apply: ClassVar[Callable[[Tensor, float, int], Tensor]]

    @staticmethod
    def forward(ctx: Any, logits: Tensor, temperature: float, sweeps: int) -> Tensor:
        logs = logits / temperature
        for _ in range(sweeps):
            logs = logs - logs.logsumexp(-1, keepdim=True)
            logs = logs - logs.logsumexp(-2, keepdim=True)
        matrix = logs.exp()
        ctx.save_for_backward(matrix)
        ctx.temperature = temperature
        return matrix

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # P = exp(X/τ + f ⊕ g), rows and columns sum to one. Differentiating the sums gives, for H = P ∘ ∂L/∂P,
        # ∂L/∂X = (H − P ∘ (a ⊕ b)) / τ with a + P b = H 1 and Pᵀ a + b = Hᵀ 1.
        (matrix,) = ctx.saved_tensors
        weighted = matrix * gradient
        rows, columns = weighted.sum(-1, keepdim=True), weighted.sum(-2).unsqueeze(-1)
        # (a + c, b − c) solves it too, which the constant 1/n settles; near a permutation the ridge settles the rest.
        size, ridge = matrix.shape[-1], 1e3 * torch.finfo(matrix.dtype).eps
        system = (1 + ridge) * torch.eye(size).to(matrix) + 1 / size - matrix.mT @ matrix
        b = torch.linalg.solve(system, columns - matrix.mT @ rows)
        a = rows - matrix @ b
        return (weighted - matrix * (a + b.mT)) / ctx.temperature, None, None


def sinkhorn(logits: Tensor, temperature: float = 1.0, sweeps: int = 10) -> Tensor:
    """The Sinkhorn operator S_τ(X): exp(X/τ) with rows and columns normalized in turn, in the log domain.

    Args:
        logits: X, (..., n, n).
        temperature: τ; the smaller, the nearer to a permutation matrix.
        sweeps: Normalizations of rows and columns.

    Returns:
        Matrices (..., n, n) with columns that sum to one, and rows nearly so. Gradients are those of the limit of many
        sweeps, from one linear system of n equations a matrix (implicit function theorem).
    """
    return Sinkhorn.apply(logits, temperature, sweeps)


def sinkhorn_matching(
    networks: Networks,
    objective: Objective,
    judge: Objective,
    start: Permutations,
    iterations: int = 60,
    learning_rate: float = 0.2,
    temperature: float = 1.0,
    judge_every: int = 10,
    progress: Callable[[int], None] | None = None,
) -> Permutations:
    """Permutations that make an objective small, by gradient descent on relaxed ones.

    The logits begin at zero, where every neuron is the mean of all: on networks of two hidden layers of 16 that ends at
    lower losses halfway than logits that begin at weight matching's answer, which is a local minimum they seldom leave.
    Nested groups have logits for each place of a parent, relaxed together with their parents'.

    Args:
        networks: Those to align.
        objective: Differentiable; may draw other examples at every call.
        judge: The same for permuted networks, on fixed examples: decides per network which permutation is kept.
        start: Permutations to beat, for example weight matching's; the result is judged no worse.
        iterations: Steps of Adam.
        learning_rate: Of Adam, on the logits.
        temperature: τ of the Sinkhorn operator.
        judge_every: Iterations between two permutations that are judged; the last is judged too.
        progress: Called with the number of iterations done.

    Returns:
        Indices per hidden group, to be applied with :func:`~wflib.symmetry.permutation.permute`.
    """
    like: dict[str, Any] = {"dtype": networks.dtype, "device": networks.device, "requires_grad": True}
    logits = {group: torch.zeros(*indices.shape, indices.shape[-1], **like) for group, indices in start.items()}
    if not logits:
        return start
    optimizer = torch.optim.Adam(logits.values(), lr=learning_rate)
    with torch.no_grad():
        kept, lowest = start, judge(permute(networks, start))
    for iteration in range(1, iterations + 1):
        relaxed = {group: sinkhorn(x, temperature) for group, x in logits.items()}
        optimizer.zero_grad(set_to_none=True)
        # Summed, so that each network sees its own gradient only.
        objective(mix(networks, relaxed)).sum().backward()
        optimizer.step()
        if iteration % judge_every == 0 or iteration == iterations:
            with torch.no_grad():
                found = {group: solve_assignments(x.flatten(0, -3)).view(x.shape[:-1]) for group, x in logits.items()}
                judged = judge(permute(networks, found))
            better = (judged < lowest).cpu()
            kept = {
                group: torch.where(better.view(-1, *(1 for _ in new.shape[1:])), new, kept[group])
                for group, new in found.items()
            }
            lowest = torch.minimum(judged, lowest)
        if progress is not None:
            progress(iteration)
    return kept
