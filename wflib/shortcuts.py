"""One call for what takes three: alignment of networks to one of them, and the loss on the way between two.

``wflib.align`` and ``wflib.barrier`` are these; what they are made of is in :mod:`wflib.symmetry` and
:mod:`wflib.evaluation`.
"""

from __future__ import annotations

from torch import Tensor

from wflib.evaluation import Barriers, loss_barriers
from wflib.networks import Networks, require_networks, require_tensor
from wflib.rng import generator
from wflib.symmetry import activation_matching, permute, weight_matching
from wflib.tasks import Split, targets_fault

__all__ = ["align", "barrier"]


def align(
    networks: Networks,
    reference: Networks | None = None,
    inputs: Tensor | None = None,
    *,
    restarts: int = 3,
    seed: int = 0,
) -> Networks:
    """Networks with their hidden neurons in one order; every network computes what it computed before.

    π_n minimizes ‖θ_reference − π_n(θ_n)‖² by weight matching or, where inputs are given, the difference of activations over
    them; the result is π_n(θ_n).

    Args:
        networks: In any neuron order.
        reference: One network whose order the others take; None for the first of ``networks``.
        inputs: Training inputs, (examples, *inputs), to match what neurons compute rather than their weights; None for
            weight matching.
        restarts: Starts of weight matching, of which the best is kept.
        seed: Of the starts after the first.

    Returns:
        As many networks, in the order given.

    Raises:
        ValueError: No networks, more than one reference, one of another architecture, or weights that are not finite; no
            inputs of these networks.

    Example:
        >>> import torch, wflib
        >>> from wflib.architecture import mlp
        >>> architecture = mlp([3, 4, 2])
        >>> networks = wflib.Networks(architecture, architecture.unflatten(torch.randn(2, architecture.dimension)))
        >>> aligned = wflib.align(networks)
        >>> inputs = torch.randn(5, 3)
        >>> torch.allclose(aligned.forward(inputs), networks.forward(inputs), atol=1e-5)
        True
    """
    require_networks("align: networks", networks)
    if not len(networks):
        raise ValueError("align: expected at least one network, got none.")
    reference = networks[:1] if reference is None else reference
    require_networks("align: reference", reference)
    if len(reference) != 1 or reference.architecture != networks.architecture:
        what = f"{len(reference)} networks" if len(reference) != 1 else "one of another architecture"
        raise ValueError(f"align: reference expected one network of the same architecture, got {what}.")
    reference = reference.to(networks.dtype)
    if inputs is not None:
        return permute(networks, activation_matching(reference, networks, inputs))
    return permute(networks, weight_matching(reference, networks, generator(seed, "align"), restarts))


def barrier(networks: Networks, inputs: Tensor, targets: Tensor, points: int = 9) -> Barriers:
    """Losses on the straight segments between all pairs of networks, as they are; align them first.

    Args:
        networks: At least two.
        inputs: Held-out examples, (examples, *inputs).
        targets: Their classes, or values in one column for regression.
        points: Points between the ends of each segment, an odd number.

    Returns:
        Matrices over pairs in units of the loss: ``midpoint``, ``excess`` at the midpoint, ``maximal`` excess.

    Raises:
        ValueError: Fewer than two networks, some that are not finite, an even number of points, or examples of another task.

    Example:
        >>> import torch, wflib
        >>> from wflib.architecture import mlp
        >>> architecture = mlp([3, 4, 2])
        >>> networks = wflib.Networks(architecture, architecture.unflatten(torch.randn(2, architecture.dimension)))
        >>> wflib.barrier(networks, torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])).excess.shape
        torch.Size([2, 2])
    """
    require_networks("barrier: networks", networks)
    if len(networks) < 2:
        raise ValueError(f"barrier: expected at least two networks, got {len(networks)}.")
    require_tensor("barrier: inputs", inputs)
    if not len(inputs):
        raise ValueError("barrier: expected at least one example, got none.")
    kind, outputs = networks.architecture.task_type, networks.architecture.groups[-1].size
    if fault := targets_fault(targets, len(inputs), kind, outputs):
        raise ValueError(f"barrier: {'; '.join(fault)}.")
    return loss_barriers(networks, Split(inputs, targets), points)
