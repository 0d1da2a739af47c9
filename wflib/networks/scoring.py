"""Networks on examples: what they predict, and how well; every loss, probability and accuracy of networks is computed here.

Targets are class indices (int64) or values (float32, one column). Losses are differentiable in the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture, Weights, is_perceptron, with_batch_statistics
from wflib.architecture.operations import BatchNorm, Moments
from wflib.networks.checks import require_tensor
from wflib.networks.networks import Networks
from wflib.tasks import Split

__all__ = [
    "accuracy",
    "batch_losses",
    "example_losses",
    "largest_value",
    "negative_log_likelihood",
    "network_losses",
    "output_losses",
    "predict",
    "require_classification",
    "require_networks",
    "wrong_predictions",
]

CHUNK = 256
"""Networks that run at once: bounds the memory for what they compute."""
NUMBERS = 2**25
"""Numbers of a value, of all networks that run at once on the same examples; one network runs whatever it needs."""


@lru_cache(maxsize=256)
def largest_value(architecture: Architecture) -> int:
    """Numbers of the largest value that a network computes of one example; a perceptron's are its features."""
    numbers = math.prod(architecture.inputs)
    if is_perceptron(architecture):
        return numbers
    weights = {name: torch.zeros(1, *shape) for name, shape in architecture.shapes}
    every = {operation.output for operation in architecture.operations}
    values = architecture.run(weights, torch.zeros(1, *architecture.inputs), every)
    return max(numbers, *(value[0].numel() for value in values.values()))


def require_classification(architecture: Architecture, purpose: str) -> None:
    """Refuse architectures whose outputs are no logits.

    Raises:
        ValueError: The architecture is one of regression.
    """
    if architecture.task_type != "classification":
        raise ValueError(
            f"{purpose}: expected a classification architecture, got {architecture.task_type!r}; "
            "class probabilities are undefined there, compare wflib.networks.network_losses instead."
        )


def require_networks(who: str, given: object) -> None:
    """Refuse what is no :class:`~wflib.networks.Networks`, such as a list of modules.

    Raises:
        ValueError: Says what was given, and how networks are made.
    """
    if not isinstance(given, Networks):
        raise ValueError(
            f"{who} expected Networks, got a {type(given).__name__}; make them of state dicts with "
            "Networks.from_state_dicts(architecture, [module.state_dict() for module in modules])."
        )


def outputs_in_parts(networks: Networks, inputs: Tensor, chunk: int | None) -> Iterator[Tensor]:
    """Outputs of at most so many networks at a time, of all with None; inputs go to the networks' device and precision.

    Networks that are no perceptrons have values far larger than inputs and weights: where examples are shared, as few of
    them run at once as keep these below ``NUMBERS``.

    Yields:
        (networks at a time, examples, outputs).

    Raises:
        ValueError: Inputs of another shape, or ``chunk`` below one.
    """
    expected = networks.architecture.inputs
    require_tensor("inputs", inputs)
    if tuple(inputs.shape[-len(expected) if chunk is None else 1 :]) != expected:
        shape = ", ".join(map(str, expected))
        raise ValueError(f"Shape mismatch: expected inputs (examples, {shape}), got {tuple(inputs.shape)}.")
    if chunk is not None and chunk < 1:
        raise ValueError(f"expected at least 1 network at a time, got {chunk}.")
    inputs = inputs.to(networks.device, networks.dtype)
    if len(networks) == 0:  # one network of zeros says the shape (0, examples, outputs)
        yield networks.map(lambda tensor: tensor.new_zeros(1, *tensor.shape[1:])).forward(inputs)[:0]
        return
    if inputs.ndim == 1 + len(expected) and not is_perceptron(networks.architecture):
        fitting = max(1, NUMBERS // max(1, len(inputs) * largest_value(networks.architecture)))
        chunk = min(len(networks) if chunk is None else chunk, fitting)
    if chunk is None:
        yield networks.forward(inputs)
    else:
        yield from (part.forward(inputs) for part in networks.split(chunk))


@torch.no_grad()
def predict(networks: Networks, inputs: Tensor, chunk: int = CHUNK) -> Tensor:
    """Log-probabilities log softmax f(x; θ) of all networks, on their device.

    Args:
        networks: Classifiers, ordinary or canonical.
        inputs: (examples, *inputs), shared by all networks; moved to their device and dtype.
        chunk: Networks that run at most at once; bounds the memory for hidden activations.

    Returns:
        (networks, examples, classes), natural logarithms.

    Raises:
        ValueError: Regression, inputs of the wrong shape, or ``chunk`` below one.
    """
    require_classification(networks.architecture, "predict")
    return torch.cat([outputs.log_softmax(-1) for outputs in outputs_in_parts(networks, inputs, chunk)])


def network_losses(networks: Networks, split: Split, chunk: int | None = None) -> Tensor:
    """Mean loss of every network on a set of examples: cross-entropy in nats, or half the squared error.

    Args:
        networks: Of any kind.
        split: Examples shared by all networks, or with a leading network axis.
        chunk: Networks that run at most at once, where examples are shared; None for as many as the memory holds.

    Returns:
        (networks,).

    Raises:
        ValueError: Inputs or targets of another shape, or ``chunk`` below one.
    """
    kind, parts = networks.architecture.task_type, outputs_in_parts(networks, split.inputs, chunk)
    return torch.cat([output_losses(kind, outputs, split.targets).mean(1) for outputs in parts])


def batch_losses(
    architecture: Architecture, weights: Weights, split: Split, momentum: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean loss of every network in training mode, and its running statistics after these examples; both differentiable.

    Batch norms go by moments of the examples. Statistics s are measured rather than learned: s + momentum (found − s), found
    the mean and the unbiased variance of the examples, this as ``BatchNorm.holds`` says.

    Args:
        architecture: Of any kind.
        weights: Stacked, one network a row.
        split: Examples shared by all networks, or with a leading network axis.
        momentum: How far statistics move, by default all the way.

    Returns:
        Losses (networks,), as :func:`network_losses` where there are no batch norms; running statistics by name.
    """
    if not architecture.statistics:
        return network_losses(Networks.unchecked(architecture, weights), split), {}
    training = with_batch_statistics(architecture)
    found: dict[str, Tensor] = {}
    examples = split.inputs.shape[-1 - len(architecture.inputs)]
    norms = [operation for operation in architecture.operations if isinstance(operation, BatchNorm)]
    measured = [operation for operation in training.operations if isinstance(operation, Moments)]
    kept = {name for operation in measured for name in (operation.output, *operation.inputs)}
    values = training.run(weights, split.inputs, kept)
    for norm, operation in zip(norms, measured, strict=True):
        count = examples * values[operation.inputs[0]][0, 0, 0].numel()
        mean, variance = values[operation.output].unbind(1)
        unbiased = norm.held(variance * (count / max(count - 1, 1)))
        for name, there in ((norm.mean, mean), (norm.variance, unbiased)):  # A norm that is used twice moves twice.
            found[name] = found.get(name, weights[name]).lerp(there, momentum)
    return output_losses(architecture.task_type, values[training.operations[-1].output], split.targets).mean(1), found


def output_losses(task_type: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of every network on every example, (networks, examples), from outputs (networks, examples, outputs).

    Raises:
        ValueError: Targets of another shape, which would be compared with outputs of other examples.
    """
    if task_type == "regression":
        require_tensor("targets", targets)
        if tuple(targets.shape) not in (outputs.shape, outputs.shape[1:]):
            raise ValueError(
                f"Shape mismatch: expected targets (examples, outputs) of a regression, {tuple(outputs.shape[1:])}, got "
                f"{tuple(targets.shape)}; a single value needs a column of its own."
            )
        return 0.5 * (outputs - targets.to(outputs.device)).square().mean(2)
    return example_losses(outputs.log_softmax(-1), targets)


def check_predictions(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Targets for every network, (networks, examples), on the predictions' device.

    Raises:
        ValueError: Shapes do not fit, or targets are no class indices.
    """
    require_tensor("targets", targets)
    if log_probabilities.ndim != 3:
        raise ValueError(
            "Shape mismatch: expected log-probabilities (networks, examples, classes), "
            f"got {tuple(log_probabilities.shape)}; add the network axis with [None]."
        )
    if tuple(targets.shape) not in (log_probabilities.shape[:2], log_probabilities.shape[1:2]):
        raise ValueError(f"Shape mismatch: expected targets ({log_probabilities.shape[1]},), got {tuple(targets.shape)}.")
    if targets.dtype not in (torch.int64, torch.uint8):
        raise ValueError(
            f"targets expected class indices in torch.int64, got {targets.dtype}; convert them: targets.long()."
        )
    return targets.to(log_probabilities.device).expand(log_probabilities.shape[:2])


def example_losses(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """−log p(y_i | x_i) of every network on every example, in nats; infinite where a target has probability zero.

    Args:
        log_probabilities: (networks, examples, classes), natural logarithms.
        targets: (examples,) class indices, or (networks, examples).

    Returns:
        (networks, examples).

    Raises:
        ValueError: Shapes do not fit.
    """
    chosen = check_predictions(log_probabilities, targets)
    return nn.functional.nll_loss(log_probabilities.flatten(0, 1), chosen.flatten(), reduction="none").view(chosen.shape)


def negative_log_likelihood(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """−mean_i log p(y_i | x_i), in nats, (networks,); arguments and errors of :func:`example_losses`."""
    return example_losses(log_probabilities, targets).mean(1)


def wrong_predictions(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Where the most probable class is not the target, (networks, examples) bool; as :func:`example_losses`."""
    chosen = check_predictions(log_probabilities, targets)
    return log_probabilities.argmax(-1) != chosen


def accuracy(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Share of examples whose most probable class is the target, (networks,); as :func:`example_losses`."""
    return (~wrong_predictions(log_probabilities, targets)).to(log_probabilities.dtype).mean(1)
