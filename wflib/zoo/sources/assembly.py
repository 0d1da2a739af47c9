"""Networks of a source, one after the other, into stacked tensors of one architecture whose memory is taken once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from wflib.architecture import Architecture, Weights
from wflib.networks.beside import own_part
from wflib.networks.finite import raised
from wflib.networks.names import check_orientation, listed, match
from wflib.zoo.sources.base import BrokenFileError, Contents, Request, Source, architecture_of
from wflib.zoo.sources.files import total_bytes
from wflib.zoo.sources.leaving_out import BROKEN, OTHER, unusable

__all__ = ["Assembly", "assemble", "assembled", "with_one_architecture"]

DTYPES = {"float32": torch.float32, "float64": torch.float64}
MEMORY_SHARE = 0.8
"""Of the machine's memory that a zoo may take."""

Signature = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass
class Assembly:
    """Stacked tensors while they are filled.

    Attributes:
        architecture: Of every network.
        weights: (networks, *shape).
        exact: Whether precision grows to that of any network's, rather than that networks are rounded.
        mappings: Names and shapes of a network's tensors → the architecture's name → theirs.
    """

    architecture: Architecture
    weights: Weights
    exact: bool = False
    mappings: dict[Signature, dict[str, str]] = field(default_factory=dict)

    def mapping(self, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        """Which of a network's tensors is which of the architecture's.

        Raises:
            ValueError: They are other networks'.
        """
        key = signature(tensors)
        if key not in self.mappings:
            found = match(self.architecture, dict(key))
            check_orientation(self.architecture, found)
            self.mappings[key] = found
        return self.mappings[key]

    def fill(self, start: int, tensors: Mapping[str, Tensor]) -> None:
        """Put networks at some place.

        Raises:
            ValueError: They do not fit the architecture or the precision.
        """
        if self.exact:
            dtype = widest((*self.weights.values(), *tensors.values()))
            self.weights = {name: tensor.to(dtype) for name, tensor in self.weights.items()}
        for name, given in self.mapping(tensors).items():
            target, found = self.weights[name][start : start + len(tensors[given])], tensors[given]
            target.copy_(found)
            if target.dtype != found.dtype and not target.isfinite().all() and found.double().isfinite().all():
                raise ValueError(
                    f"{given}: numbers too large for {target.dtype}; read them with zoo.read.precision: float64"
                )


def widest(tensors: Iterable[Tensor]) -> torch.dtype:
    """The precision that holds all of them."""
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors))


def signature(tensors: Mapping[str, Tensor]) -> Signature:
    """Names and shapes of one network's tensors."""
    return tuple((name, tuple(tensor.shape[1:])) for name, tensor in tensors.items())


def assemble(
    source: Source, request: Request, contents: Contents, rows: pd.DataFrame
) -> tuple[Architecture, Weights, pd.DataFrame]:
    """Read networks; what cannot be read or is not finite is left out and counted in ``contents``.

    Args:
        source: The format.
        request: What is asked for.
        contents: All networks.
        rows: Those to read.

    Returns:
        The architecture, tensors (networks, *shape), and the rows that were read.

    Raises:
        ValueError: A broken file (without ``skip_broken``), a network of another architecture, more than memory holds, or
            nothing left.
    """
    ((architecture, weights, kept),) = assembled(source, request, contents, rows, len(rows))
    return architecture, weights, rows.iloc[kept]


def assembled(
    source: Source, request: Request, contents: Contents, rows: pd.DataFrame, most: int
) -> Iterator[tuple[Architecture, Weights, list[int]]]:
    """As :func:`assemble`, part by part.

    Args:
        source: The format.
        request: What is asked for.
        contents: All networks.
        rows: Those to read.
        most: Networks of a part, at least as many as the format takes at once.

    Yields:
        The architecture, tensors (networks, *shape), whose memory the next part takes over, and their places in ``rows``.

    Raises:
        ValueError: As there.
    """
    assembly, kept, first, architecture = None, list[int](), 0, request.architecture
    places, left = rows["place"].tolist(), 0
    most = min(max(most, source.chunk), len(places))
    for chosen, tensors in parts(source, request, contents, rows, places):
        if assembly is None:
            first = chosen[0]
            architecture = architecture or architecture_of(source, request, contents, tensors)
            weights = allocate(request, architecture, tensors, most)
            assembly = Assembly(architecture, weights, exact=request.config.precision not in DTYPES)
        try:
            tensors = own_part(assembly.architecture, tensors, request.module)
        except ValueError as error:
            raise ValueError(f"{request.path}: {told(rows, chosen[0])}: {error}") from error
        try:
            assembly.mapping(tensors)
        except ValueError as error:
            names = f"{told(rows, chosen[0])}: {error}"
            if assembly.mappings:
                names += f" {told(rows, first)} is of another architecture, with {shapes_text(assembly.architecture)}."
            raise ValueError(
                f"{request.path}: {names.rstrip('.')}. zoo.read.other_architectures: leave-out keeps the most frequent "
                "architecture only, zoo.read.module says what the networks are."
            ) from error
        if len(kept) + len(chosen) > most:
            finite = finite_part(assembly, contents, rows, kept)
            left += len(finite[1])
            yield assembly.architecture, *finite
            kept = []
        try:
            assembly.fill(len(kept), tensors)
        except ValueError as error:
            raise ValueError(f"{request.path}: {told(rows, chosen[0])}: {error}.") from error
        kept += chosen
    if assembly is None:
        raise ValueError(f"{request.path}: none of {len(rows)} networks could be read; the first: {contents.first_error}")
    finite = finite_part(assembly, contents, rows, kept)
    if not left + len(finite[1]):
        raise ValueError(
            f"{request.path}: all {len(kept)} networks hold NaN, infinity or variances below zero; nothing is left."
        )
    yield assembly.architecture, *finite


def finite_part(assembly: Assembly, contents: Contents, rows: pd.DataFrame, kept: list[int]) -> tuple[Weights, list[int]]:
    """The filled part of an assembly without networks that compute nothing, which are counted."""
    weights = {name: tensor[: len(kept)] for name, tensor in assembly.weights.items()}
    finite = torch.ones(len(kept), dtype=torch.bool)
    for reason, which in unusable(assembly.architecture, weights).items():
        contents.leave_out(reason, (told(rows, kept[place]) for place in which.nonzero().flatten().tolist()))
        finite &= ~which
    if bool(finite.all()):
        return weights, kept
    return {name: tensor[finite] for name, tensor in weights.items()}, [
        k for k, f in zip(kept, finite.tolist(), strict=True) if f
    ]


def parts(
    source: Source, request: Request, contents: Contents, rows: pd.DataFrame, places: Sequence[Any]
) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
    """So many networks at a time as a source likes, without those that cannot be read.

    Yields:
        Their places in ``rows``, and tensors (networks, *shape).

    Raises:
        ValueError: A file cannot be read, and is not to be left out; names it.
    """
    numbers = iter(range(len(places)))
    while chosen := list(islice(numbers, source.chunk)):
        try:
            tensors = source.load(request, [places[place] for place in chosen])
        except BrokenFileError as error:
            if not request.config.skip_broken:
                raise ValueError(f"{error} zoo.read.skip_broken: true leaves such files out and counts them.") from error
            contents.leave_out(BROKEN, (told(rows, place) for place in chosen))
            contents.first_error = contents.first_error or str(error)
            continue
        yield chosen, {name: raised(tensor) for name, tensor in tensors.items()}


def allocate(request: Request, architecture: Architecture, first: Mapping[str, Tensor], count: int) -> Weights:
    """Memory for all networks.

    Raises:
        ValueError: More than the machine has; says how much, and how to ask for less.
    """
    asked = request.config.precision
    dtype = DTYPES.get(asked) or widest(first.values())
    needed = total_bytes([shape for _, shape in architecture.shapes], count, dtype)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > MEMORY_SHARE * there:
        raise ValueError(
            f"{request.path}: {count:,} networks of {architecture.dimension:,} numbers take "
            f"{needed / 1e9:.1f} GB in {dtype}, "
            f"of {there / 1e9:.1f} GB that this machine has; read fewer with zoo.read.snapshots: last, every or first_runs."
        )
    return {name: torch.empty(count, *shape, dtype=dtype) for name, shape in architecture.shapes}


def with_one_architecture(source: Source, request: Request, contents: Contents, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of networks that are alike: all, or the most frequent ones where others are to be left out.

    Raises:
        ValueError: Several kinds, and others are not to be left out; names two networks.
    """
    leave_out = request.config.other_architectures == "leave-out"
    if "kind" in rows:
        kinds = rows["kind"].tolist()
    elif leave_out:
        kinds = [""] * len(rows)
        for chosen, tensors in parts(source, request, contents, rows, rows["place"].tolist()):
            for place in chosen:
                kinds[place] = str(sorted(shape for _, shape in signature(tensors)))
    else:
        return rows
    counts = Counter(kind for kind in kinds if kind)
    if len(counts) < 2:
        return rows
    if not leave_out:
        other = next(place for place, kind in enumerate(kinds) if kind != kinds[0])
        raise ValueError(
            f"{request.path}: expected networks of one architecture, found {len(counts)}: {told(rows, 0)} is {kinds[0]}, "
            f"{told(rows, other)} is {kinds[other]}; zoo.read.other_architectures: leave-out keeps the most frequent one."
        )
    keep = pd.Series([kind == counts.most_common(1)[0][0] for kind in kinds], index=rows.index)
    contents.leave_out(OTHER, (told(rows, place) for place in (~keep).to_numpy().nonzero()[0].tolist()))
    if "kind" in rows:
        contents.rows = contents.rows[contents.rows["kind"] == counts.most_common(1)[0][0]]
    return rows[keep].reset_index(drop=True)


def told(rows: pd.DataFrame, place: int) -> str:
    """A network for a sentence: its run, and its step where that tells it apart."""
    row = rows.iloc[place]
    return f"{row['run']}, step {row['step']}" if row["step"] else str(row["run"])


def shapes_text(architecture: Architecture) -> str:
    """Tensors and their shapes."""
    return listed((f"{name} {shape}" for name, shape in architecture.shapes), 8)
