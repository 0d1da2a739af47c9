"""Base tasks: data in three parts, and what a base network's output means.

A task's test part touches nothing but the final evaluation: zoo training sees ``train``, choices and barriers on the way
see ``validation``.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.rng import generator

__all__ = ["WITHOUT_CLASSES", "WITHOUT_EXAMPLES", "Dataset", "Split", "no_examples"]

PROBES, MOST_PROBES = 16, 512  # drawn, and of examples that there are
FLAT_IMAGES = {"mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28)}
"""Tasks that are kept as flat features → the shape of their images."""
WITHOUT_EXAMPLES = ("none", "gaussian")
"""Tasks that no network is trained on."""
WITHOUT_CLASSES = (*WITHOUT_EXAMPLES, "diabetes")
"""Tasks whose networks are no classifiers."""


@dataclass(frozen=True)
class Split:
    """Inputs (examples, *shape) in float32 and targets: class indices (int64) or values (float32, one column)."""

    inputs: Tensor
    targets: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Split:
        """Some of the examples, by their indices or by a slice."""
        return Split(self.inputs[rows], self.targets[rows])

    def some(self, count: int, random: torch.Generator) -> Split:
        """So many random examples, none twice, all of them at most."""
        chosen = torch.randperm(len(self.targets), generator=random, device=random.device)[:count]
        return self[chosen.to(self.targets.device)]

    def to(self, device: str | torch.device) -> Split:
        """The same examples on another device."""
        return Split(self.inputs.to(device), self.targets.to(device))

    @property
    def fingerprint(self) -> str:
        """What tells these examples, in this order, from others; the same for flat inputs and images, on every device."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.inputs, self.targets):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A task's data, standardized with the training part's statistics."""

    task: str
    task_type: str
    outputs: int
    train: Split
    validation: Split
    test: Split

    @property
    def has_examples(self) -> bool:
        """Whether there are any: the task ``none`` has none, for networks whose data nobody has at hand."""
        return len(self.train.inputs) > 0

    @property
    def has_classes(self) -> bool:
        """Whether there are examples whose classes networks predict."""
        return self.has_examples and self.task_type == "classification"

    def probes(self, architecture: Architecture) -> Tensor:
        """Inputs on which networks' functions are compared: up to 512 of the validation part, else 16 draws from N(0, 1)."""
        if self.has_examples:
            return self.validation.inputs[:MOST_PROBES]
        return torch.randn(PROBES, *architecture.inputs, generator=generator(0, "tasks", "probes"))

    @property
    def inputs(self) -> tuple[int, ...]:
        """Shape of one example: (features,), or (channels, height, width) of images."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def image(self) -> tuple[int, ...] | None:
        """Shape of one example as an image, (channels, height, width), or None where it is none."""
        return self.inputs if len(self.inputs) == 3 else FLAT_IMAGES.get(self.task)

    @property
    def features(self) -> int:
        """Numbers of one example."""
        return math.prod(self.inputs)

    def shaped(self, inputs: tuple[int, ...]) -> Dataset:
        """The same numbers, examples in another shape.

        Raises:
            ValueError: It holds another number of entries.
        """
        if math.prod(inputs) != self.features:
            raise ValueError(f"Shape mismatch: expected {self.features} numbers an example of {self.task}, got {inputs}.")
        train, validation, test = (
            Split(part.inputs.reshape(-1, *inputs), part.targets) for part in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)

    def images(self) -> Dataset:
        """The same examples as images (channels, height, width).

        Raises:
            ValueError: They are none.
        """
        shape = self.image
        if shape is None:
            raise ValueError(
                f"{self.task}: expected images (channels, height, width) for a network of convolutions or patches, found "
                f"examples {self.inputs}; choose zoo.network: mlp or another task."
            )
        return self.shaped(shape)

    def for_networks(self, architecture: Architecture, who: str) -> Dataset:
        """The same examples in the shape that networks take: images, or flat features.

        Args:
            architecture: Of the networks.
            who: Who asks, the sentence's beginning.

        Raises:
            ValueError: Networks of another task: inputs, outputs or the kind of task differ.
        """
        inputs, outputs = architecture.inputs, architecture.groups[-1].size
        if not self.has_examples:
            return no_examples(inputs, self.task, outputs, architecture.task_type)
        if (math.prod(inputs), outputs, architecture.task_type) != (self.features, self.outputs, self.task_type) or (
            inputs != self.inputs and min(len(inputs), len(self.inputs)) > 1
        ):
            ours, theirs = (" × ".join(map(str, shape)) for shape in (self.inputs, inputs))
            raise ValueError(
                f"{who}: expected networks for {self.task} ({ours} inputs, {self.outputs} outputs, {self.task_type}), "
                f"found such of {theirs} inputs, {outputs} outputs, {architecture.task_type}; choose the dataset they were "
                "trained on."
            )
        return self if inputs == self.inputs else self.shaped(inputs)


def no_examples(
    inputs: tuple[int, ...] = (0,), task: str = "none", outputs: int = 0, task_type: str = "classification"
) -> Dataset:
    """The task of networks without data: they are looked at as weights alone."""
    empty = Split(torch.zeros(0, *inputs), torch.zeros(0, dtype=torch.int64))
    return Dataset(task, task_type, outputs, empty, empty, empty)
