"""What a generative model of networks is: fitted to a zoo, draws networks of its kind, goes to a file and comes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from wflib.architecture import Architecture
from wflib.config import Section
from wflib.flow import Coordinates
from wflib.networks import Networks
from wflib.storage import ArtifactError, save_artifact
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo

__all__ = ["CoordinateModel", "Evidence", "GenerativeModel"]


class GenerativeModel(ABC):
    """A distribution over networks that was fitted to a zoo.

    Attributes:
        name: How settings and tables call it.
        label: How people do.
        colour: In figures.
        Settings: What can be chosen, with defaults.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    colour: ClassVar[str]
    Settings: ClassVar[type[Section]] = Section

    @classmethod
    @abstractmethod
    def fit(cls, zoo: Zoo, task: Dataset, settings: Any, generator: torch.Generator) -> Self:
        """Learn from networks that are not held out, and from the task's training and validation parts.

        Args:
            zoo: Aligned or canonical networks; what is drawn has their form.
            task: What they solve. Its test part is never read.
            settings: Of this model's own kind, ``cls.Settings``.
            generator: Source of randomness.
        """

    @abstractmethod
    def draw(self, networks: int, generator: torch.Generator) -> Networks:
        """So many networks in the zoo's form, on the device where the model is."""

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write an artifact that :func:`wflib.models.load_model` needs nothing else to read."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a method learns from.

    Attributes:
        space: What coordinates mean.
        training: Networks that are not held out.
        train: The task's training part.
        validation: Its validation part.
    """

    space: Coordinates
    training: Zoo
    train: Split
    validation: Split


@dataclass(frozen=True, eq=False)
class CoordinateModel(GenerativeModel):
    """A model whose state is a few tensors, and whose draws are flat coordinates of networks.

    A method is two functions: :meth:`learn` makes the tensors, :meth:`coordinates` draws. What they have in common is here:
    the held-out and the test part stay unseen, running variances are positive, and drawn weights lie on the zoo's manifold.

    Attributes:
        space: What coordinates mean.
        settings: Of the method.
        state: Tensors by name.
        metadata: Task and provenance, JSON-serializable.
    """

    space: Coordinates
    settings: Section  # methods say here and below that it is their own kind
    state: Mapping[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    fewest: ClassVar[int] = 2
    """Training networks that a fit needs."""
    learns_from_networks: ClassVar[bool] = True
    """Whether it needs trained networks at all, or only what a zoo says of priors, recipes and forms."""

    @classmethod
    def fit(cls, zoo: Zoo, task: Dataset, settings: Section | None = None, generator: torch.Generator | None = None) -> Self:
        """As :meth:`GenerativeModel.fit`; default settings with None, a generator of seed 0 likewise.

        Raises:
            ValueError: Too few networks that are not held out, settings of another model, or a task without examples where
                this one needs them.
        """
        settings = cls.Settings() if settings is None else settings
        if type(settings) is not cls.Settings:
            raise ValueError(
                f"{cls.name}: expected settings {cls.Settings.__qualname__}, got {type(settings).__qualname__}."
            )
        training = zoo.training_part
        if len(training) < cls.fewest:
            raise ValueError(
                f"{cls.name}: expected at least {'one network' if cls.fewest == 1 else 'two networks'} to learn from, "
                f"got {len(training)}; train more, or hold fewer out."
            )
        if cls.needs_examples(settings) and not task.has_examples:
            raise ValueError(
                f"{cls.name}: expected a task with examples, which it learns or chooses by, got the task {task.task}; "
                "choose a model that looks at weights alone, such as gaussian-full."
            )
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        settings, space = cls.completed(settings, zoo), Coordinates(zoo.architecture)
        evidence = Evidence(space, training, task.train, task.validation)
        found, like = cls.learn(evidence, settings, generator), zoo.networks.dtype
        # What comes from the data has its precision, draws have the zoo's.
        state = {name: tensor.to(like) if tensor.is_floating_point() else tensor for name, tensor in found.items()}
        return cls(space, settings, state, {"task": task.task})

    @classmethod
    def needs_examples(cls, settings: Any) -> bool:
        """Whether a fit looks at the task's examples."""
        return False

    @classmethod
    def completed(cls, settings: Any, zoo: Zoo) -> Section:
        """Settings with what the zoo says where they say nothing."""
        given: Section = settings
        return given

    @classmethod
    @abstractmethod
    def learn(cls, evidence: Evidence, settings: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """The tensors that :meth:`coordinates` draws from."""

    @abstractmethod
    def coordinates(self, networks: int, generator: torch.Generator) -> Tensor:
        """Flat vectors (networks, D), not yet projected on the manifold."""

    def draw(self, networks: int, generator: torch.Generator) -> Networks:
        """So many networks in the zoo's form.

        Raises:
            ValueError: Fewer than one, or drawn weights that are not finite.
        """
        if networks < 1:
            raise ValueError(f"{self.name}: expected at least one network to draw, got {networks}.")
        drawn = self.space.decode_state(self.space.manifold.projx(self.coordinates(networks, generator)))
        drawn.require_finite(f"draws of {self.name}", "draw others, or change its settings")
        return drawn

    def save(self, path: str | Path) -> None:
        """Write an artifact; :meth:`read` is its inverse."""
        described = {
            "method": self.name,
            "settings": self.settings.model_dump(mode="json"),
            "architecture": self.space.architecture.to_json(),
        }
        save_artifact(path, "model", self.state, {**described, **self.metadata})

    @classmethod
    def read(cls, path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> Self:
        """The model behind an artifact's tensors and metadata.

        Raises:
            ArtifactError: The file does not say what the method needs.
        """
        try:
            space = Coordinates(Architecture.from_json(metadata.pop("architecture")))
            return cls(space, cls.Settings.model_validate(metadata.pop("settings")), dict(tensors), metadata)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: not a model of {cls.name} ({error}); fit and save it again.") from error


def standard_normal(rows: int, like: Tensor, generator: torch.Generator, columns: int | None = None) -> Tensor:
    """Draws from N(0, I), (rows, columns), of a tensor's precision and on its device; by default as wide as it is."""
    shape = (rows, like.shape[-1] if columns is None else columns)
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def one_of(states: Tensor, networks: int, generator: torch.Generator) -> Tensor:
    """Indices of random rows, with replacement, (networks,)."""
    return torch.randint(len(states), (networks,), generator=generator, device=generator.device).to(states.device)
