"""Weights of single networks to look at: one drawn, the training network nearest to it, and another training network."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from wflib.evaluation.novelty import NEIGHBOURS
from wflib.evaluation.summary import novelty
from wflib.networks import Networks
from wflib.symmetry import order_free_matching, permute, squared_distance, weight_matching
from wflib.zoo import AnyZoo

__all__ = ["PICTURE_SCHEMA", "weight_pictures"]

PICTURE_SCHEMA: dict[str, str] = {
    "network": "str",
    "distance": "float64",
    "tensor": "str",
    **dict.fromkeys(["unit", "channel", "y", "x"], "int64"),
    "value": "float64",
}
"""Column → dtype of the table with one row per weight; ``network`` is ``zoo``, ``sample`` or ``nearest``."""
TENSORS, UNITS = 4, 32
"""Most tensors, the first ones, and most of their units and channels: what a figure can show."""


@torch.no_grad()
def weight_pictures(
    drawn: Networks,
    training: AnyZoo,
    reference: Networks,
    generator: torch.Generator,
    image: Sequence[int] | None = None,
    restarts: int = 3,
) -> pd.DataFrame:
    """Weights of the first drawn network, of the training network nearest to it, and of another run's, in one neuron order.

    The drawn network is matched to the reference, the two others to it, so that what differs is not the order of neurons.

    Args:
        drawn: Networks of the architecture of ``training``, in any neuron order.
        training: The part of the zoo that was learned from, of at least one run.
        reference: The one network that ``training`` was aligned to.
        generator: For weight matching.
        image: Shape of an example, (channels, height, width), where it is one: rows of the first layer are then images.
        restarts: Starts of each matching.

    Returns:
        Rows of ``PICTURE_SCHEMA``, one a weight of the first tensors that are matrices or filters. ``distance`` is the
        Euclidean one between all weights of a network and the drawn one's, after matching. Without a second run no ``zoo``.
    """
    sample = matched(reference, drawn[:1].to("cpu"), generator, restarts)
    index = int(novelty(sample, training, generator, None, 2, NEIGHBOURS)[1])
    shown = {"sample": sample, "nearest": matched(sample, training.networks[[index]], generator, restarts)}
    others = training.last_snapshots
    others = others[(others.trajectory != training.trajectory[index]).nonzero().flatten()]
    if len(others):
        shown["zoo"] = matched(sample, others.networks[:1], generator, restarts)
    tables = []
    for name in sorted(shown, key=("zoo", "sample", "nearest").index):
        distance = squared_distance(sample, shown[name]).sqrt().item()
        matrices = [tensor for tensor, shape in sample.architecture.shapes if len(shape) >= 2][:TENSORS]
        for place, tensor in enumerate(matrices):
            weights = filters(shown[name].weights[tensor][0], image if place == 0 else None)
            tables.append(rows(weights).assign(network=name, distance=distance, tensor=tensor))
    return pd.concat(tables, ignore_index=True)[list(PICTURE_SCHEMA)].astype(PICTURE_SCHEMA)


def matched(reference: Networks, networks: Networks, generator: torch.Generator, restarts: int) -> Networks:
    """One network in the neuron order of another."""
    first = order_free_matching(reference, networks)
    return permute(networks, weight_matching(reference, networks, generator, restarts, first=first))


def filters(tensor: Tensor, image: Sequence[int] | None) -> Tensor:
    """A weight tensor as (units, channels, height, width): filters as they are, first-layer rows as images, others flat."""
    if tensor.ndim == 4:
        return tensor[:UNITS, :UNITS]
    if image is not None and tensor[0].numel() == torch.Size(image).numel():
        return tensor[:UNITS].reshape(-1, *image)[:, :UNITS]
    return tensor[:UNITS].reshape(len(tensor[:UNITS]), 1, 1, -1)


def rows(weights: Tensor) -> pd.DataFrame:
    """One row a weight of (units, channels, height, width)."""
    places = torch.cartesian_prod(*(torch.arange(size) for size in weights.shape))
    table = pd.DataFrame(places.numpy(), columns=["unit", "channel", "y", "x"])
    return table.assign(value=weights.double().flatten().numpy())
