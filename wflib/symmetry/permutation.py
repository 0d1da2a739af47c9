"""Permutations of hidden neurons: the group S_n of every hidden layer, acting on whole zoos.

A permutation is stored as indices: neuron k of the permuted network is neuron ``permutation[k]`` of the original one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture, TensorSpec, Weights

__all__ = ["Permutations", "compose", "identity", "inverse", "permute", "random_permutations"]

Permutations = dict[str, Tensor]
"""Hidden group name → indices of shape (networks, neurons)."""


def identity(architecture: Architecture, networks: int) -> Permutations:
    """The permutation that changes nothing."""
    return {group.name: torch.arange(group.size).expand(networks, -1).clone() for group in architecture.hidden_groups}


def random_permutations(architecture: Architecture, networks: int, generator: torch.Generator) -> Permutations:
    """Uniformly random permutations, independent over networks and groups."""
    return {
        group.name: torch.rand(networks, group.size, generator=generator).argsort(1) for group in architecture.hidden_groups
    }


def compose(second: Permutations, first: Permutations) -> Permutations:
    """The permutation that acts like ``first``, then ``second``."""
    return {name: first[name].gather(1, second[name]) for name in first}


def inverse(permutations: Permutations) -> Permutations:
    """The permutation that undoes another one."""
    return {name: indices.argsort(1) for name, indices in permutations.items()}


def permute(architecture: Architecture, weights: Mapping[str, Tensor], permutations: Permutations) -> Weights:
    """Reorder hidden neurons: W_l ← P_l W_l P_{l-1}ᵀ, b_l ← P_l b_l. The function of every network stays the same.

    Args:
        architecture: Says which axis of which tensor counts which neurons.
        weights: Tensors of shape (networks, *shape).
        permutations: Indices per group; groups that are not named keep their order.

    Returns:
        New tensors of the same shapes.

    Raises:
        ValueError: A group is unknown or not permutable, or its indices have the wrong shape or are no permutation.
    """
    hidden = {group.name: group.size for group in architecture.hidden_groups}
    networks = next(iter(weights.values())).shape[0]
    for name, indices in permutations.items():
        if name not in hidden:
            raise ValueError(f"permute: {name!r} is no hidden group; hidden groups are {sorted(hidden)}.")
        if tuple(indices.shape) != (networks, hidden[name]):
            raise ValueError(f"Shape mismatch: {name} expected ({networks}, {hidden[name]}), got {tuple(indices.shape)}.")
        if not bool((indices.sort(1).values == torch.arange(hidden[name], device=indices.device)).all()):
            raise ValueError(f"permute: the indices of {name} are no permutation; they must name each neuron once.")
    return {spec.name: permute_tensor(spec, weights[spec.name], permutations) for spec in architecture.tensors}


def permute_tensor(spec: TensorSpec, tensor: Tensor, permutations: Permutations) -> Tensor:
    """One tensor (networks, *shape) in the order of neurons that :func:`permute` brings it to, unchecked."""
    for axis, group in enumerate(spec.axes, 1):
        if group in permutations:
            tensor = take_neurons(tensor, axis, permutations[group])
    return tensor


def take_neurons(tensor: Tensor, axis: int, indices: Tensor) -> Tensor:
    """Reorder one axis of a batched tensor, by other indices in every network."""
    shape = [1] * tensor.ndim
    shape[0], shape[axis] = indices.shape
    expanded = list(tensor.shape)
    expanded[axis] = indices.shape[1]
    return tensor.gather(axis, indices.to(tensor.device).view(shape).expand(expanded))
