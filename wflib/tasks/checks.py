"""What a dataset must be before anything is done with it, in one place: its kind, and each part with its targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wflib.tasks.tasks import WITHOUT_EXAMPLES, Dataset, Split

__all__ = ["PARTS", "check_dataset", "dataset_fault", "targets_fault"]

PARTS = ("train", "validation", "test")
FEWEST = {"classification": 2, "regression": 1}
"""Kind of task → the fewest outputs with which there is something to learn."""


def check_dataset(dataset: Dataset, who: str) -> None:
    """Refuse a dataset that no network could learn, before any work; tasks without examples are taken as they are.

    Args:
        dataset: A task's, on any device.
        who: Who asks, the sentence's beginning.

    Raises:
        ValueError: Says which part, what was expected, what was found, and what mends it.
    """
    if fault := dataset_fault(dataset):
        raise ValueError(f"{who}: {'; '.join(fault)}.")


def dataset_fault(dataset: Dataset) -> tuple[str, str] | None:
    """What is wrong with a dataset, and what mends it; None where nothing is."""
    if not isinstance(dataset, Dataset):
        return f"expected a Dataset, found a {type(dataset).__name__}", "make one, as wflib.tasks.Dataset(task, …)"
    if dataset.task in WITHOUT_EXAMPLES:
        return None
    if dataset.task_type not in FEWEST:
        return f"task_type expected {' or '.join(FEWEST)}, found {dataset.task_type!r}", "name one of them"
    fewest = FEWEST[dataset.task_type]
    if not isinstance(dataset.outputs, int) or dataset.outputs < fewest:
        return (
            f"outputs of a {dataset.task_type} expected an int of {fewest} at least, found {dataset.outputs!r}",
            "give the number of classes or of values",
        )
    for part in PARTS:
        split = getattr(dataset, part)
        if not isinstance(split, Split):
            return f"{part} expected a Split, found a {type(split).__name__}", "make one, as Split(inputs, targets)"
        fault = inputs_fault(split.inputs) or targets_fault(
            split.targets, len(split.inputs), dataset.task_type, dataset.outputs
        )
        if fault:
            return f"{part} {fault[0]}", fault[1]
        if split.inputs.shape[1:] != dataset.train.inputs.shape[1:]:
            expected, found = (shape_text(one.inputs) for one in (dataset.train, split))
            return f"{part} inputs expected {expected} as train, found {found}", "make all parts alike"
    return None


def inputs_fault(inputs: Any) -> tuple[str, str] | None:
    """What is wrong with one part's inputs, and what mends it."""
    expected = "inputs expected a floating-point tensor (examples, *shape)"
    if not isinstance(inputs, Tensor):
        return f"{expected}, found a {type(inputs).__name__}", remedy_of(inputs)
    if not inputs.is_floating_point():
        return f"{expected}, found {inputs.dtype}", "convert them: inputs.float()"
    if inputs.ndim < 2:
        return f"{expected}, found {tuple(inputs.shape)}", "a single feature needs a column of its own: inputs[:, None]"
    if not inputs.numel():
        return f"{expected} with one example at least, found {tuple(inputs.shape)}", "give every part examples"
    if count := int((~torch.isfinite(inputs)).sum()):
        return f"inputs expected finite numbers, found {count} NaN or infinite ones", "leave those examples out or fill them"
    return None


def targets_fault(targets: Any, examples: int, task_type: str, outputs: int) -> tuple[str, str] | None:
    """What is wrong with the targets of so many examples, and what mends it; None where nothing is."""
    classes = task_type == "classification"
    shape = (examples,) if classes else (examples, outputs)
    expected = f"targets expected class indices 0 … {outputs - 1} {shape} in torch.int64"
    if not classes:
        expected = f"targets expected floating-point values {shape}"
    if not isinstance(targets, Tensor):
        return f"{expected}, found a {type(targets).__name__}", remedy_of(targets)
    found = f"found {tuple(targets.shape)} in {targets.dtype}"
    if len(targets.shape) == 0 or len(targets) != examples:
        return f"{expected}, {found}", "give each example one, in the same order"
    if tuple(targets.shape) != shape:
        mended = "targets.flatten()" if targets.numel() == examples else "targets.argmax(1)"
        return f"{expected}, {found}", f"reshape them: {mended if classes else 'targets[:, None]'}"
    if not (targets.dtype == torch.int64 if classes else targets.is_floating_point()):
        return f"{expected}, {found}", f"convert them: targets.{'long' if classes else 'float'}()"
    if not classes:
        if count := int((~torch.isfinite(targets)).sum()):
            return f"targets expected finite numbers, found {count} NaN or infinite ones", "leave those examples out"
        return None
    low, high = (int(end) for end in targets.aminmax())
    if low >= 0 and high < outputs:
        return None
    mended = "give outputs the number of classes"
    if high - low < outputs:
        mended = "count from 0: targets - targets.min()"
    elif len(targets.unique()) <= outputs:
        mended = "count from 0: targets.unique(return_inverse=True)[1]"
    return f"{expected}, found {low} … {high}", mended


def remedy_of(given: Any) -> str:
    """How something becomes a tensor."""
    return "convert it: torch.from_numpy(…)" if type(given).__module__ == "numpy" else "convert it: torch.tensor(…)"


def shape_text(inputs: Tensor) -> str:
    """``30 features``, or ``1 × 8 × 8 features``."""
    return f"{' × '.join(map(str, inputs.shape[1:]))} features"
