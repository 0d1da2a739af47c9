"""The network that the section ``zoo`` describes, for a task's examples and classes."""

from __future__ import annotations

from typing import Any

from wflib.architecture import Architecture, cnn, mlp, resnet, vit
from wflib.config import ZooConfig
from wflib.tasks import Dataset

__all__ = ["network_for"]

SMALL_KERNELS, SMALL_POOLS = (5, 5, 2), (2, 2, 1)
"""Of ``cnn-s``, as in the model zoos of Schürholt et al. 2022 (arXiv 2209.14764)."""


def network_for(config: ZooConfig, dataset: Dataset) -> Architecture:
    """A network by its kind and widths.

    ``mlp`` takes examples of any shape as flat features, the others take images.

    Raises:
        ValueError: The task has no images, or they are too small for the network.
    """
    widths, outputs, task_type = config.widths, dataset.outputs, dataset.task_type
    if config.network == "mlp":
        return mlp([dataset.features, *widths, outputs], config.activation, task_type)
    channels, height, width = dataset.images().inputs
    inputs = channels, height, width
    if config.network == "vit":
        return vit(inputs, widths[0], widths[1:], outputs, activation=config.activation, task_type=task_type)
    if config.network == "resnet":
        return resnet(inputs, widths, outputs, config.activation, task_type)
    if config.network == "cnn-s":
        layers: dict[str, Any] = {"kernels": SMALL_KERNELS, "pools": SMALL_POOLS, "padding": False, "hidden": widths[3:]}
        return cnn(inputs, widths[:3], outputs, config.activation, task_type=task_type, **layers)
    norm = "batch" if config.network == "cnn-batch-norm" else "none"
    return cnn(inputs, widths, outputs, config.activation, norm, task_type=task_type)
