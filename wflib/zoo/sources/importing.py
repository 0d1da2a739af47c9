"""Networks of others into a zoo on disk, part by part, however many there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from wflib.architecture import Architecture
from wflib.config import ReadConfig
from wflib.networks import Networks
from wflib.networks.names import natural_order
from wflib.zoo.base import require_both_parts
from wflib.zoo.sources.assembly import assembled, with_one_architecture
from wflib.zoo.sources.base import Contents, Request, Source
from wflib.zoo.sources.collection import Labels
from wflib.zoo.sources.leaving_out import copies, fingerprints
from wflib.zoo.sources.reading import asked, beginnings, labels_of, recognized, warn_of
from wflib.zoo.sources.selection import select
from wflib.zoo.writer import ZooWriter

__all__ = ["Imported", "read_into"]

PART = 1024
"""Networks that are in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Imported(Labels):
    """What :func:`read_into` has written so far, and what it is.

    Attributes:
        architecture: Of every network.
        writer: Which has them.
    """

    architecture: Architecture
    writer: ZooWriter

    def finish(self, held_out: float = 0.1, seed: int = 0, metadata: Mapping[str, Any] | None = None) -> None:
        """Make them a zoo as trained; arguments of :meth:`wflib.zoo.Collection.zoo`, which makes the same one.

        Raises:
            ValueError: As there; nothing is written.
        """
        chosen = self.held_out_part(held_out, seed)
        require_both_parts(chosen, "zoo_from_networks")
        self.writer.finish("trained", self.trajectory, self.step, chosen, metadata=self.facts(metadata))


def read_into(writer: ZooWriter, path: str | Path, format: str = "auto", config: ReadConfig | None = None) -> Imported:
    """As :func:`wflib.zoo.read`, for networks that memory need not hold: they go to a writer as they are read, in float32.

    Args:
        writer: Of an empty zoo, which :meth:`Imported.finish` ends.
        path: File or folder.
        format: A key of ``FORMATS``, or ``auto`` to look.
        config: Settings of reading.

    Raises:
        ValueError: As of :func:`wflib.zoo.read`.
    """
    request = asked(Path(path), config or ReadConfig())
    source = recognized(request.path, format, request.activation)()
    contents = source.contents(request)
    rows = with_one_architecture(source, request, contents, select(path, contents, request.config))
    kept, prints = [], []
    for architecture, weights, places in assembled(source, request, contents, rows, PART):
        writer.append(Networks.unchecked(architecture, weights).map(lambda tensor: tensor.float()))
        kept += places
        prints.append(fingerprints(weights))
    chosen = rows.iloc[kept]
    contents.copies = copies(chosen, torch.cat(prints))
    write_beginnings(writer, source, request, contents, rows, chosen)
    warn_of(request.path, contents)
    return Imported(architecture=architecture, writer=writer, **labels_of(source, request, contents, chosen))


def write_beginnings(
    writer: ZooWriter, source: Source, request: Request, contents: Contents, rows: pd.DataFrame, chosen: pd.DataFrame
) -> None:
    """What the runs of some networks began with, in the order of runs, where all have that."""
    began = beginnings(contents, rows)
    lost = set(rows["place"]) - set(chosen["place"])
    if began is None or any(place in lost for place in began["place"]):
        return
    began = began[began["run"].isin(chosen["run"])]
    runs = began["run"].tolist()
    order = sorted(range(len(runs)), key=lambda place: natural_order(runs[place]))
    began = began.iloc[order].reset_index(drop=True)
    done = 0
    for architecture, weights, places in assembled(source, request, contents, began, PART):
        writer.append_initial(Networks.unchecked(architecture, weights).map(lambda tensor: tensor.float()))
        done += len(places)
    if done < len(began):
        writer.forget_initial()
