"""Which weights are written for a neuron, so that their norm is the neuron's: what canonical networks have on spheres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from wflib.architecture import Architecture, Factor, Scaling
from wflib.architecture.operations import Convolution, Linear

__all__ = ["Writers", "normalized_scalings", "output_writers", "sign_writers", "writers"]


@dataclass(frozen=True, eq=False)
class Writers:
    """Weights of equally many entries for each neuron of a scaling.

    Attributes:
        name: The scaling's.
        neurons: How many there are.
        parts: Tensors, and which of their entries, flattened, are whose: (neurons, entries) each.
    """

    name: str
    neurons: int
    parts: tuple[tuple[str, Tensor], ...]

    def gather(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The entries of every neuron, (networks, neurons, entries)."""
        found = [
            weights[name].reshape(len(weights[name]), -1)[:, index.to(weights[name].device)] for name, index in self.parts
        ]
        entries: Tensor = torch.cat(found, -1).flatten(1).unflatten(1, (self.neurons, -1))
        return entries

    def places(self, architecture: Architecture) -> Tensor:
        """Where these entries lie in flat vectors, (neurons, entries)."""
        slices = architecture.slices
        return torch.cat([slices[name].start + index for name, index in self.parts], -1).view(self.neurons, -1)


def normalized_scalings(architecture: Architecture) -> list[str]:
    """Scalings by which neurons get writers of norm one: those that admit positive factors."""
    return [scaling.name for scaling in architecture.scalings if scaling.kind in ("positive", "any")]


@lru_cache(maxsize=32)
def writers(architecture: Architecture, norm: str) -> dict[str, Writers]:
    """What counts for the norms of neurons, by the scaling, in the order of the network.

    All that is written for a neuron counts (weights, biases, tokens and positions, factors and offsets of norms) unless it
    is multiplied, too, by a factor that is not settled before the neuron's: its own, or that of neurons later in the
    network. Of a residual stream this leaves out what its blocks add, where they read the stream or hidden neurons that
    read it: norms of all writers together would be equations without a solution for some networks. Means and variances are
    measured, and only follow. Something always counts: the first that is written for a neuron reads earlier ones only.

    Args:
        architecture: An architecture, ordinary or canonical.
        norm: ``"weights-and-bias"``, or ``"weights"``, which leaves out biases of linear maps and convolutions; offsets of
            norms count all the same, since a factor alone on a sphere would be ±1.

    Raises:
        ValueError: Nothing is left that is written for some neurons, or not equally much for all of one scaling.
    """
    left_out = set(architecture.statistics)
    if norm == "weights":
        left_out |= {o.bias for o in architecture.operations if isinstance(o, Linear | Convolution) and o.bias is not None}
    return find_writers(architecture, normalized_scalings(architecture), left_out, (1, -1))


@lru_cache(maxsize=32)
def sign_writers(architecture: Architecture) -> dict[str, Writers]:
    """What neurons that may be flipped take their signs from: as :func:`writers` with biases, without what others flip."""
    flipped = [scaling.name for scaling in architecture.scalings if scaling.kind in ("sign", "any")]
    return find_writers(architecture, flipped, set(architecture.statistics), (1, -1, 0))


def output_writers(architecture: Architecture, norm: str) -> Writers | None:
    """The last layer as one neuron, row by row; None for an architecture without an output layer."""
    layer = architecture.output_layer
    if layer is None:
        return None
    rows, columns = architecture.shape(layer.weight)
    parts = [(layer.weight, torch.arange(rows * columns).view(rows, columns))]
    if layer.bias is not None and norm == "weights-and-bias":
        parts.append((layer.bias, torch.arange(rows).view(rows, 1)))
    return Writers(layer.output, 1, tuple(parts))


def find_writers(
    architecture: Architecture, names: list[str], left_out: set[str], powers: tuple[int, ...]
) -> dict[str, Writers]:
    """Writers of some scalings: what other factors of these powers act on only where they are settled before."""
    uses: dict[str, list[tuple[int, Factor, Tensor]]] = {}
    for place, scaling in enumerate(architecture.scalings):
        for factor in scaling.factors:
            owners = spread(factor, architecture.shape(factor.tensor))
            uses.setdefault(factor.tensor, []).append((place, factor, owners))
    found = {}
    for place, scaling in enumerate(architecture.scalings):
        if scaling.name not in names:
            continue
        parts = []
        for factor in scaling.factors:
            if factor.power != 1 or factor.tensor in left_out:
                continue
            own = next(owners for _, other, owners in uses[factor.tensor] if other is factor)
            unsettled = any(
                where >= place and other is not factor and other.power in powers and bool(((own >= 0) & (owners >= 0)).any())
                for where, other, owners in uses[factor.tensor]
            )
            if not unsettled:
                parts.append((factor.tensor, entries_by_neuron(own, scaling)))
        if not parts:
            raise ValueError(
                f"canonicalize: {scaling.name}: all that is written for these neurons is scaled with neurons behind them, "
                "too, so that no norm is theirs alone; such networks have no canonical form here."
            )
        found[scaling.name] = Writers(scaling.name, scaling.size, tuple(parts))
    return found


def spread(factor: Factor, shape: tuple[int, ...]) -> Tensor:
    """Whose each entry of a tensor is, flattened; -1 for nobody's."""
    view = [size if axis in factor.axes else 1 for axis, size in enumerate(shape)]
    return factor.index.reshape(view).expand(shape).reshape(-1)


def entries_by_neuron(owners: Tensor, scaling: Scaling) -> Tensor:
    """Entries of a flat tensor in their order, neuron by neuron: (neurons, entries).

    Raises:
        ValueError: Neurons have unequally many.
    """
    counts = owners[owners >= 0].bincount(minlength=scaling.size)
    if bool((counts != counts[0]).any()):
        raise ValueError(
            f"canonicalize: {scaling.name}: expected equally many weights for each neuron, got {counts.tolist()}."
        )
    return owners.argsort(stable=True)[int((owners < 0).sum()) :].view(scaling.size, -1)
