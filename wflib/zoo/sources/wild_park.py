"""CNN Wild Park (Kofinas et al. 2024, Zenodo 12797219): a folder for each run, every checkpoint with its own configuration.

``<run>/checkpoint_<n>/checkpoint.pt`` holds ``model``, ``config`` and ``last_result``. ``residual[i]`` ≥ 0 adds the first
channels of that layer's output, as many as both have, before activation i.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from wflib.architecture import Architecture
from wflib.architecture.draft import Draft
from wflib.architecture.operations import Add, Pad, Reduce, Slice
from wflib.networks.reading import read_torch_file
from wflib.zoo.sources.base import (
    BrokenFileError,
    Contents,
    Request,
    Source,
    activation_name,
    canonical_figures,
    stacked,
)
from wflib.zoo.sources.files import state_of_content
from wflib.zoo.sources.modelzoo import models

__all__ = ["WildPark"]

SETTINGS = ("n_layers", "n_classes", "channels", "kernel_size", "stride", "padding", "residual", "activation")
SIDE = 32


class WildPark(Source):
    """See the module."""

    name = "wild-park"
    what = "CNN Wild Park: checkpoint_<n>/checkpoint.pt with its configuration inside"

    def recognizes(self, path: Path) -> bool:
        """Some folder has ``checkpoint_<n>/checkpoint.pt``."""
        return path.is_dir() and next(models(path, "checkpoint.pt"), None) is not None

    def contents(self, request: Request) -> Contents:
        """One row a checkpoint; files are read for their configurations, and weights let go again."""
        rows = []
        found = Contents(pd.DataFrame(), {"reference": "Kofinas et al. 2024, arXiv 2403.12143, Zenodo 12797219"})
        for folder, steps in models(request.path, "checkpoint.pt"):
            name = folder.relative_to(request.path).as_posix()
            for step, place in steps.items():
                try:
                    content = checked(place)
                except BrokenFileError:
                    if not request.config.skip_broken:
                        raise
                    found.leave_out("files that cannot be read", [place.relative_to(request.path).as_posix()])
                    continue
                labels = {"run": name, "step": step, "initial": step == 0, "place": place}
                kind = json.dumps({key: content["config"][key] for key in SETTINGS})
                rows.append(labels | {"kind": kind} | canonical_figures(content.get("last_result") or {}))
        if not rows:
            raise ValueError(
                f"{request.path}: expected folders with checkpoint_<n>/checkpoint.pt, found none that can be read."
            )
        found.rows = pd.DataFrame(rows)
        return found

    def load(self, request: Request, places: Sequence[Path]) -> Mapping[str, Tensor]:
        """A checkpoint's ``model``."""
        (path,) = places
        return stacked(state_of_content(path, checked(path)["model"], None))

    def architecture(self, request: Request, contents: Contents, first: Mapping[str, Tensor]) -> Architecture:
        """From the configuration that all of them have."""
        config = json.loads(contents.rows["kind"].iloc[0])
        contents.facts["settings"] = config
        return wild_network(config, request.inputs or (config["channels"][0], SIDE, SIDE))


def checked(path: Path) -> dict[str, Any]:
    """A checkpoint's content.

    Raises:
        BrokenFileError: It cannot be read, or lacks its model or a complete configuration.
    """
    content = read_torch_file(path)
    config = content.get("config") if isinstance(content, dict) else None
    lists = ("channels", "kernel_size", "stride", "padding", "residual", "activation")
    if (
        not isinstance(config, dict)
        or not set(SETTINGS) <= set(config)
        or not all(isinstance(config[key], (list, tuple)) for key in lists)
        or "model" not in content
    ):
        raise BrokenFileError(f"{path}: expected model and a config with {', '.join(SETTINGS)}, found others.")
    if not valid(config, content.get("last_result") or {}):
        raise BrokenFileError(f"{path}: expected sizes as whole numbers and names of activations, found {config}.")
    if len({len(config[key]) for key in lists[1:]} | {config["n_layers"], len(config["channels"]) - 1}) > 1:
        raise BrokenFileError(f"{path}: expected settings of {config['n_layers']} layers, found {config}.")
    checkpoint: dict[str, Any] = content
    return checkpoint


def valid(config: Mapping[str, Any], figures: Any) -> bool:
    """Whether a configuration has numbers and names where such belong, and sums of what comes before them alone."""
    least = {"channels": 1, "kernel_size": 1, "stride": 1, "padding": 0, "residual": -1}
    numbers = [(config[key], 1) for key in ("n_layers", "n_classes")]
    numbers += [(number, bound) for key, bound in least.items() for number in config[key]]
    if not all(type(number) is int and number >= bound for number, bound in numbers):
        return False
    earlier = all(source < index for index, source in enumerate(config["residual"]))
    return earlier and all(isinstance(name, str) for name in config["activation"]) and isinstance(figures, Mapping)


def wild_network(config: Mapping[str, Any], inputs: Sequence[int]) -> Architecture:
    """Convolutions with partial residual sums, channels' means, a linear layer."""
    draft, value, outputs = Draft(), "input", list[str]()
    channels = config["channels"]
    for index in range(config["n_layers"]):
        before, count = channels[index : index + 2]
        kernel, stride, padding = (config[key][index] for key in ("kernel_size", "stride", "padding"))
        value = draft.convolution(value, f"layers.{index}", before, count, kernel, stride, padding)
        if (source := config["residual"][index]) >= 0:
            value = add_some(draft, value, outputs[source], count, channels[source + 1])
        value = draft.activate(value, activation_name(config["activation"][index]))
        outputs.append(value)
    value = draft.add(Reduce, "mean", value, axes=(2, 3))
    draft.linear(value, "fc", channels[-1], config["n_classes"], output="output")
    return draft.architecture(tuple(inputs), "classification")


def add_some(draft: Draft, value: str, other: str, count: int, there: int) -> str:
    """The sum of a value of ``count`` channels and another of ``there``, as far as both have channels."""
    if there > count:
        whole = (None, None, None)
        other = draft.add(Slice, f"{value}:some", other, index=(whole, (0, count, 1), whole, whole))
    elif there < count:
        other = draft.add(Pad, f"{value}:padded", other, widths=(0, 0, 0, 0, 0, count - there))
    return draft.add(Add, f"{value}:sum", value, other)
