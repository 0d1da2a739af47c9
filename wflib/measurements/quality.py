"""How good networks from one flow are: by steps, guidance and width, beside the networks that it learned from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import Field

from wflib.config import Count, NonNegative, Section, Seed
from wflib.evaluation import (
    DrawQuality,
    best_output_factor,
    expected_calibration_error,
    jensen_shannon_divergences,
    kernel_divergences,
    mean_and_std,
    one_per_cluster,
    over_pairs,
    part_quality,
    sampling_quality,
    with_output_factor,
    without_output_scale,
)
from wflib.flow import Flow, Guidance, TaskLoss, sample
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.models import polish
from wflib.networks import Networks, predict
from wflib.rng import generator
from wflib.tasks import Dataset, Split
from wflib.zoo import Zoo

__all__ = ["FURTHER", "QUALITY", "guidance_by", "learned_networks", "tested"]

FURTHER = "trained further"
"""Draws after the steps of training that settings ask for."""
BATCH, BINS = 64, 15
"""Training examples of a guidance gradient, as the thesis trains with; bins of calibration errors."""


class Options(Section):
    """Which draws are measured."""

    networks: Annotated[int, Field(ge=2, description="Networks of each row.")] = 100
    steps: Annotated[tuple[Count, ...], Field(description="Steps of the settings' solver; repeat.")] = (8, 16, 32, 64)
    guidance: Annotated[tuple[NonNegative, ...], Field(description="Strengths λ by training data; repeat.")] = (0.0, 0.1)
    width: Annotated[tuple[Count, ...], Field(description="Neurons of hidden layers; the flow's own if none; repeat.")] = ()
    diverse: Annotated[int, Field(ge=2, description="Networks whose diversity is measured.")] = 50
    examples: Annotated[Count, Field(description="Test examples on which it is, at most.")] = 500
    seed: Annotated[Seed, Field(description="Of every random number.")] = 0


def guidance_by(flow: Flow, split: Split, strength: float, seed: int, batch: int = BATCH) -> Guidance | None:
    """Guidance of a strength by mini-batches of training examples, None for no strength."""
    if strength == 0:
        return None
    return Guidance(flow, TaskLoss(split, batch, generator(seed, "paper", "guidance")), strength)


def learned_networks(part: Zoo, count: int, seed: int, name: str) -> Networks:
    """A network of each of some trajectories, any snapshot of it, as flows draw."""
    random = generator(seed, "paper", name)
    chosen = part[one_per_cluster(part.trajectory, random)]
    return chosen[torch.randperm(len(chosen), generator=random)[:count]].networks


def measure_quality(inputs: Inputs, options: Options) -> Tables:
    """Quality of draws on test data for every number of steps, strength of guidance and width.

    Rows of networks of training and of held-out trajectories, any snapshot, come first, as what is to be met. Canonical
    networks have a second row without their output scale, which the thesis drops; wide ones one with all logits times one
    factor, the best on validation data. At the most steps without guidance there is a row after the steps of training that
    the settings' section sample asks for, if any, and diversity is measured: mean and deviation over pairs of the
    Jensen–Shannon divergence over inputs, and of the thesis' equation 7.2. Parts of the data as in the audit.
    """
    flow, seed, config = inputs.flow(), options.seed, inputs.settings.sample
    zoo, dataset = inputs.of_flow(flow)
    own = DrawQuality(zoo, dataset.test, seed)
    rows = []
    for name, part in (("training", zoo.training_part), ("held-out", zoo.held_out_part)):
        networks = learned_networks(part, options.networks, seed, name)
        row = {"source": name, "steps": 0, "guidance": 0.0, "width": 0, "form": "as trained"}
        rows.append(row | measured(networks, dataset, options, diverse=len(networks) > 1))
    points = [(w, s, g) for w in options.width or (0,) for g in options.guidance for s in options.steps]
    with inputs.progress(len(points), "quality") as bar:
        for width, steps, strength in points:
            bar.set_postfix_str(f"{steps} steps, guidance {strength:g}")
            wide = flow.with_widths({group.name: width for group in flow.architecture.hidden_groups}) if width else flow
            sample(wide, 2, 1, generator(seed, "paper", "once"))  # what is slow once only
            started = time.perf_counter()
            guidance = guidance_by(wide, dataset.train, strength, seed)
            x = sample(wide, options.networks, steps, generator(seed, "paper", "prior"), guidance, **config.by_steps)
            drawn = wide.coordinates.decode_state(x).to("cpu")
            seconds = (time.perf_counter() - started) / len(drawn)
            plainest = steps == max(options.steps) and strength == 0
            found = {form: (networks, seconds) for form, networks in forms(drawn, dataset.validation, wide is not flow)}
            if plainest and wide is flow and config.polish_steps:
                after = polish(drawn, dataset.train, dataset.validation, config)
                found[FURTHER] = after.networks, seconds + after.seconds / len(drawn)
            for form, (networks, seconds) in found.items():
                row = {"source": "samples", "steps": steps, "guidance": strength, "width": width, "form": form}
                row |= measured(networks, dataset, options, plainest) | {"draw_seconds": seconds}
                if form in ("as drawn", FURTHER) and wide is flow:
                    row["variance_ratio"] = own(networks)["variance_ratio"]
                rows.append(row)
            bar.update()
    return {"rows": pd.DataFrame(rows)}


def forms(drawn: Networks, validation: Split, wide: bool) -> Iterator[tuple[str, Networks]]:
    """Networks as they were drawn, and what else may be made of their output scale."""
    yield "as drawn", drawn
    if drawn.architecture.log_scale is not None:
        yield "scale dropped", without_output_scale(drawn)
    if wide:
        yield "one factor", with_output_factor(drawn, best_output_factor(drawn, validation))


def tested(networks: Networks, dataset: Dataset) -> dict[str, Any]:
    """Test quality over networks, and means over all parts with errors over examples."""
    found: dict[str, Any] = {"networks": len(networks), **sampling_quality(networks, dataset.test)}
    for row in part_quality("", networks, dataset, generator(0, "paper", "parts")).to_dict("records"):
        found |= {f"{row['part']}_{name}": row[name] for name in ("accuracy", "nll", "nll_error_examples")}
    return found


def measured(networks: Networks, dataset: Dataset, options: Options, diverse: bool) -> dict[str, Any]:
    """One row: what :func:`tested` says, calibration, and diversity where it is wanted."""
    found = tested(networks, dataset)
    log_probabilities = predict(networks, dataset.test.inputs)
    error = expected_calibration_error(log_probabilities, dataset.test.targets, BINS)
    found["ece_mean"], found["ece_std"] = mean_and_std(error.double())
    if diverse:
        chosen = torch.randperm(len(dataset.test.targets), generator=generator(0, "paper", "diversity"))[: options.examples]
        some = log_probabilities[: options.diverse, chosen]
        for name, divergences in (("diversity", jensen_shannon_divergences), ("thesis_diversity", kernel_divergences)):
            found[f"{name}_mean"], found[f"{name}_std"] = mean_and_std(over_pairs(divergences(some)))
    return found


QUALITY = Measurement("quality", measure_quality, Options, ("data", "aligned", "canonical", "flow"), settings=("sample",))
