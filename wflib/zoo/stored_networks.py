"""Networks that stay on disk until they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.networks import Networks
from wflib.storage import RowFiles
from wflib.zoo.base import at_a_time

__all__ = ["StoredNetworks", "in_parts"]

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class StoredNetworks:
    """Networks on disk: ``len``, and indexing by a tensor, a mask or a slice, which reads them in float32.

    Attributes:
        architecture: Of every network.
        rows: Where they are.
        prefix: Names of their tensors begin with it.
        places: Which rows, (networks,).
        device: Where they come when they are read.
    """

    architecture: Architecture
    rows: RowFiles
    prefix: str
    places: Tensor
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.places)

    @property
    def dtype(self) -> torch.dtype:
        """Of networks that are read."""
        return torch.float32

    def __getitem__(self, index: Tensor | slice) -> Networks:
        found = {name: tensor.float().to(self.device) for name, tensor in self.read(index).items()}
        return Networks(self.architecture, found)

    def to(self, device: str | torch.device) -> StoredNetworks:
        """The same networks, to be read to another device."""
        return replace(self, device=torch.device(device))

    def joined(self, others: StoredNetworks) -> StoredNetworks:
        """These and other networks of the same files."""
        return replace(self, places=torch.cat([self.places, others.places]))

    def read(self, index: Tensor | slice, finite: bool = True) -> Weights:
        """Tensors of some of them, (networks, *shape), in the precision of the file.

        Args:
            index: Which.
            finite: Whether NaN and infinity are refused.

        Raises:
            ArtifactError: They are, and there are some; names the file.
        """
        names = {name: self.prefix + name for name, _ in self.architecture.shapes}
        places = self.places[index.cpu() if isinstance(index, Tensor) else index]
        found = self.rows.read(places, names.values(), finite)
        return {name: found[stored] for name, stored in names.items()}

    @cached_property
    def kept(self) -> Networks:
        """All of them, kept in memory."""
        return self[:]

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (divisor N) of each coordinate over all networks, (D,) each, in double precision."""
        count, mean, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for part in in_parts(self):
            flat = part.flat.double().cpu()
            shift = flat.mean(0) - mean
            share = len(flat) / (count + len(flat))
            squares = squares + (flat - flat.mean(0)).square().sum(0) + shift.square() * count * share
            mean, count = mean + shift * share, count + len(flat)
        return mean, squares / count


def in_parts(networks: Networks | StoredNetworks) -> Iterator[Networks]:
    """All networks in order, so many at a time as memory shall hold; few of them all at once."""
    count = at_a_time(len(networks), networks.architecture.dimension)
    for start in range(0, len(networks), count):
        if isinstance(networks, Networks) and count >= len(networks):
            yield networks
        else:
            yield networks[start : start + count]
