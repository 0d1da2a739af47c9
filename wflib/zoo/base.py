"""What a zoo in memory and one that stays on disk have in common: labels, parts, and going through all networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks import Networks
from wflib.rng import random_order

if TYPE_CHECKING:
    from wflib.zoo.zoo import Zoo

__all__ = ["FORMS", "AnyZoo", "at_a_time", "fits_memory", "networks_in_memory", "require_both_parts"]

FORMS = {"trained": "train-zoo", "aligned": "align", "canonical": "canonicalize", "sampled": "sample"}
"""What was done to a zoo → the stage that does it."""
IN_MEMORY = 2**26
"""Weights, in numbers, of a zoo that is worked on as a whole: a quarter of a gigabyte in single precision, several times
that while a stage runs. It is a constant, since how a zoo is parted decides the last bits of sums."""
CHUNK = 2**23
"""Weights, in numbers, that are worked on at a time of a larger zoo."""


def fits_memory(networks: int, dimension: int) -> bool:
    """Whether so many networks of so many weights are worked on as a whole."""
    return networks * dimension <= IN_MEMORY


def networks_in_memory(dimension: int) -> int:
    """How many networks of so many weights a part of a larger zoo has that is worked on as a whole, two at least."""
    return max(2, IN_MEMORY // dimension)


def at_a_time(networks: int, dimension: int) -> int:
    """How many networks are worked on at a time: all where they fit the memory."""
    return max(1, networks if fits_memory(networks, dimension) else CHUNK // dimension)


def require_both_parts(held_out: Tensor, who: str) -> None:
    """As :meth:`AnyZoo.require_both_parts`, of labels (networks,)."""
    count, networks = int(held_out.sum()), len(held_out)
    if not networks:
        raise ValueError(f"{who}: expected a zoo with networks, found none.")
    if count in (0, networks):
        found = "all" if count else "none"
        raise ValueError(
            f"{who}: expected a zoo with some trajectories held out and others not, found {found} of {networks} "
            "networks held out; set zoo.held_out between 0 and 1 and train at least two trajectories, or choose "
            "held_out in wflib.zoo.zoo_from_networks."
        )


class AnyZoo(ABC):
    """A zoo, in memory (:class:`~wflib.zoo.Zoo`) or on disk (:class:`~wflib.zoo.StoredZoo`); attributes as there."""

    trajectory: Tensor
    step: Tensor
    held_out: Tensor
    form: str
    aligned_to: Networks | None
    metadata: dict[str, Any]
    networks: Any
    initial: Any
    if TYPE_CHECKING:  # one kind has a field, which a property would be the default of

        @property
        def architecture(self) -> Architecture:
            """What a network is."""

    @abstractmethod
    def __getitem__(self, index: Tensor | slice) -> Zoo:
        """Some of the networks, in memory; an index tensor, a mask or a slice."""

    @abstractmethod
    def select(self, index: Tensor | slice) -> Self:
        """Some of the networks where they are."""

    def __len__(self) -> int:
        return len(self.trajectory)

    @property
    def fits_memory(self) -> bool:
        """Whether it is small enough to be worked on as a whole."""
        return fits_memory(len(self), self.architecture.dimension)

    def chunks(self) -> Iterator[Zoo]:
        """All networks in order, so many at a time as memory shall hold; all at once of a small zoo."""
        count = at_a_time(len(self), self.architecture.dimension)
        for start in range(0, len(self), count):
            yield self.whole() if count >= len(self) else self[start : start + count]

    def each(self, function: Callable[[Networks], Tensor]) -> Tensor:
        """What a function says of every network, part by part: networks → (networks, …)."""
        found: Tensor | None = None
        done = 0
        for part in self.chunks():
            values = function(part.networks)
            if found is None:  # memory for all: small tensors that outlive a part would scatter the heap
                found = values.new_empty(len(self), *values.shape[1:])
            found[done : done + len(part)] = values
            done += len(part)
        if found is None:
            raise ValueError("Zoo: expected networks, found none.")
        return found

    def whole(self) -> Zoo:
        """All networks in memory, however many."""
        return replace(self[:], initial=self.initial[:] if self.initial is not None else None)

    def some(self, generator: torch.Generator) -> Zoo:
        """All networks of a small zoo; of a larger one whole random trajectories, as many as memory shall hold.

        Args:
            generator: Chooses, of a larger zoo.
        """
        if self.fits_memory:
            return self.whole()
        runs, places = torch.unique(self.trajectory, return_inverse=True)
        order = random_order(len(runs), generator)
        most = networks_in_memory(self.architecture.dimension)
        taken = torch.bincount(places)[order].cumsum(0) <= most
        taken[0] = True  # of a trajectory that alone is too long, its first networks
        part, initial = self[torch.isin(places, order[taken]).nonzero().flatten()[:most]], self.initial
        known = initial is not None and fits_memory(len(initial), self.architecture.dimension)
        return replace(part, initial=initial[:] if known else None)

    def to_fit(self, generator: torch.Generator) -> Zoo:
        """What models that hold all networks in memory learn from: this zoo, of a larger one a part of its training part."""
        return self.whole() if self.fits_memory else self.training_part.some(generator)

    @property
    def init_std(self) -> float | None:
        """Declared standard deviation of initial weights, ``metadata["init_std"]``; None where unknown."""
        return self.metadata.get("init_std")

    @property
    def is_early(self) -> Tensor:
        """Which networks lie on the way of their run to the zoo's own, before ``metadata["first_step"]``: (networks,)."""
        first: int = self.metadata.get("first_step", 0)
        return self.step < first

    @property
    def early_part(self) -> Self:
        """Snapshots on the way to others, which are nowhere counted as networks of the zoo."""
        return self.select(self.is_early)

    @property
    def counted_part(self) -> Self:
        """All but those snapshots: the networks of the zoo."""
        return self.select(~self.is_early)

    @property
    def training_part(self) -> Self:
        """Networks a flow may learn from."""
        return self.select(~self.held_out & ~self.is_early)

    @property
    def held_out_part(self) -> Self:
        """Networks of trajectories no flow sees."""
        return self.select(self.held_out & ~self.is_early)

    def require_both_parts(self, who: str) -> None:
        """Refuse a zoo without networks to learn from, or without held-out ones to be judged by.

        Args:
            who: Who asks, the sentence's beginning.

        Raises:
            ValueError: Says which part is missing, and the remedy.
        """
        require_both_parts(self.held_out[~self.is_early], who)

    @property
    def last_snapshots(self) -> Self:
        """The last network of every trajectory, in order of trajectories."""
        order = torch.argsort(self.step, stable=True)
        order = order[torch.argsort(self.trajectory[order], stable=True)]
        counts = torch.unique_consecutive(self.trajectory[order], return_counts=True)[1]
        return self.select(order[counts.cumsum(0) - 1])

    @property
    def reference(self) -> Networks:
        """The one network that samples are aligned to: ``aligned_to``, else the first trajectory's end."""
        return self.last_snapshots[:1].networks if self.aligned_to is None else self.aligned_to
