"""Files of ours: a zoo as trained or aligned, or stacked networks with their architecture in the header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from wflib.architecture import Architecture
from wflib.storage import ArtifactError, header_text, load_tensors, read_header
from wflib.zoo.sources.base import BrokenFileError, Contents, Request, Source

__all__ = ["Own"]

AGAIN = "write it again with this version"


class Own(Source):
    """See the module."""

    name = "wflib"
    what = "a zoo or stacked networks that wflib has written"
    chunk = 2**31

    def recognizes(self, path: Path) -> bool:
        """A safetensors file with our header."""
        try:
            return path.is_file() and path.suffix == ".safetensors" and "wflib" in header_text(path)
        except ArtifactError:
            return False

    def contents(self, request: Request) -> Contents:
        """One row a network, with trajectory and step of a zoo."""
        tensors, kind, metadata = opened(request.path)
        if kind == "zoo":
            runs, steps = map(str, tensors["trajectory"].tolist()), tensors["step"].tolist()
        else:
            count = len(next(iter(tensors.values())))
            runs, steps = metadata.get("names") or map(str, range(count)), [0] * count
        rows = pd.DataFrame({"run": list(runs), "step": steps, "initial": False})
        rows["place"] = range(len(rows))
        return Contents(rows, {key: metadata[key] for key in ("task", "provenance") if key in metadata})

    def load(self, request: Request, places: Sequence[int]) -> Mapping[str, Tensor]:
        """Networks of the file."""
        tensors, kind, _ = opened(request.path)
        prefix = "weights." if kind == "zoo" else ""
        chosen = list(places)
        return {n.removeprefix(prefix): tensor[chosen] for n, tensor in tensors.items() if n.startswith(prefix)}

    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """As the header says."""
        return Architecture.from_json(opened(request.path)[2]["architecture"])


def opened(path: Path) -> tuple[dict[str, Tensor], str, dict[str, Any]]:
    """Tensors, kind and metadata.

    Raises:
        BrokenFileError: Another artifact, or networks in a flow's own form.
    """
    try:
        tensors, header = load_tensors(path, remedy=AGAIN)
        kind, metadata = read_header(path, header, remedy=AGAIN)
    except ArtifactError as error:
        raise BrokenFileError(str(error)) from error
    if kind not in ("zoo", "networks") or metadata.get("form", "trained") not in ("trained", "aligned"):
        raise BrokenFileError(
            f"{path}: expected networks, or a zoo as trained or aligned, found a {metadata.get('form', '')} {kind}; read "
            "data/zoo/trained.safetensors or data/networks.safetensors."
        )
    return tensors, kind, metadata
