"""Products of two matrices as products of canonical factors, by singular values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Split", "even_split"]


@dataclass(frozen=True)
class Split:
    """Factors of Lᵀ R, and what leads back: L = back_left · left, R = back_right · right.

    Attributes:
        left: (networks, heads, width, entries).
        right: (networks, heads, width, other entries).
        back_left: (networks, heads, width, width).
        back_right: (networks, heads, width, width).
        full: Whether products have full rank, (networks, heads) bool.
    """

    left: Tensor
    right: Tensor
    back_left: Tensor
    back_right: Tensor
    full: Tensor

    def scaled(self, factor: Tensor) -> Split:
        """Rows of the left factor multiplied by numbers, (networks, heads, width), of the right one divided."""
        rows, columns = factor.unsqueeze(-1), factor.unsqueeze(-2)
        back = self.back_left / columns, self.back_right * columns
        return Split(self.left * rows, self.right / rows, *back, self.full)


def even_split(left: Tensor, right: Tensor) -> Split:
    """Lᵀ R = U S Vᵀ as √S Uᵀ and √S Vᵀ, values falling: (networks, heads, width, entries) each.

    By L = T_Lᵀ O_Lᵀ and R = T_Rᵀ O_Rᵀ with orthonormal columns of O, only width × width matrices T_L T_Rᵀ are decomposed.
    """
    (basis_left, part_left), (basis_right, part_right) = torch.linalg.qr(left.mT), torch.linalg.qr(right.mT)
    u, values, vh = torch.linalg.svd(part_left @ part_right.mT)
    full = values[..., -1] > values[..., 0] * values.shape[-1] * torch.finfo(values.dtype).eps
    root = torch.where(full.unsqueeze(-1), values, 1).sqrt()
    rows, columns = root.unsqueeze(-1), root.unsqueeze(-2)
    factors = rows * (basis_left @ u).mT, rows * (vh @ basis_right.mT)
    return Split(*factors, part_left.mT @ u / columns, part_right.mT @ vh.mT / columns, full)
