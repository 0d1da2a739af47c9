"""Linear assignment problems, many of one size at once."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

__all__ = ["solve_assignments"]


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
    matrices = gains.detach().cpu().numpy()
    if not np.isfinite(matrices).all():
        raise ValueError("solve_assignments: gains hold NaN or infinity; look at the weights they come from.")
    solved = np.empty(matrices.shape[:2], dtype=np.int64)
    for index, matrix in enumerate(matrices):  # SciPy solves one problem a call; ten microseconds each
        solved[index] = linear_sum_assignment(matrix, maximize=True)[1]
    return torch.from_numpy(solved)
