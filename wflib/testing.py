"""Checks that users of the library want too, for transformations, fields and functions of their own.

Does a transformation keep what networks compute? Is a field over weights equivariant, a function of them invariant, a
canonical form constant on orbits? Each raises ValueError with the size of the violation, and nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks import Networks
from wflib.symmetry import permute, random_permutations, random_scales, scale
from wflib.zoo.training import networks_at_once

__all__ = ["assert_equivariant", "assert_invariant", "assert_orbit_constant", "assert_same_function"]


def largest_change(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest expected value."""
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-300)).item()


@torch.no_grad()
def assert_same_function(
    networks: Networks, others: Networks, inputs: Tensor, tolerance: float = 1e-10, chunk: int | None = None
) -> None:
    """Check that networks compute the same outputs, pair by pair.

    Args:
        networks: Of any architecture.
        others: As many networks, of this or another architecture.
        inputs: Where to compare, (examples, features).
        tolerance: Largest difference allowed, relative to the largest output where that is above one. 1e-10 suits float64.
        chunk: Networks compared at a time; None for as many as a CPU's cache holds.

    Raises:
        ValueError: Inputs of another task, or the outputs of some network differ; says how many and by how much.
    """
    if tuple(inputs.shape[1:]) != networks.architecture.inputs:
        expected = ", ".join(map(str, networks.architecture.inputs))
        raise ValueError(
            f"Shape mismatch: expected inputs (examples, {expected}) for these networks, got {tuple(inputs.shape)}."
        )
    worst, differing = 0.0, 0
    chunk = chunk or networks_at_once(networks.architecture, len(inputs))
    for part, other in zip(networks.split(chunk), others.split(chunk), strict=True):
        ours, theirs = part.forward(inputs), other.forward(inputs)
        difference = (ours - theirs).abs().flatten(1).amax(1) / ours.abs().flatten(1).amax(1).clamp_min(1)
        worst = max(worst, difference.max().item())
        differing += int((~(difference <= tolerance)).sum())
    if differing:
        raise ValueError(
            f"expected the same function to {tolerance:g}, but the outputs of {differing} of {len(networks)} networks "
            f"differ, by up to {worst:.3g}."
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
        return permute(Networks.from_flat(architecture, flat), permutations).flat

    difference = largest_change(field(act(x)), act(field(x)))
    if not difference <= tolerance:
        raise ValueError(
            f"expected an equivariant field, but permuting inputs changes outputs by a relative {difference:.3g}."
        )


@torch.no_grad()
def assert_invariant(
    function: Callable[[Tensor], Tensor],
    architecture: Architecture,
    x: Tensor,
    generator: torch.Generator,
    tolerance: float = 1e-10,
) -> None:
    """Check that a function of flat weights ignores the order of hidden neurons: f(π x) = f(x).

    Args:
        function: (batch, D) → (batch, …), for example a predictor of accuracy, or a log-likelihood.
        architecture: Says how permutations act on flat vectors.
        x: Points, (batch, D).
        generator: Draws one permutation per point.
        tolerance: Largest difference allowed, relative to the largest value of the function.

    Raises:
        ValueError: The function is not invariant; says by how much.
    """
    permutations = random_permutations(architecture, len(x), generator)
    moved = permute(Networks.from_flat(architecture, x), permutations).flat
    difference = largest_change(function(moved), function(x))
    if not difference <= tolerance:
        raise ValueError(f"expected an invariant function, but permuting inputs changes it by a relative {difference:.3g}.")


@torch.no_grad()
def assert_orbit_constant(
    representative: Callable[[Networks], Networks],
    networks: Networks,
    generator: torch.Generator,
    signs: bool = False,
    tolerance: float = 1e-10,
) -> None:
    """Check that a canonical form is the same for all networks that differ by scalings of hidden neurons.

    Args:
        representative: Networks → their canonical form.
        networks: Of any kind; their activations say which scalings they admit.
        generator: Draws the scalings.
        signs: Whether sign flips are tried too, where activations are odd.
        tolerance: Largest difference allowed in any tensor, relative to the tensor's largest value.

    Raises:
        ValueError: The form is not constant; says which tensor changes and by how much.
    """
    factors = random_scales(networks.architecture, len(networks), generator, dtype=networks.dtype)
    if not signs:
        factors = {group: factor.abs() for group, factor in factors.items()}
    expected, found = representative(networks), representative(scale(networks, factors))
    for name, tensor in expected.weights.items():
        difference = largest_change(found.weights[name], tensor)
        if not difference <= tolerance:
            raise ValueError(
                f"expected one representative per orbit, but rescaling neurons changes {name} by a part of {difference:.3g}."
            )
