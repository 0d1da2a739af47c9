"""Predictions of many classifiers on the same examples: what every measure of quality and diversity starts from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wflib.architecture import Architecture

__all__ = ["predict", "require_classification"]


def require_classification(architecture: Architecture, purpose: str) -> None:
    """Refuse architectures whose outputs are no logits.

    Raises:
        ValueError: The architecture is one of regression.
    """
    if architecture.task_type != "classification":
        raise ValueError(
            f"{purpose}: expected a classification architecture, got {architecture.task_type!r}; "
            "class probabilities are undefined there, compare wflib.zoo.network_losses instead."
        )


@torch.no_grad()
def predict(architecture: Architecture, weights: Mapping[str, Tensor], inputs: Tensor, chunk: int = 256) -> Tensor:
    """Log-probabilities log softmax f(x; θ) of all networks, on the weights' device.

    Args:
        architecture: A classification architecture, ordinary or canonical.
        weights: Tensors of shape (networks, *shape).
        inputs: (examples, *inputs), shared by all networks; moved to the weights' device and dtype.
        chunk: Networks that run at once; bounds the memory for hidden activations.

    Returns:
        (networks, examples, classes), natural logarithms.

    Raises:
        ValueError: Regression, weights or inputs of the wrong shape, or ``chunk`` below one.
    """
    require_classification(architecture, "predict")
    architecture.validate(weights)
    if inputs.ndim == 0 or tuple(inputs.shape[1:]) != architecture.inputs:
        expected = ", ".join(map(str, architecture.inputs))
        raise ValueError(f"Shape mismatch: predict expected inputs (examples, {expected}), got {tuple(inputs.shape)}.")
    if chunk < 1:
        raise ValueError(f"predict: chunk must be at least 1, got {chunk}.")
    some = next(iter(weights.values()))
    inputs = inputs.to(some)
    if len(some) == 0:  # one network of zeros says the shape (0, examples, classes)
        one = {name: tensor.new_zeros(1, *tensor.shape[1:]) for name, tensor in weights.items()}
        return architecture.forward(one, inputs)[:0]
    pieces = []
    for start in range(0, len(some), chunk):
        part = {name: tensor[start : start + chunk] for name, tensor in weights.items()}
        pieces.append(architecture.forward(part, inputs).log_softmax(-1))
    return torch.cat(pieces)
