"""Training a flow by conditional flow matching, with checkpoints from which a killed run goes on by itself."""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wflib.config import TrainingConfig
from wflib.distributed import average, average_gradients, rank, wait_for_all, world_size
from wflib.flow.conditioning import zoo_figures
from wflib.flow.flow import Flow
from wflib.flow.loss import Batch, FlowMatchingLoss
from wflib.flow.objective import sample_times
from wflib.flow.optimizer import build_optimizers
from wflib.flow.pairs import PairSource
from wflib.flow.paths import TrainingPaths
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.tasks import Split
from wflib.velocity import bulk, compile_parts, without_outliers
from wflib.zoo import AnyZoo

__all__ = ["HISTORY_SCHEMA", "FlowTrainer", "Progress"]

HISTORY_SCHEMA = {
    "iteration": "int64",
    "seconds": "float64",
    "loss": "float64",
    "validation_loss": "float64",
    "learning_rate": "float64",
}
HISTORY_EVERY = 20
VALIDATION_PAIRS = 256
MOMENT_PAIRS = 4096
GRADIENT_POINTS = 512

Progress = Callable[[int, int, dict[str, float]], None]
"""(iteration, iterations, last history row) → None."""


class FlowTrainer:
    """Fits a flow's preconditioner and velocity network to a zoo.

    The exponential moving average of the parameters is what is kept. Every random number comes from generators whose
    states are part of the checkpoint, so a resumed run ends in the same numbers as an unbroken one. Several processes
    (:mod:`wflib.distributed`) share each batch and end in the parameters of one, up to rounding.

    Args:
        flow: The flow to train; already on its device.
        zoo: The whole zoo of the form its geometry works on; held-out trajectories only measure the validation loss.
        config: Section ``training``.
        train_split: The task's training part, for losses in function space and for conditions.
        checkpoint_folder: Where to keep the state of an unfinished run, a folder that names settings and inputs; None for
            no checkpoints.

    Raises:
        ValueError: The batch cannot be split evenly over the processes, nothing or everything is held out, the coupling
            with initial weights has one trajectory to learn from, or paths that follow training lack snapshots.
    """

    def __init__(
        self,
        flow: Flow,
        zoo: AnyZoo,
        config: TrainingConfig,
        train_split: Split | None = None,
        checkpoint_folder: Path | None = None,
    ) -> None:
        if config.batch_size % world_size():
            raise ValueError(f"training.batch_size: {config.batch_size} cannot be split over {world_size()} processes.")
        zoo.require_both_parts("train-flow")
        if flow.config.coupling == "initialization" and len(torch.unique(zoo.training_part.trajectory)) < 2:
            raise ValueError(
                "flow.coupling: initialization expected trajectories that began at different initial weights; all "
                f"{len(zoo.training_part)} training networks are of one trajectory and would share one starting point; "
                "choose flow.coupling: independent, or raise zoo.networks."
            )
        self.flow, self.config = flow, config
        self.checkpoint_folder = checkpoint_folder
        self.pairs, held_out = PairSource(flow, zoo.training_part), PairSource(flow, zoo.held_out_part)
        self.paths = TrainingPaths(flow, zoo) if flow.config.path == "training" else None
        self.figures = {source: self.measure(source, train_split) for source in (self.pairs, held_out)}
        if flow.condition is not None and (figures := self.figures[self.pairs]) is not None:
            flow.condition.fit(figures)
        self.random = generator(config.seed, "flow", "batches")
        self.fit_statistics()
        self.loss = FlowMatchingLoss(flow, config, zoo.training_part, train_split)
        self.averaged = copy.deepcopy(flow.network)
        if config.compile:
            compile_parts(flow.network, kernels=config.precision == "float32")
        self.optimizers = build_optimizers(flow.network, config)
        self.iteration, self.seconds, self.earlier_seconds = 0, 0.0, 0.0
        self.history: list[dict[str, float]] = []
        self.recent: list[float] = []
        self.validation = self.draw(held_out, VALIDATION_PAIRS, generator(config.seed, "flow", "validation"))

    # -- preparation ------------------------------------------------------------------------------------------------

    def fit_statistics(self) -> None:
        """Moments of the coupling in use, lengths of paths and sizes of gradients, from pairs drawn as in training."""
        random, batch = generator(self.config.seed, "flow", "moments"), self.config.batch_size
        drawn = [self.pairs.draw_chosen(batch, random) for _ in range(math.ceil(MOMENT_PAIRS / batch))]
        chosen, x_0, x_1 = (torch.cat(side) for side in zip(*drawn, strict=True))
        self.flow.preconditioner.fit(x_0, x_1, self.flow.geometry.angles(x_0, x_1))
        ends = self.pairs.zoo.trajectory[chosen], x_0, x_1
        if self.paths is not None:
            self.paths.fit(*ends)
            self.fit_stretch(self.paths, *ends, random)
        if self.flow.loss_gradient is not None:
            runs, x_0, x_1 = (side[:GRADIENT_POINTS] for side in ends)
            t = sample_times(self.flow.config.time_distribution, len(x_0), random).to(x_1)
            self.flow.loss_gradient.fit(self.between(runs, x_0, x_1, t)[0])

    def fit_stretch(self, paths: TrainingPaths, runs: Tensor, x_0: Tensor, x_1: Tensor, random: torch.Generator) -> None:
        """How much more bent paths leave open than straight ones would."""
        flow = self.flow
        t = sample_times(flow.config.time_distribution, len(x_0), random).to(x_1)
        x_t, displacement = paths.at(runs, x_0, x_1, t)
        # As for moments, single values far out count as the edge of what is usual: on a side all of a path may be gone.
        index = flow.preconditioner.index
        usual = paths.sides * bulk(x_0, index)[1]
        x_t, displacement = (without_outliers(values, index, usual) for values in (x_t, displacement))
        coefficients = flow.preconditioner(t)
        model = flow.preconditioner.model(x_t - coefficients.centre, coefficients)
        missed = displacement - flow.geometry.tangent(x_t, model - x_t)
        flow.preconditioner.stretch_to(missed / coefficients.output_scale)

    def measure(self, source: PairSource, split: Split | None) -> Tensor | None:
        """Figures of a source's networks that the flow is conditioned on, (networks,), if it is."""
        return None if self.flow.condition is None else zoo_figures(source.zoo, split, self.flow.condition.name)

    def between(self, runs: Tensor, x_0: Tensor, x_1: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """Points on the paths of some pairs, (batch, D), and (1 − t) u_t where paths are bent."""
        if self.paths is not None:
            return self.paths.at(runs, x_0, x_1, t)
        return self.flow.geometry.interpolate(x_0, x_1, t), None

    # -- one step ---------------------------------------------------------------------------------------------------

    def draw(self, pairs: PairSource, count: int, random: torch.Generator) -> Batch:
        """Pairs, times and points between them."""
        chosen, x_0, x_1 = pairs.draw_chosen(count, random)
        t = sample_times(self.flow.config.time_distribution, count, random).to(x_1)
        x_t, displacement = self.between(pairs.zoo.trajectory[chosen], x_0, x_1, t)
        condition = self.figures[pairs]
        if condition is not None:
            told = torch.rand(count, generator=random, device=random.device).cpu() >= self.config.condition_dropout
            condition = torch.where(told, condition[chosen], math.nan).to(x_1)
        return Batch(x_t, x_1, t, condition, *self.loss.draw(x_t, random), displacement)

    def learning_rate(self) -> float:
        """Linear warm-up, then cosine decay to a fiftieth."""
        config, step = self.config, self.iteration
        warm = min(1.0, (step + 1) / max(config.warmup, 1))
        return config.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.iterations)))

    def step(self) -> float:
        """One optimizer step; returns its loss."""
        rate = self.learning_rate()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        # Every process draws the whole batch from the same stream and works on its part of it.
        batch = self.draw(self.pairs, self.config.batch_size, self.random)
        loss = self.loss(batch.part(rank(), world_size()))
        self.flow.network.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.flow.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.flow.network.parameters(), self.config.gradient_clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.iteration += 1
        decay = min(self.config.ema_decay, (self.iteration + 1) / (self.iteration + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.flow.network.parameters()), 1 - decay)
        return average(loss.detach()).item()

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Loss of the averaged network on fixed pairs of held-out trajectories."""
        network, self.flow.network = self.flow.network, self.averaged
        try:
            return self.loss(self.validation).item()
        finally:
            self.flow.network = network

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self, progress: Progress | None = None, stop_at: int | None = None) -> Flow:
        """Train to the end, from the last checkpoint if there is one.

        Args:
            progress: Called after every iteration.
            stop_at: Iteration to stop at early, for tests.

        Returns:
            The flow with averaged parameters.

        Raises:
            ValueError: The loss became NaN or infinite.
        """
        self.resume()
        config, recent, started = self.config, self.recent, time.perf_counter() - self.seconds
        while self.iteration < min(config.iterations, stop_at or config.iterations):
            recent.append(self.step())
            if not math.isfinite(recent[-1]):
                raise ValueError(
                    f"train-flow: loss is {recent[-1]} at iteration {self.iteration}; lower training.learning_rate."
                )
            last = self.iteration == config.iterations
            validate = last or self.iteration % config.validate_every == 0
            if validate or self.iteration % HISTORY_EVERY == 0:
                self.seconds = time.perf_counter() - started
                row = [self.iteration, self.seconds, sum(recent) / len(recent), math.nan, self.learning_rate()]
                self.history.append(dict(zip(HISTORY_SCHEMA, row, strict=True)))
                recent.clear()
                if validate:
                    self.history[-1]["validation_loss"] = self.validation_loss()
            if self.iteration % config.checkpoint_every == 0 and not last:
                self.checkpoint()
            if progress is not None:
                progress(self.iteration, config.iterations, self.history[-1] if self.history else {})
        self.flow.network = self.averaged
        return self.flow.eval()

    def checkpoint(self) -> None:
        """Write everything the rest of the run depends on."""
        if self.checkpoint_folder is None or rank() > 0:
            return
        state: dict[str, Any] = {
            "network": self.flow.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": self.random.get_state(),
            "iteration": self.iteration,
            "seconds": self.seconds,
            "history": self.history,
            "recent": self.recent,
        }
        with atomic_path(self.checkpoint_folder / "state.pt") as temporary:
            torch.save(state, temporary)

    def resume(self) -> None:
        """Read the last checkpoint, if any."""
        path = None if self.checkpoint_folder is None else self.checkpoint_folder / "state.pt"
        wait_for_all()
        if path is None or not path.is_file():
            return
        state = torch.load(path, map_location=self.flow.device, weights_only=True)
        self.flow.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.random.set_state(state["random"].cpu())
        self.iteration, self.seconds = state["iteration"], state["seconds"]
        self.earlier_seconds = self.seconds
        self.history, self.recent = state["history"], state["recent"]

    def discard_checkpoints(self) -> None:
        """Remove the state of a finished run."""
        wait_for_all()
        if self.checkpoint_folder is not None and rank() == 0:
            shutil.rmtree(self.checkpoint_folder, ignore_errors=True)
