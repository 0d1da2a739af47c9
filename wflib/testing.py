"""Checks that users of the library want too: does a transformation keep the function, is a field equivariant?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.symmetry import permute, random_permutations

__all__ = ["assert_equivariant", "assert_same_function"]


@torch.no_grad()
def assert_same_function(
    architecture_a: Architecture,
    weights_a: Mapping[str, Tensor],
    architecture_b: Architecture,
    weights_b: Mapping[str, Tensor],
    inputs: Tensor,
    tolerance: float = 1e-10,
    chunk: int = 4096,
) -> None:
    """Check that networks compute the same outputs, pair by pair.

    Args:
        architecture_a: Architecture of the first set.
        weights_a: Tensors of shape (networks, *shape).
        architecture_b: Architecture of the second set.
        weights_b: As many networks.
        inputs: Where to compare, (examples, features).
        tolerance: Largest difference allowed, relative to the largest output where that is above one. 1e-10 suits float64.
        chunk: Networks compared at a time.

    Raises:
        ValueError: The outputs of some network differ; says how many and by how much.
    """
    networks = next(iter(weights_a.values())).shape[0]
    worst, differing = 0.0, 0
    for start in range(0, networks, chunk):
        part = slice(start, start + chunk)
        ours = architecture_a.forward({name: tensor[part] for name, tensor in weights_a.items()}, inputs)
        theirs = architecture_b.forward({name: tensor[part] for name, tensor in weights_b.items()}, inputs)
        difference = (ours - theirs).abs().amax((1, 2)) / ours.abs().amax((1, 2)).clamp_min(1)
        worst = max(worst, difference.max().item())
        differing += int((~(difference <= tolerance)).sum())
    if differing:
        raise ValueError(
            f"expected the same function to {tolerance:g}, but the outputs of {differing} of {networks} networks differ, "
            f"by up to {worst:.3g}."
        )


@torch.no_grad()
def assert_equivariant(
    field: Callable[[Tensor], Tensor],
    architecture: Architecture,
    x: Tensor,
    generator: torch.Generator,
    tolerance: float = 1e-10,
) -> None:
    """Check that a field over flat weights commutes with permutations of hidden neurons: field(π x) = π field(x).

    Args:
        field: (batch, D) → (batch, D).
        architecture: Says how permutations act on flat vectors.
        x: Points, (batch, D).
        generator: Draws one permutation per point.
        tolerance: Largest difference allowed, relative to the largest value of the field.

    Raises:
        ValueError: The field is not equivariant; says by how much.
    """
    permutations = random_permutations(architecture, len(x), generator)

    def act(flat: Tensor) -> Tensor:
        return architecture.flatten(permute(architecture, architecture.unflatten(flat), permutations))

    expected = act(field(x))
    difference = ((field(act(x)) - expected).abs().max() / expected.abs().max().clamp_min(1e-300)).item()
    if not difference <= tolerance:
        raise ValueError(
            f"expected an equivariant field, but permuting inputs changes outputs by a relative {difference:.3g}."
        )
