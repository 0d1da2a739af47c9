"""Linear assignment problems, many of one size at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

__all__ = ["solve_assignments", "solve_families"]


def solve_assignments(gains: Tensor) -> Tensor:
    """Permutations that maximize Σ_k gains[n, k, p(k)] for every problem n, exactly (Hungarian method).

    Args:
        gains: (problems, size, size), finite.

    Returns:
        Indices p of shape (problems, size) on the CPU.

    Raises:
        ValueError: The gains are not square or not finite.
    """
    if gains.ndim != 3 or gains.shape[1] != gains.shape[2]:
        raise ValueError(f"Shape mismatch: expected gains (problems, size, size), got {tuple(gains.shape)}.")
    gains = gains.detach().cpu()
    # NumPy knows few of torch's short formats, and SciPy computes in double precision anyway.
    matrices = (gains.float() if gains.dtype.itemsize < 4 else gains).numpy()
    if not np.isfinite(matrices).all():
        raise ValueError("solve_assignments: gains hold NaN or infinity; look at the weights they come from.")
    solved = np.empty(matrices.shape[:2], dtype=np.int64)
    for index, matrix in enumerate(matrices):  # SciPy solves one problem a call; ten microseconds each
        solved[index] = linear_sum_assignment(matrix, maximize=True)[1]
    return torch.from_numpy(solved)


def solve_families(gains: Tensor, fits: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The best orders of parents together with those of their members, exactly: members first, for each pair of parents.

    Args:
        gains: Of parents by themselves, (networks, parents, parents).
        fits: Nested group → gains of its members k and j for every pair of parents, (networks, parents, parents, members,
            members).

    Returns:
        Indices of parents (networks, parents), and nested group → (networks, parents, members); on the CPU.
    """
    gains, orders = gains.double().cpu(), {}
    for child, fit in fits.items():
        fit = fit.double().cpu()
        orders[child] = solve_assignments(fit.flatten(0, 2)).view(fit.shape[:4])
        gains = gains + fit.gather(-1, orders[child].unsqueeze(-1)).sum((-1, -2))
    parents = solve_assignments(gains)
    chosen = {
        child: order.gather(2, parents[:, :, None, None].expand(-1, -1, 1, order.shape[-1])).squeeze(2)
        for child, order in orders.items()
    }
    return parents, chosen
