"""Inputs of another kind than a task's, on which predictions should be unsure."""

from __future__ import annotations

import torch
from torch import Tensor

from wflib.rng import random_order
from wflib.tasks.images import fetch_images, read_idx
from wflib.tasks.tasks import Dataset

__all__ = ["OTHER_IMAGES", "outside_inputs"]

OTHER_IMAGES = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}
"""Task → images of other things in the same shape."""
PERMUTED = "permuted"
MOST = 2000
"""Most inputs of each kind, so that averages of many networks on them stay cheap."""


def outside_inputs(dataset: Dataset, generator: torch.Generator) -> dict[str, Tensor]:
    """Inputs of other kinds, as far as a task has any.

    ``permuted``: test inputs, the values of each feature permuted among examples on their own. Every feature has its usual
    distribution, and none goes with another: only what depends on several can tell.

    Name of a task in ``OTHER_IMAGES``: its published test images; black and white are what they are in the dataset.

    Args:
        dataset: With examples.
        generator: Of the permutations and of which images, where there are more than 2,000.

    Returns:
        Name → (examples, *inputs).

    Raises:
        ValueError: A task without examples.
        OSError: No source has the other images.
    """
    if not dataset.has_examples:
        raise ValueError(f"outside: the task {dataset.task} has no examples that others could differ from; choose another.")
    test = dataset.test.inputs
    flat = test.flatten(1)
    order = torch.rand(flat.shape, generator=generator, device=generator.device).to(flat.device).argsort(0)
    found = {PERMUTED: flat.gather(0, order).view_as(test)[:MOST]}
    if other := OTHER_IMAGES.get(dataset.task):
        pixels = read_idx(fetch_images(other)["t10k-images-idx3-ubyte"])
        chosen = random_order(len(pixels), generator)[:MOST]
        low, high = dataset.train.inputs.min(), dataset.train.inputs.max()
        images = torch.tensor(pixels[chosen.numpy()], dtype=torch.float32) / 255
        found[other] = (low + images * (high - low)).reshape(-1, *dataset.inputs)
    return found
