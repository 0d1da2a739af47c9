"""A flow as one of the models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from wflib.config import FlowSections, SampleConfig
from wflib.flow import (
    DIVERGED,
    AddedNoise,
    Diffusion,
    Flow,
    FlowTrainer,
    Guidance,
    TaskLoss,
    diffusion_of,
    distill,
    flow_for_zoo,
    sample,
    save_flow,
)
from wflib.models.model import GenerativeModel
from wflib.models.polish import polish
from wflib.networks import Networks, require_finite
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo

__all__ = ["FlowModel"]


@dataclass(frozen=True, eq=False)
class FlowModel(GenerativeModel):
    """An ordinary differential equation from a prior to the zoo, and how it is drawn from.

    Attributes:
        flow: The trained flow; its student where ``sampling`` says jumps.
        sampling: Solver, steps, guidance, noise, steps of training after drawing.
        train: Training examples, which guidance and polishing descend the loss of; None where there is neither.
        validation: Validation examples, by which the learning rate of polishing is chosen; None where none is.
    """

    name, label, colour = "flow", "samples", "#D55E00"
    flow: Flow
    sampling: SampleConfig
    train: Split | None = None
    validation: Split | None = None

    class Settings(FlowSections):
        """The sections of the pipeline's settings that make a flow and draw from it."""

        sample: SampleConfig

    @classmethod
    def fit(cls, zoo: Zoo, task: Dataset, settings: Settings, generator: torch.Generator | None = None) -> FlowModel:
        """Train a flow on the zoo's training part; random numbers come from ``training.seed`` alone."""
        flow = flow_for_zoo(settings, zoo, task.train)
        config = settings.training
        flow = FlowTrainer(flow, zoo, config, task.train).run()
        if settings.sample.jumps > 0:
            bfloat16 = config.precision == "bfloat16"
            flow = distill(flow, config.seed, iterations=config.distillation_iterations, bfloat16=bfloat16)
        return cls(flow, settings.sample, task.train, task.validation)

    def draw(self, networks: int, generator: torch.Generator, progress: Callable[[int], None] | None = None) -> Networks:
        """So many networks in the flow's form, on its device; ``progress`` is called with the number drawn so far.

        Raises:
            ValueError: Some ran to NaN or infinity on the way; guidance or polishing without examples; or jumps of a
                flow that is no student.
        """
        if self.sampling.polish_steps == 0:
            return self.draw_unpolished(networks, generator, progress)
        if self.train is None or self.validation is None:
            raise ValueError("flow: sample.polish_steps needs the task's training and validation examples.")
        drawn = self.draw_unpolished(networks, generator, progress)
        return polish(drawn, self.train, self.validation, self.sampling).networks

    def draw_unpolished(
        self,
        networks: int,
        generator: torch.Generator,
        progress: Callable[[int], None] | None = None,
        shared: bool = False,
    ) -> Networks:
        """As :meth:`draw`, without the steps of training after it; ``shared`` as of :func:`wflib.flow.sample`."""
        config, guidance = self.sampling, None
        stochastic: AddedNoise | Diffusion | None = None
        if config.jumps > 0 and not self.flow.jumps:
            raise ValueError(
                f"flow: sample.jumps: {config.jumps} needs a distilled flow, got one that is none; read its student by "
                "load_flow(path, jumps=True)."
            )
        if config.guidance > 0:
            if self.train is None:
                raise ValueError("flow: sample.guidance needs the task's training examples.")
            loss = TaskLoss(self.train, config.guidance_batch, generator)
            guidance = Guidance(self.flow, loss, config.guidance, config.guidance_schedule, config.guidance_point)
        if config.noise > 0:
            first, last = config.noise_interval
            stochastic = AddedNoise(config.noise, generator, (first, last))
        elif config.diffusion > 0:
            stochastic = diffusion_of(self.flow, config.diffusion, generator, config.diffusion_schedule)
        self.flow.precision = config.precision
        drawn = sample(
            self.flow,
            networks,
            config.jumps or config.steps,
            generator,
            guidance,
            config.solver,
            stochastic,
            config.condition,
            config.condition_strength,
            progress=progress,
            shared=shared,
            last_step=config.last_step,
        )
        require_finite({"coordinates": drawn}, "draws", DIVERGED)
        return self.flow.coordinates.decode_state(drawn)

    def save(self, path: str | Path) -> None:
        """Write the flow; how it is drawn from is said anew by whoever loads it."""
        save_flow(path, self.flow)
