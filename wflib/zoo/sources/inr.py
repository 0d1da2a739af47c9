"""Implicit neural representations, as DWSNets and NFN have published them: one file a signal, sine activations.

Both compute sin(30 x) behind hidden layers. DWSNets' networks (``seq.0.weight``, …) add 0.5 to their outputs, NFN's
(``net.0.linear.weight``, …, ``net.2.weight``) do not. The class is in the path: ``…_<label>_<id>/…``, ``…_<label>s/…``.

Only NFN's names are nobody else's: ``seq.0.weight`` and ``net.0.weight`` may be of any perceptron, and have to be told by
``zoo.format: inr``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks.names import listed
from wflib.networks.reading import network_files
from wflib.zoo.sources.base import BrokenFileError, Contents, Request, Source
from wflib.zoo.sources.files import read_state, stacked_files
from wflib.zoo.sources.shapes import perceptron

__all__ = ["INR", "may_be_signal"]

FIRST = 5
"""Files that are looked into to tell the format."""
FREQUENCY = 30.0
LABEL = re.compile(r"_([0-9]{1,15})(?:_[0-9]+)?s?/")
EVIDENCE = re.compile(r"net\.\d+\.linear\.(weight|bias)")
"""Names that perceptrons of others hardly have."""
NAMES = {"dwsnets": r"seq\.\d+\.(weight|bias)", "nfn": r"net\.\d+\.(linear\.)?(weight|bias)"}
OFFSETS = {"dwsnets": 0.5, "nfn": 0.0}


class INR(Source):
    """See the module."""

    name = "inr"
    what = "implicit neural representations of DWSNets and NFN: one file a signal; DWSNets' are not told by their names"
    one_activation = True

    def __init__(self) -> None:
        self.maker: str | None = None

    def recognizes(self, path: Path) -> bool:
        """The first file that can be read has names that are NFN's alone, and at most three coordinates go in."""
        for file in network_files(path)[0][:FIRST] if path.is_dir() else []:
            try:
                state = read_state(file, None)
            except BrokenFileError:
                continue
            except ValueError:
                return False
            evident = any(EVIDENCE.fullmatch(name) for name in state.tensors)
            return evident and may_be_signal(state.tensors) and state.architecture is None
        return False

    def contents(self, request: Request) -> Contents:
        """One row a file, with its label."""
        files, left_out = network_files(request.path)
        rows = []
        for file in files:
            name = file.relative_to(request.path).with_suffix("").as_posix()
            label = LABEL.search(f"{request.path.name}/{name}")
            labels = {"run": name, "step": 0, "initial": False, "place": file}
            rows.append(labels | ({"label": int(label[1])} if label else {}))
        found = Contents(
            pd.DataFrame(rows), {"reference": "Navon et al. 2023, arXiv 2301.12780; Zhou et al. 2023, arXiv 2302.14040"}
        )
        found.leave_out("files that are no networks", left_out)
        return found

    def load(self, request: Request, places: Sequence[Path]) -> Mapping[str, Tensor]:
        """A file's state dict."""
        found = stacked_files(places, request)
        maker = maker_of(places[0], found)
        self.maker = self.maker or maker
        if maker != self.maker:
            raise BrokenFileError(
                f"{places[0]}: is of {maker}, others here of {self.maker}, whose outputs are shifted otherwise; "
                "read them apart."
            )
        return found

    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """A perceptron of sines.

        Raises:
            ValueError: Another activation is asked for.
        """
        if request.activation is not None:
            raise ValueError(
                f"{request.path}: zoo.read.activation asks for networks of {request.activation}, but zoo.format: inr means "
                "networks of sines; leave out the one, or say zoo.format: state-dicts."
            )
        maker = maker_of(request.path, first)
        contents.facts["settings"] = {"made by": maker, "frequency": FREQUENCY, "offset": OFFSETS[maker]}
        sine = (("frequency", FREQUENCY),)
        return perceptron(first, "sine", request.config.task_type or "regression", sine, OFFSETS[maker])


def may_be_signal(tensors: Mapping[str, Tensor]) -> bool:
    """Whether names and at most three coordinates are such as representations of signals have."""
    return made_by(tensors) is not None and next(iter(tensors.values())).shape[-1] <= 3


def maker_of(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Whose names these are.

    Raises:
        BrokenFileError: Nobody's that is known.
    """
    maker = made_by(tensors)
    if maker is None:
        raise BrokenFileError(
            f"{path}: expected names such as seq.0.weight or net.0.linear.weight, found {listed(tensors, 4)}."
        )
    return maker


def made_by(tensors: Mapping[str, Tensor]) -> str | None:
    """Whose names these are; None where nobody is known to have such."""
    return next(
        (maker for maker, names in NAMES.items() if tensors and all(re.fullmatch(names, name) for name in tensors)), None
    )
