"""Pages of studies: each a table, its explanation and a figure of all cells of one measurement."""

from __future__ import annotations

import pandas as pd

from wflib.evaluation import response_summary, response_tenths
from wflib.measurements import Cells
from wflib.pages.files import Contents
from wflib.report.abilities import (
    distillation_figure,
    likelihood_figure,
    measures_markdown,
    response_figure,
    samplers_figure,
)
from wflib.report.audit import audit_figure, audit_markdown, audit_table
from wflib.report.audit_averages import averages_figure
from wflib.report.audit_uncertainty import averages_with_costs, mixing_sentence, uncertainty_markdown, uncertainty_rows
from wflib.report.audit_words import audit_choices, audit_in_short, audit_splits, audit_zoo
from wflib.report.polishing import polish_figure, saved_steps
from wflib.report.study import alignment_figure, study_figure, study_markdown, study_summary, symmetry_summary

__all__ = ["alignment", "condition", "distillation", "flows", "likelihood", "models", "polish", "samplers"]


def page(rows: pd.DataFrame, text: str, figure: bytes) -> Contents:
    """All numbers, what to read, and what to look at."""
    return {".csv": rows.to_csv(index=False).encode(), ".md": text.encode(), ".svg": figure}


def flows(cells: Cells) -> Contents:
    """Flows that differ in a few settings, by their labels."""
    rows = cells.table("flow")
    return page(rows, study_markdown(study_summary(rows)), study_figure(rows))


def alignment(cells: Cells) -> Contents:
    """Ways of alignment."""
    rows, barriers, distances = (cells.table("alignment", name) for name in ("rows", "barriers", "distances"))
    text = f"{measures_markdown(rows)}\n{measures_markdown(symmetry_summary(distances))}"
    return page(rows, text, alignment_figure(barriers, distances))


SAMPLERS = (
    "Quality of single samples on test data, NLL in nats; variance ratio: samples' variance over that of training networks, "
    "both matched to one reference. Evaluations: of the velocity network, for each sample; guidance at the end point takes "
    "one more a step and differentiates through it. Noise is the thesis' way, which keeps no marginal; the diffusion keeps "
    "all of them."
)


def samplers(cells: Cells) -> Contents:
    """Ways of drawing from one flow."""
    rows, reasons = cells.table("samplers"), cells.table("samplers", "reasons")
    said = [f"No diffusion for {row.flow}: {row.reason}" for row in reasons.itertuples()]
    shown = rows.drop(columns=["kind", "accuracy_std", "nll_std"])
    return page(rows, measures_markdown(shown, "\n\n".join([SAMPLERS, *said])), samplers_figure(rows))


DISTILLATION = (
    "Euler steps of the trained flow against jumps of the distilled one, from the same starting points; NLL in nats on test "
    "data. Variance ratio: samples' variance over that of training networks, both matched to one reference. Error: mean "
    "squared distance to what the most steps of the trained flow reach, relative to the variance of that."
)


def distillation(cells: Cells) -> Contents:
    """A flow and its student."""
    rows = cells.table("distillation")
    return page(rows, measures_markdown(rows, DISTILLATION), distillation_figure(rows))


POLISH = (
    "Draws from the flow ({steps} Euler steps) and from its prior, after full-batch steps of Adam on at most {examples} "
    "training examples. Learning rate: the one tried with the lowest mean validation loss, for each start and number of "
    "steps. Seconds: for one network of {networks} computed together, drawing counted, but neither the choice of the rate "
    "nor what the flow and its zoo cost. NLL in nats, of training and validation examples, nll mean of test examples; "
    "variance ratio: variance over that of training networks, both matched to one reference."
)
SAVED = (
    "The fewest steps from the prior, of those measured, whose mean NLL (on training, on test data) is as low as that of "
    "the flow's draws after the steps in the first column."
)


def polish(cells: Cells) -> Contents:
    """Steps of training from draws of a flow, and from its prior."""
    rows, options = cells.table("polish"), cells.of("polish")[0]["options"]
    saved = saved_steps(rows, "flow", "prior", ("train_nll", "nll_mean"))
    text = f"{measures_markdown(rows, POLISH.format(**options))}\n{measures_markdown(saved, SAVED)}"
    return page(rows, text, polish_figure(rows))


LIKELIHOOD = (
    "log p of the flow's coordinates in nats, at t = 0.99, where training ends: {steps} steps of order two, {probes} "
    "Hutchinson probe(s) shared by all networks. AUC: share of pairs in which the held-out network is the more likely one. "
    "Paired: share of held-out networks that are more likely than their own noised copy. Noise is relative to the deviation "
    "between networks."
)


def likelihood(cells: Cells) -> Contents:
    """Log-likelihoods of groups of networks."""
    rows, groups = (cells.table("likelihood", name) for name in ("rows", "groups"))
    text = measures_markdown(groups, LIKELIHOOD.format(**cells.of("likelihood")[0]["options"]))
    return page(rows, text, likelihood_figure(rows))


CONDITION = (
    "Asked: the {name} on training examples that a sample was asked for, evenly spaced between the zoo's 1st and 99th "
    "percentile (of logarithms for a loss). Found: the sample's own, on the same examples; test loss in nats. First the "
    "Spearman correlations over all samples, then means over tenths of them. Strength: w of classifier-free guidance."
)


def condition(cells: Cells) -> Contents:
    """What was asked for, and what came."""
    rows = cells.table("condition")
    name = str(rows.figure.iloc[0])
    tenths = measures_markdown(response_tenths(rows), CONDITION.format(name=name))
    return page(rows, f"{measures_markdown(response_summary(rows))}\n{tenths}", response_figure(rows, name))


def models(cells: Cells) -> Contents:
    """Every generative model on one zoo: what to make of each, quality over novelty, cost over quality, what tests say."""
    rows, settings = cells.table("model"), cells.of("model")[0]["settings"]
    made = [f"Made by `dvc repro {pipeline}`." for pipeline in rows.get("pipeline", pd.Series(dtype=str)).unique()]
    learned = rows.zoo_seconds.mean() * (1 - settings["zoo"]["held_out"])  # held-out networks are the audit's, not models'
    table, seconds = audit_table(rows), (learned, rows.training_seconds.mean())
    drawn = f"{rows.networks.max():,} draws of each model and seed."
    facts = [audit_zoo(settings), audit_splits(cells.of("model")), drawn, audit_choices(settings)]
    head = " ".join([*made, *filter(None, facts)])
    parts = ["# All models on one zoo", head, audit_in_short(table, settings, *seconds), audit_markdown(table, *seconds)]
    averages, files = averages_of_models(cells, rows, 1 - settings["zoo"]["held_out"])
    text = "\n\n".join([*parts, averages] if averages else parts)
    return {**page(rows, text, audit_figure(table)), **files}


def averages_of_models(cells: Cells, rows: pd.DataFrame, share: float) -> tuple[str, Contents]:
    """What averages know and cost: an explanation, a table and a figure; nothing where cells measured none."""
    if not all("averages" in facts["tables"] for facts in cells.of("model")):
        return "", {}
    joined = averages_with_costs(rows, cells.table("model", "averages"), share)
    found = uncertainty_rows(joined, cells.table("model", "predictions"))
    text = f"{uncertainty_markdown(found)}\n{mixing_sentence(rows)}".strip() + "\n"
    return text, {".averages.csv": found.to_csv(index=False).encode(), ".averages.svg": averages_figure(joined)}
