"""What a format of other people's zoos must say: which networks there are, what they are, and their tensors."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pandas as pd
import torch
from torch import Tensor, nn

from wflib.architecture import Architecture
from wflib.config import ReadConfig
from wflib.networks.guards import BrokenFileError
from wflib.networks.names import listed, natural_order

__all__ = [
    "LABELS",
    "BrokenFileError",
    "Contents",
    "Request",
    "Source",
    "activation_name",
    "architecture_of",
    "as_tensor",
    "canonical_figures",
    "given",
    "native",
    "only_activation",
    "ordered_runs",
    "require",
    "run_and_step",
    "stacked",
]

Said = TypeVar("Said")

LABELS = ("run", "step", "initial", "place", "kind", "held_out")
"""Columns of :attr:`Contents.rows` that are no figures of merit."""
ACTIVATIONS = {
    "leakyrelu": "leaky_relu",
    "leaky-relu": "leaky_relu",
    "swish": "silu",
    "none": "identity",
    "linear": "identity",
}
"""Other people's names of activations → ours."""
SNAPSHOT_NAME = re.compile(r"(?P<run>.+)@(?P<step>0|[1-9][0-9]{0,14})", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """What a caller asks of a source.

    Attributes:
        path: File or folder.
        config: Reading and selection, as ``zoo.read`` has them.
        architecture: What the networks are, where the caller knows.
        module: An instance of their class, likewise; networks are traced through it.
        inputs: Shape of one example, where the caller or the module's maker say it.
    """

    path: Path
    config: ReadConfig
    architecture: Architecture | None = None
    module: nn.Module | None = None
    inputs: tuple[int, ...] | None = None

    @property
    def activation(self) -> str | None:
        """The asked-for activation in our words."""
        return None if self.config.activation is None else activation_name(self.config.activation)


@dataclass
class Contents:
    """What lies in a zoo, found without keeping its weights.

    Attributes:
        rows: One row a network: ``run`` (text), ``step`` (int), ``initial`` (whether it is what training began with),
            ``place`` (where the source finds its tensors), perhaps ``kind`` (text that differs where architectures do) and
            ``held_out`` (whether nothing may learn from it), then figures of merit.
        facts: Format, licence, reference and settings: JSON-serializable.
        left_out: Reason → what was left out for it.
        first_error: What was said of the first file that could not be read.
        starts: Rows of what runs began with where that is none of their networks; None where ``rows`` say it.
        metadata: What a zoo of these networks says as theirs did: recipe, distribution of initial weights.
        copies: Networks that were read and are the same as one of another run.
        doubts: What the labels may have wrong, with its remedy.
    """

    rows: pd.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    first_error: str | None = None
    starts: pd.DataFrame | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, names: Iterable[str]) -> None:
        """Remember what does not come along."""
        if names := list(names):
            self.left_out.setdefault(reason, []).extend(names)


class Source(ABC):
    """One format.

    Attributes:
        name: As ``zoo.format`` says it.
        what: A line for people.
        chunk: Networks that :meth:`load` takes at once; one for files, which may be broken each for itself.
        one_activation: Whether its networks are of an activation of their own, so that what one is asked for is not of it.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    chunk: ClassVar[int] = 1
    one_activation: ClassVar[bool] = False

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether a path looks like this format; reads little."""

    @abstractmethod
    def contents(self, request: Request) -> Contents:
        """The networks in it.

        Raises:
            ValueError: It is not what it should be; names the file.
        """

    @abstractmethod
    def load(self, request: Request, places: Sequence[Any]) -> Mapping[str, Tensor]:
        """Tensors of some networks, stacked: name → (networks, *shape).

        Raises:
            BrokenFileError: A file cannot be read.
            ValueError: It holds something else.
        """

    @abstractmethod
    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """What the networks are, from settings of the source and from one network's tensors (1, *shape).

        Raises:
            ValueError: It does not follow from them; says which option would tell.
        """


def require(request: Request, condition: bool, expected: str, option: str) -> None:
    """Refuse to guess.

    Raises:
        ValueError: The condition does not hold; names the option that tells what is missing.
    """
    given(request, condition or None, expected, option)


def given(request: Request, said: Said | None, expected: str, option: str) -> Said:
    """What is known or was said.

    Raises:
        ValueError: It is None; names the option that tells it.
    """
    if said is None:
        raise ValueError(f"{request.path}: {expected}; say it with zoo.read.{option} (wflib.zoo.read(…, {option}=…)).")
    return said


def activation_name(given: Any) -> str:
    """An activation's name in our words."""
    missing = given is None or given != given  # a table's missing text is NaN
    plain = "" if missing else str(given).strip().lower()
    return ACTIVATIONS.get(plain, plain)


def canonical_figures(found: Mapping[str, Any]) -> dict[str, float]:
    """Figures of merit under the names that selection knows: ``test_accuracy`` as a share, ``train_loss`` in nats, ….

    Errors in percent become accuracies: 1 − error / 100.
    """
    figures = {}
    for name, value in found.items():
        match = re.fullmatch(r"(?:avg_)?(train|val|valid|validation|test)[_/](acc|accuracy|loss|err)", str(name))
        if match is None or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        part = "validation" if match[1].startswith("val") else match[1]
        measure = "loss" if match[2] == "loss" else "accuracy"
        figures[f"{part}_{measure}"] = 1 - float(value) / 100 if match[2] == "err" else float(value)
    return figures


def run_and_step(name: str) -> tuple[str, int]:
    """What a network's name says, as :func:`wflib.zoo.write` and collections have them: ``run@step``, or a run."""
    found = SNAPSHOT_NAME.fullmatch(name)
    return (name, 0) if found is None else (found["run"], int(found["step"]))


def ordered_runs(folders: Iterable[Path]) -> list[Path]:
    """Folders in the natural order of their names."""
    return sorted(folders, key=lambda folder: natural_order(folder.as_posix()))


def only_activation(request: Request, contents: Contents) -> str | None:
    """The one activation of networks that say theirs in a column ``activation``, empty where unknown, which leaves the rows.

    Where a caller knows the architecture, networks of different activations are of different kinds, and nothing is asked.

    Raises:
        ValueError: Several or none, and none is asked for; names them.
    """
    found = contents.rows.pop("activation").map(activation_name)
    if request.architecture is not None:
        contents.rows["kind"] = contents.rows.get("kind", "") + found.map(" with {}".format)
        return None
    counts = found.value_counts().sort_index()
    if request.activation is None:
        require(request, "" not in counts, f"no settings say the activation of {counts.get('', 0)} networks", "activation")
        several = listed(f"{name} ({count} networks)" for name, count in counts.items())
        require(request, len(counts) == 1, f"expected networks of one activation, found {several}", "activation")
        return str(counts.index[0])
    keep = found.isin([request.activation, ""])
    if not keep.any():
        raise ValueError(
            f"{request.path}: zoo.read.activation asks for networks of {request.activation}, found {listed(counts.index)}."
        )
    others = contents.rows[~keep]
    contents.leave_out(
        "another activation", (f"{run} {step}" for run, step in zip(others["run"], others["step"], strict=True))
    )
    contents.rows = contents.rows[keep].reset_index(drop=True)
    return request.activation


def architecture_of(source: Source, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
    """What :meth:`Source.architecture` makes of settings and tensors that anybody may have written.

    Raises:
        ValueError: No network follows from them; names the path.
    """
    try:
        found = source.architecture(request, contents, first)
    except Exception as error:  # other people's settings can be wrong in any way
        if isinstance(error, ValueError) and str(error).startswith(str(request.path)):
            raise
        said = str(error) or type(error).__name__
        raise ValueError(
            f"{request.path}: no network of the format {source.name} follows from its settings and tensors "
            f"({said.rstrip('.')}); zoo.read.module says what the networks are."
        ) from error
    if request.inputs is not None and prod(request.inputs) != prod(found.inputs):  # images may come flat
        raise ValueError(
            f"{request.path}: zoo.read.inputs says that one example is {request.inputs}, but the networks take "
            f"{found.inputs}; leave it out."
        )
    return found


def stacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One network's tensors as those of one network among many."""
    return {name: tensor[None] for name, tensor in tensors.items()}


def native(numbers: Any) -> Tensor:
    """An array's numbers in memory of their own, their bytes in this machine's order."""
    return torch.from_numpy(numbers.astype(numbers.dtype.newbyteorder("="), order="C"))


def as_tensor(vector: Any) -> Tensor:
    """A read-only array's numbers in memory of their own."""
    return torch.from_numpy(vector.copy())
