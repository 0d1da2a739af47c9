"""What a network is for a test of distributions: answers, losses, and sizes of its tensors, whatever its neurons' order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.networks import Networks, example_losses, predict
from wflib.tasks import Split

__all__ = ["Features", "log_odds", "loss_summaries", "network_features", "tensor_norms", "tensor_spectra"]


@dataclass(frozen=True)
class Features:
    """Features of networks, computed alike for all that are compared.

    Attributes:
        function: :func:`log_odds` on the same inputs, (networks, answers).
        summaries: :func:`loss_summaries` on the same examples, then :func:`tensor_norms` and :func:`tensor_spectra` unless
            functions alone are compared; (networks, summaries).
    """

    function: Tensor
    summaries: Tensor

    def __len__(self) -> int:
        return len(self.function)

    def __getitem__(self, index: Tensor) -> Features:
        """Some of the networks."""
        return Features(self.function[index], self.summaries[index])


def log_odds(log_probabilities: Tensor) -> Tensor:
    """Logits minus their mean over classes, z_c − mean_c z, which probabilities determine; one of the two for two classes.

    Args:
        log_probabilities: (networks, examples, classes), finite.

    Returns:
        (networks, examples · classes), (networks, examples) for two classes.
    """
    centred = log_probabilities - log_probabilities.mean(-1, keepdim=True)
    return (centred[..., 1:] if centred.shape[-1] == 2 else centred).flatten(1)


def tensor_norms(networks: Networks) -> Tensor:
    """Euclidean norm of every tensor, (networks, tensors), in the order of the architecture."""
    tensors = [networks.weights[name] for name, _ in networks.architecture.shapes]
    return torch.stack([tensor.flatten(1).norm(dim=1) if tensor.ndim > 1 else tensor.abs() for tensor in tensors], 1)


def tensor_spectra(networks: Networks, most: int = 16) -> Tensor:
    """Leading singular values of every tensor with two axes or more, as a matrix of its first axis by all others.

    Permutations of hidden neurons do not change them where a neuron's entries fill whole rows or columns.

    Args:
        networks: Of any kind.
        most: Singular values of each tensor.

    Returns:
        (networks, values), falling for each tensor.
    """
    matrices = [networks.weights[name].flatten(2) for name, shape in networks.architecture.shapes if len(shape) > 1]
    return torch.cat([networks.flat[:, :0], *(torch.linalg.svdvals(matrix)[:, :most] for matrix in matrices)], 1)


def loss_summaries(losses: Tensor) -> Tensor:
    """Mean and tenths of every network's losses over examples: principal components of answers miss how well they fit.

    Args:
        losses: (networks, examples).

    Returns:
        (networks, 12): mean, smallest, nine deciles, largest.
    """
    tenths = torch.linspace(0, 1, 11, dtype=losses.dtype, device=losses.device)
    return torch.cat([losses.mean(1, keepdim=True), torch.quantile(losses, tenths, dim=1).T], 1)


@torch.no_grad()
def network_features(networks: Networks, split: Split, with_weights: bool = True) -> Features:
    """Features of networks on given examples.

    Norms and singular values change when neurons are rescaled: give all networks that are compared in one gauge, either as
    training left them or all canonical, and with one architecture.

    Args:
        networks: Classifiers, ordinary or canonical, in any neuron order.
        split: Examples with targets.
        with_weights: False for the function alone, which no symmetry changes.

    Returns:
        Features, on the CPU.
    """
    log_probabilities = predict(networks, split.inputs)
    summaries = [loss_summaries(example_losses(log_probabilities, split.targets))]
    if with_weights:
        summaries += [tensor_norms(networks), tensor_spectra(networks)]
    return Features(log_odds(log_probabilities).cpu(), torch.cat(summaries, 1).cpu())
