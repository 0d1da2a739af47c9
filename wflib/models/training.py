"""What any generator of networks must be cheaper than: training, by the zoo's recipe or by a few full-batch steps."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from wflib.architecture import Architecture
from wflib.config import Section, ZooConfig
from wflib.flow.initial import initialization_of
from wflib.flow.prior import Prior, build_prior
from wflib.models.model import CoordinateModel, Evidence
from wflib.models.polish import best_learning_rate
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo, adam_steps, train_zoo

__all__ = ["FewSteps", "RecipeSettings", "TrainedAnew", "TrainedByRecipe"]


class RecipeSettings(Section):
    """How networks are trained."""

    recipe: ZooConfig | None = Field(default=None, description="Section zoo; null for what the zoo says of itself.")

    @property
    def known_recipe(self) -> ZooConfig:
        """The recipe, which :meth:`TrainedByRecipe.completed` has seen to."""
        assert self.recipe is not None
        return self.recipe


class TrainedByRecipe(CoordinateModel):
    """A model that trains networks of its own by the recipe of the zoo."""

    fewest, learns_from_networks = 1, False
    Settings = RecipeSettings
    settings: RecipeSettings

    @classmethod
    def needs_examples(cls, settings: Section) -> bool:
        return True

    @classmethod
    def completed(cls, settings: RecipeSettings, zoo: Zoo) -> RecipeSettings:
        """With the zoo's own recipe, where none is given.

        Raises:
            ValueError: Nobody says one.
        """
        if settings.recipe is not None:
            return settings
        if "recipe" not in zoo.metadata:
            raise ValueError(f"{cls.name}: the zoo does not say how it was trained; give models.{cls.name}.recipe.")
        return settings.model_copy(update={"recipe": ZooConfig.model_validate(zoo.metadata["recipe"])})

    @staticmethod
    def trained(ordinary: Architecture, train: Split, recipe: ZooConfig, networks: int, generator: Generator) -> Zoo:
        """A zoo of so many runs, of two at least, by a recipe with a seed of its own."""
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        recipe = recipe.model_copy(update={"networks": max(networks, 2), "seed": seed, "early_snapshots": 0})
        # Training reads its own part only; there are no others here.
        task = Dataset("own", ordinary.task_type, ordinary.groups[-1].size, train, train, train)
        return train_zoo(ordinary, task, recipe, train.inputs.device)


class TrainedAnew(TrainedByRecipe):
    """Networks trained by the recipe of the zoo, each from a random snapshot of a run of its own."""

    name, label, colour = "trained-anew", "trained anew", "#1B7837"

    @classmethod
    def learn(cls, evidence: Evidence, settings: RecipeSettings, generator: Generator) -> dict[str, Tensor]:
        return {"inputs": evidence.train.inputs, "targets": evidence.train.targets}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        ordinary = self.space.architecture.ordinary_form()
        train = Split(self.state["inputs"], self.state["targets"])
        zoo = self.trained(ordinary, train, self.settings.known_recipe, networks, generator)
        snapshots = len(zoo) // len(zoo.trajectory.unique())
        chosen = torch.randint(snapshots, (networks,), generator=generator, device=generator.device).cpu()
        return self.space.encode(zoo.networks[torch.arange(networks) * snapshots + chosen]).to(train.inputs)


class FewSteps(CoordinateModel):
    """Draws from the flows' prior after a few full-batch steps of Adam, their size chosen on validation examples."""

    name, label, colour = "few-steps", "few steps of training", "#66A61E"
    fewest, learns_from_networks = 1, False

    class Settings(Section):
        """How many steps, and among which sizes."""

        steps: Annotated[int, Field(ge=0, strict=True)] = 20
        learning_rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.003, 0.01, 0.03)
        examples: Annotated[int, Field(ge=1, strict=True, description="Training examples of a step, all at most.")] = 2048
        tried: Annotated[int, Field(ge=1, strict=True, description="Networks by which the size is chosen.")] = 100

    settings: Settings

    @classmethod
    def needs_examples(cls, settings: Section) -> bool:
        return True

    @classmethod
    def learn(cls, evidence: Evidence, settings: Settings, generator: Generator) -> dict[str, Tensor]:
        space, split = evidence.space, evidence.train.some(settings.examples, generator)
        initialization, _ = initialization_of(evidence.training, space)
        prior = build_prior(space.manifold, space.architecture, initialization)
        start = space.decode(prior.sample(settings.tried, generator).cpu())
        best = best_learning_rate(start, split, evidence.validation, settings.steps, settings.learning_rates)
        found = {"inputs": split.inputs, "targets": split.targets, "learning_rate": torch.tensor(best)}
        return found | {"mean": prior.mean, "std": prior.std}

    def coordinates(self, networks: int, generator: Generator) -> Tensor:
        mean, std = self.state["mean"], self.state["std"]
        start = Prior(self.space.manifold, mean, std, torch.zeros_like(mean, dtype=torch.bool)).sample(networks, generator)
        split, rate = Split(self.state["inputs"], self.state["targets"]), self.state["learning_rate"].item()
        (moved,) = adam_steps(self.space.decode(start), split, self.settings.steps, rate)
        return self.space.encode(moved)
