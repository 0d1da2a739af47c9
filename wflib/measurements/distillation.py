"""Distilled flows: few jumps of a student beside the steps of its teacher."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
from pydantic import Field

from wflib.config import Count, Section, Seed
from wflib.evaluation import DrawQuality
from wflib.flow import TRAJECTORIES, distill, sample, save_flow
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.rng import generator

__all__ = ["DISTILLATION"]

JUMPS, STEPS = (1, 2, 4), (1, 2, 4, 8, 16, 64)


class Options(Section):
    """How the student learns, and how many networks are compared."""

    trajectories: Annotated[int, Field(ge=2, description="Trajectories of the teacher to learn from.")] = TRAJECTORIES
    iterations: Annotated[Count, Field(description="Optimizer steps.")] = 2000
    networks: Annotated[int, Field(ge=2, description="Samples of each row.")] = 100
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def compare_with_student(inputs: Inputs, options: Options) -> Tables:
    """Distill a trained flow into jumps of one, two and four steps, and compare them with its own few steps and with 64.

    The student learns from trajectories of the teacher alone, no data are involved. It is kept as student.safetensors in
    the cell's folder, a flow like any other.
    """
    model = inputs.flow()
    zoo, dataset = inputs.of_flow(model)
    with inputs.progress(options.iterations, "distill") as bar:

        def advance(part: str, done: int, total: int, loss: float) -> None:
            bar.set_postfix_str(part)
            if part == "training":
                bar.update(done - bar.n)

        student = distill(
            model, options.seed, options.trajectories, jumps=JUMPS, iterations=options.iterations, progress=advance
        )
    save_flow(inputs.out / "student.safetensors", student)
    quality, rows, networks = DrawQuality(zoo, dataset.test, options.seed), [], options.networks
    far = sample(model, networks, STEPS[-1], generator(options.seed, "study", "prior"))
    for name, who, counts in (("trained flow", model, STEPS), ("distilled flow", student, JUMPS)):
        for steps in counts:
            x = sample(who, networks, steps, generator(options.seed, "study", "prior"))
            error = ((x - far).square().sum(1).mean() / far.var(0).sum()).item()
            rows.append({"flow": name, "steps": steps, **quality(who.coordinates.decode_state(x)), "error": error})
    return {"rows": pd.DataFrame(rows)}


DISTILLATION = Measurement("distillation", compare_with_student, Options, ("data", "aligned", "canonical", "flow"))
