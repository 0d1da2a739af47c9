"""Ways of drawing from one trained flow."""

from __future__ import annotations

import math
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from wflib.config import Section, Seed
from wflib.evaluation import DrawQuality
from wflib.flow import AddedNoise, Flow, Guidance, TaskLoss, diffusion_of, sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.rng import generator
from wflib.tasks import Dataset

__all__ = ["SAMPLERS"]

SOLVERS = {
    "euler": (4, 8, 16, 32, 64),
    "multistep": (2, 4, 8, 16, 32),
    "heun": (2, 4, 8, 16, 32),
    "rk4": (1, 2, 4, 8),
    "dopri5": (1,),
}
NOISES, DIFFUSIONS, NOISY_STEPS = (0.01, 0.03), (0.5, 2.0), 64
GUIDANCE = (("x_t", "constant"), ("x_t", "rising"), ("end-point", "constant"))
STRENGTHS, GUIDED_STEPS = (0.03, 0.1, 0.3, 1.0), 32

Way = tuple[str, str, float, int, dict[str, Any]]
"""Kind, sampler, strength, steps, further arguments of ``sample``."""


class Options(Section):
    """How many networks are drawn in each way."""

    networks: Annotated[int, Field(ge=2, description="Samples of each row.")] = 100
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def solver_ways(flow: Flow) -> list[Way]:
    """Every solver that the flow's geometry allows."""
    allowed = [name for name in SOLVERS if not (flow.geometry.curved and name == "dopri5")]
    return [("solver", name, 0.0, steps, {"solver": name}) for name in allowed for steps in SOLVERS[name]]


def stochastic_ways(flow: Flow, seed: int) -> tuple[list[Way], str]:
    """Noise and diffusions, and why there are no diffusions if there are none."""
    ways: list[Way] = []
    for name, interval in (("noise", (0.0, 1.0)), ("noise until t = 0.5", (0.0, 0.5))):
        for strength in NOISES:
            noise = AddedNoise(strength, generator(seed, "study", "noise"), interval)
            ways.append(("noise", name, strength, NOISY_STEPS, {"stochastic": noise}))
    try:
        for strength in DIFFUSIONS:
            diffusion = diffusion_of(flow, strength, generator(seed, "study", "noise"))
            ways.append(("diffusion", "diffusion", strength, NOISY_STEPS, {"stochastic": diffusion}))
    except ValueError as error:
        return ways, str(error)
    return ways, ""


def guided_ways(flow: Flow, dataset: Dataset, seed: int) -> list[Way]:
    """Guidance by the task's training loss."""
    ways: list[Way] = []
    for point, schedule in GUIDANCE:
        for strength in STRENGTHS:
            loss = TaskLoss(dataset.train, 64, generator(seed, "study", "guidance"))
            guidance = {"guidance": Guidance(flow, loss, strength, schedule, point)}
            ways.append(("guidance", f"guided at {point}, {schedule}", strength, GUIDED_STEPS, guidance))
    return ways


def compare_samplers(inputs: Inputs, options: Options) -> Tables:
    """Compare solvers, noise, the diffusion and guidance on a trained flow, by quality and spread of what they draw.

    A diffusion needs a Euclidean flow whose coupling is independent. Where --flow is none, its row says so, and a second
    flow, --independent, is drawn from with solvers, noise and diffusions.
    """
    calls: list[None] = []
    rows, reasons, plans, seed = [], [], [], options.seed
    for file in ("flow", *(["independent"] if "independent" in inputs.files else [])):
        model = inputs.flow(file)
        model.network.register_forward_hook(lambda *_: calls.append(None))
        zoo, dataset = inputs.of_flow(model, file)
        stochastic, reason = stochastic_ways(model, seed)
        guided = guided_ways(model, dataset, seed) if file == "flow" else []
        ways = [*solver_ways(model), *stochastic, *guided]
        plans.append((file, model, DrawQuality(zoo, dataset.test, seed), reason, ways))
    with inputs.progress(sum(len(ways) for *_, ways in plans), "samplers") as bar:
        for name, model, quality, reason, ways in plans:
            for kind, sampler, strength, steps, settings in ways:
                bar.set_postfix_str(f"{sampler}, {steps} steps")
                calls.clear()
                x = sample(
                    model, options.networks, steps, generator(seed, "study", "prior"), chunk=options.networks, **settings
                )
                row = {"kind": kind, "flow": name, "sampler": sampler, "strength": strength, "steps": steps}
                rows.append({**row, "evaluations": float(len(calls)), **quality(model.coordinates.decode_state(x))})
                bar.update()
            if reason:
                row = {"kind": "diffusion", "flow": name, "sampler": "diffusion: impossible, see below"}
                rows.append({**row, "strength": math.nan, "steps": NOISY_STEPS})
                reasons.append({"flow": name, "reason": reason})
    return {"rows": pd.DataFrame(rows), "reasons": pd.DataFrame(reasons, columns=["flow", "reason"])}


SAMPLERS = Measurement("samplers", compare_samplers, Options, ("data", "aligned", "canonical", "flow", "independent"))
