"""What a measurement is: a function from settings and files to tables, and the options it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from wflib.architecture import Architecture
from wflib.config import Section, Settings, load_settings
from wflib.device import resolve_device
from wflib.flow import Flow, load_flow
from wflib.tasks import Dataset, load_dataset
from wflib.zoo import Zoo, learned_zoo, load_zoo, require_training_examples, zoo_of_flow

__all__ = ["FILES", "Bar", "Inputs", "Measurement", "Silent", "Tables"]

Tables = dict[str, pd.DataFrame]
"""Name → rows; the first is what the measurement is about."""
FILES: dict[str, tuple[str | None, str]] = {
    "data": ("data/dataset.safetensors", "Dataset from fetch-data."),
    "trained": ("data/zoo/trained.safetensors", "Zoo from train-zoo."),
    "aligned": ("data/zoo/aligned.safetensors", "Zoo from align, which Euclidean flows learn."),
    "canonical": ("data/zoo/canonical.safetensors", "Zoo from canonicalize, which the other flows learn."),
    "flow": ("data/flow.safetensors", "Flow from train-flow, or from the measurement flow."),
    "independent": (None, "Euclidean flow of flow.coupling: independent, for a diffusion if the other has none."),
    "conditioned": (None, "Flow of flow.condition: loss, to be asked for networks of a low loss."),
    "drawn-flow": (None, "A trained flow, for the model flow to draw from; else it trains one."),
    "flow-facts": ("reports/stages/train-flow.json", "How long that flow took to train; of a cell flow its flow.json."),
    "zoo-facts": ("reports/stages/train-zoo.json", "How long training the zoo took; of a cell zoo its trained.json."),
    "outside": (None, "Inputs of another kind, from the measurement outside; with them averages of networks are measured."),
    "target": (None, "Dataset of another task, which networks are brought to."),
}
"""What a measurement may read → where the default pipeline has it, and what it is."""


class Bar(Protocol):
    """Progress, as tqdm shows it."""

    n: float

    def update(self, n: float = 1) -> Any:
        """So much more is done."""
        ...

    def set_postfix_str(self, s: str = "") -> Any:
        """What is being done."""
        ...


class Silent:
    """Progress that nobody watches."""

    def __init__(self) -> None:
        self.n: float = 0

    def update(self, n: float = 1) -> None:
        """So much more is done."""
        self.n += n

    def set_postfix_str(self, s: str = "") -> None:
        """What is being done."""


@dataclass(frozen=True)
class Inputs:
    """What a measurement works on, each part read when it is first asked for.

    Attributes:
        files: Name in ``FILES`` → path.
        out: Folder of the cell, for files that a measurement makes beside its tables.
        params: Task and overrides.
        presets: Folder of presets.
        changes: Further overrides, ``section.key=value``.
        progress: (total, title) → a bar to be used in a ``with`` statement.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    out: Path = Path()
    params: Path = Path("params.yaml")
    presets: Path = Path("stages/presets")
    changes: tuple[str, ...] = ()
    progress: Callable[[int, str], AbstractContextManager[Bar]] = lambda total, title: nullcontext(Silent())

    @cached_property
    def settings(self) -> Settings:
        """Preset and overrides."""
        return load_settings(self.params, self.presets, self.changes)

    def path(self, name: str) -> Path:
        """Where a file lies.

        Raises:
            ValueError: Nobody has said it.
        """
        if name not in self.files:
            raise ValueError(f"--{name}: expected a file, got none: {FILES[name][1]}")
        return self.files[name]

    def zoo(self, form: str) -> Zoo:
        """The zoo of a form: ``trained``, ``aligned`` or ``canonical``."""
        return load_zoo(self.path(form), form)

    def learned_zoo(self) -> tuple[Zoo, Dataset]:
        """The zoo that flows of ``flow.geometry`` learn, and its task's data."""
        path, form = learned_zoo(self.settings.flow.geometry, self.path("aligned"), self.path("canonical"))
        zoo = load_zoo(path, form)
        dataset = self.dataset(zoo.architecture, path)
        require_training_examples(zoo.metadata, dataset, f"{path}")
        return zoo, dataset

    def dataset(self, architecture: Architecture, path: Path, name: str = "data") -> Dataset:
        """Data in the shape that the networks of a file take."""
        return load_dataset(self.path(name)).for_networks(architecture, f"{path}")

    def flow(self, name: str = "flow") -> Flow:
        """A trained flow, on the best device."""
        return load_flow(self.path(name), resolve_device("auto"))

    def of_flow(self, flow: Flow, name: str = "flow") -> tuple[Zoo, Dataset]:
        """The zoo that a flow has learned, and its task's data."""
        zoo, dataset = self.zoo_of(flow, name), self.dataset(flow.architecture, self.path(name))
        require_training_examples(zoo.metadata, dataset, f"{self.path(name)}")
        return zoo, dataset

    def zoo_of(self, flow: Flow, name: str = "flow") -> Zoo:
        """The zoo that a flow has learned."""
        files = self.path("aligned"), self.path("canonical")
        zoo: Zoo = zoo_of_flow(self.path(name), flow.config.geometry, flow.architecture, *files)
        return zoo


@dataclass(frozen=True)
class Measurement:
    """Something to measure of a task, a zoo or a flow.

    Attributes:
        name: How the command line and pages call it.
        measure: The work: (inputs, options) → tables.
        options: What can be chosen besides settings, with defaults; fields become options of the command line.
        reads: Names in ``FILES`` of what it reads.
        settings: Whether it reads the project's settings; names of the sections that it does where those are few.
    """

    name: str
    measure: Callable[[Inputs, Any], Tables]
    options: type[Section] = Section
    reads: tuple[str, ...] = ()
    settings: bool | tuple[str, ...] = False
