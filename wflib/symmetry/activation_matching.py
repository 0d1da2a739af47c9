"""Activation matching: permute hidden neurons so that they fire as the reference's do.

Ainsworth, Hayase and Srinivasa, "Git Re-Basin" (2023), section 3.1, for a whole zoo at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture, require_perceptron
from wflib.networks import LEAVE_OUT, require_finite
from wflib.symmetry.assignment import solve_assignments
from wflib.symmetry.permutation import Permutations

__all__ = ["activation_matching"]


@torch.no_grad()
def activation_matching(
    architecture: Architecture,
    reference: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    inputs: Tensor,
    chunk: int = 1024,
) -> Permutations:
    """Permutations that minimize Σ over hidden groups of ‖Z_reference − P Z‖², Z the activations over given inputs.

    Each group is one linear assignment with gains[k, j] = Σ over examples of z_reference,k z_j, so the answer is exact and
    needs no start.

    Args:
        architecture: Which axis counts which neurons.
        reference: One network, tensors of shape (1, *shape).
        weights: Networks to align, tensors of shape (networks, *shape).
        inputs: Training inputs, (examples, features).
        chunk: Networks that run at once; bounds memory.

    Returns:
        Indices per hidden group, to be applied with :func:`~wflib.symmetry.permutation.permute`.

    Raises:
        ValueError: The networks are no perceptrons, or one holds NaN or infinity.
    """
    require_perceptron(architecture, "activation_matching")
    for side, name in ((weights, "weights"), (reference, "the reference")):
        architecture.validate(side)
        require_finite(side, f"activation_matching: {name}", LEAVE_OUT)
    networks = len(next(iter(weights.values())))
    hidden = {group.name for group in architecture.hidden_groups}
    aims = architecture.activations(reference, inputs)
    found: dict[str, list[Tensor]] = {name: [] for name in hidden}
    for start in range(0, networks, chunk):
        part = {name: tensor[start : start + chunk] for name, tensor in weights.items()}
        for group, activations in architecture.activations(part, inputs).items():
            if group in hidden:
                found[group].append(solve_assignments(torch.einsum("bk,nbj->nkj", aims[group][0], activations)))
    return {group.name: torch.cat(found[group.name]) for group in architecture.hidden_groups}
