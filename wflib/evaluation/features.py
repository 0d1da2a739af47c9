"""What a network is for a test of distributions: what it answers, and sizes of its tensors, whatever its neurons' order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.evaluation.predictions import predict

__all__ = ["Features", "log_odds", "network_features", "tensor_norms", "tensor_spectra"]


@dataclass(frozen=True)
class Features:
    """Features of networks, computed alike for all that are compared.

    Attributes:
        function: :func:`log_odds` on the same inputs, (networks, answers).
        weights: :func:`tensor_norms` and :func:`tensor_spectra`, (networks, sizes); (networks, 0) to compare functions only.
    """

    function: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.function)

    def __getitem__(self, index: Tensor) -> Features:
        """Some of the networks."""
        return Features(self.function[index], self.weights[index])


def log_odds(log_probabilities: Tensor) -> Tensor:
    """Logits minus their mean over classes, z_c − mean_c z, which probabilities determine; one of the two for two classes.

    Args:
        log_probabilities: (networks, examples, classes), finite.

    Returns:
        (networks, examples · classes), (networks, examples) for two classes.
    """
    centred = log_probabilities - log_probabilities.mean(-1, keepdim=True)
    return (centred[..., 1:] if centred.shape[-1] == 2 else centred).flatten(1)


def tensor_norms(weights: Mapping[str, Tensor]) -> Tensor:
    """Euclidean norm of every tensor, (networks, tensors), in the order of the mapping."""
    return torch.stack(
        [tensor.flatten(1).norm(dim=1) if tensor.ndim > 1 else tensor.abs() for tensor in weights.values()], 1
    )


def tensor_spectra(weights: Mapping[str, Tensor], most: int = 16) -> Tensor:
    """Leading singular values of every tensor with two axes or more, as a matrix of its first axis by all others.

    Permutations of hidden neurons do not change them where a neuron's entries fill whole rows or columns.

    Args:
        weights: Tensors of shape (networks, *shape).
        most: Singular values of each tensor.

    Returns:
        (networks, values), falling for each tensor.
    """
    some = next(iter(weights.values()))
    matrices = [tensor.flatten(2) for tensor in weights.values() if tensor.ndim > 2]
    return torch.cat([some.new_zeros(len(some), 0), *(torch.linalg.svdvals(matrix)[:, :most] for matrix in matrices)], 1)


@torch.no_grad()
def network_features(
    architecture: Architecture, weights: Mapping[str, Tensor], inputs: Tensor, with_weights: bool = True
) -> Features:
    """Features of networks on given inputs.

    Norms and singular values change when neurons are rescaled: give all networks that are compared in one gauge, either as
    training left them or all canonical, and with one architecture.

    Args:
        architecture: A classification architecture, ordinary or canonical.
        weights: Tensors of shape (networks, *shape), in any neuron order.
        inputs: (examples, features).
        with_weights: False for the function alone, which no symmetry changes.

    Returns:
        Features, on the CPU.
    """
    function = log_odds(predict(architecture, weights, inputs)).cpu()
    if not with_weights:
        return Features(function, function[:, :0])
    return Features(function, torch.cat([tensor_norms(weights), tensor_spectra(weights)], 1).cpu())
