"""The network that the section ``zoo`` describes, for a task's examples and classes."""

from __future__ import annotations

from wflib.architecture import Architecture, cnn, mlp, resnet, vit
from wflib.config import ZooConfig
from wflib.tasks import Dataset

__all__ = ["network_for"]


def network_for(config: ZooConfig, dataset: Dataset) -> Architecture:
    """A network by its kind and widths.

    ``mlp`` takes examples of any shape as flat features, the others take images.

    Raises:
        ValueError: The task has no images, or they are too small for the network.
    """
    widths, outputs, task_type = config.widths, dataset.outputs, dataset.task_type
    if config.network == "mlp":
        return mlp([dataset.features, *widths, outputs], config.activation, task_type)
    inputs = dataset.images().inputs
    if config.network == "vit":
        return vit(inputs, widths[0], widths[1:], outputs, activation=config.activation, task_type=task_type)
    if config.network == "resnet":
        return resnet(inputs, widths, outputs, config.activation, task_type)
    return cnn(inputs, widths, outputs, config.activation, task_type=task_type)
