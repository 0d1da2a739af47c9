"""What is known of networks that others have trained, and how it becomes a zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from wflib.networks import Networks
from wflib.zoo.own import held_out_runs, zoo_from_networks
from wflib.zoo.sources.selection import held_out_by_name
from wflib.zoo.zoo import Zoo

__all__ = ["Collection", "Labels"]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What is known of networks that others have trained, beside their weights.

    Attributes:
        trajectory: Training run of each, counted in the order of ``table``'s runs, (networks,) int64.
        step: When in its run, as the source counts, (networks,) int64.
        table: A row for each network: run, step, and the figures of merit that the source gives.
        provenance: Source, format, reference, settings, what was asked for, and how many networks were left out why.
        left_out: Reason → what was left out.
        copies: Networks that are the same, to the bit, as one of another run before them.
        held_out_runs: Names of runs that nothing may learn from, with * and ?; None for what the source says, else a share.
        held_out: What the source says, (networks,) bool; None where it says nothing.
        metadata: What a zoo of these networks says as theirs did.
    """

    trajectory: Tensor
    step: Tensor
    table: pd.DataFrame
    provenance: dict[str, Any]
    left_out: Mapping[str, Sequence[str]]
    copies: Sequence[str] = ()
    held_out_runs: Sequence[str] | None = None
    held_out: Tensor | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.trajectory)

    def held_out_part(self, share: float, seed: int) -> Tensor:
        """Which networks no flow sees, (networks,) bool.

        Those of runs that settings name; else those that the source holds out, where it leaves others; else of a share of
        runs, drawn by the seed.

        Raises:
            ValueError: One run alone, of which none can be held out, or names that fit no run.
        """
        where = str(self.provenance["source"])
        if self.held_out_runs is not None:
            return torch.tensor(held_out_by_name(where, self.table["run"], list(self.held_out_runs)).tolist())
        if self.held_out is not None and 0 < int(self.held_out.sum()) < len(self):
            return self.held_out
        if len(self) == 1:
            raise ValueError(f"{where}: expected at least two networks, of which one can be held out, found one.")
        if self.trajectory.max() == 0:
            raise ValueError(
                f"{where}: expected at least two runs, of which one can be held out whole, found one "
                f"({self.table['run'].iloc[0]}); zoo.read.trajectories: each counts every network as a run of its own."
            )
        return held_out_runs(self.trajectory, share, seed)

    def facts(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """Metadata of a zoo of these networks, with further ones."""
        return {"provenance": self.provenance, **self.metadata, **(metadata or {})}


@dataclass(frozen=True, kw_only=True)
class Collection(Labels):
    """Networks that others have trained.

    Attributes:
        networks: In the precision asked for.
        initial: What training began with, one network for each run; None where the source does not have all of them.
    """

    networks: Networks
    initial: Networks | None

    def zoo(self, held_out: float = 0.1, seed: int = 0, metadata: Mapping[str, Any] | None = None) -> Zoo:
        """The same as the pipeline takes them, in float32.

        Args:
            held_out: Share of runs that no flow sees, drawn by the seed, unless ``held_out_runs`` names them or the source
                is a zoo that says which they are.
            seed: Of that choice.
            metadata: Further facts, JSON-serializable.

        Raises:
            ValueError: One run alone, of which none can be held out, or names that fit no run.
        """
        labels = (self.trajectory, self.step, self.held_out_part(held_out, seed))
        return zoo_from_networks(self.networks, *labels, initial=self.initial, metadata=self.facts(metadata))
