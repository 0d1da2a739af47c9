"""Networks beside a zoo: the same measures for both, sentences, and one page that opens offline.

The pipeline's ``evaluate`` and ``report`` do more of it; this is for networks from anywhere and a look within seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from wflib.evaluation import (
    NO_AUDIT,
    audit_examples,
    audit_networks,
    barrier_table,
    enough_for_an_audit,
    evaluate_networks,
    verdict,
)
from wflib.models import METHODS
from wflib.networks import Networks
from wflib.report import FIGURES, ReportData, theme
from wflib.report.document import render_html
from wflib.report.tables import cell, novelty_table, quality_table
from wflib.report.theme import svg_bytes
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.tasks import Dataset, check_dataset
from wflib.zoo import Zoo, require_same_architecture

__all__ = ["Comparison", "compare_networks", "write_page"]

CALIBRATION_BINS = 15
SHOWN = ("gaussian-full", "training-noise")
PERMUTATIONS = 199
"""The fewest with which adjusted p-values can be below 0.05."""
BARRIER_NETWORKS = 40
SHORTLIST = 20
"""Neighbours of each network that are matched to it; the pipeline matches a hundred."""


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare_networks` returns.

    Attributes:
        data: Tables of the report; sources are ``samples``, ``zoo``, ``held-out`` and simpler models.
        auc: Area under the curve of a classifier between the networks and held-out ones, 0.5 where it cannot tell them; None
            where there are too few to test.
    """

    data: ReportData
    auc: float | None

    def number(self, source: str, column: str) -> float:
        """A number of one source's row in the table of sources."""
        groups = self.data.groups.set_index("source")
        return float(groups.loc[source, column])


def compare_networks(
    networks: Networks, zoo: Zoo, dataset: Dataset, *, unaligned: Zoo | None = None, most: int = 500, seed: int = 0
) -> Comparison:
    """Measure networks, the zoo, its held-out part and two simpler models alike, and test them against held-out networks.

    Quality, calibration, diversity and novelty are of the test part, tests of training and validation examples.

    Args:
        networks: Classifiers of the zoo's architecture and form, in any neuron order; compared in the zoo's precision.
        zoo: With networks that are held out and others.
        dataset: The task of both.
        unaligned: The zoo before alignment, to show loss barriers before and after.
        most: Networks of the zoo and of its held-out part that are measured, a random subset.
        seed: Of subsets, models, matching and tests.

    Returns:
        Tables and the verdict.

    Raises:
        ValueError: Networks of another architecture or task, fewer than two, some that are not finite, a zoo without a
            held-out part, or a task without examples or with bad ones.
    """
    require_same_architecture(networks.architecture, zoo.architecture, "the networks", "the zoo")
    zoo.require_both_parts("compare_networks")
    if len(networks) < 2:
        raise ValueError(f"compare_networks: expected at least two networks, got {len(networks)}.")
    check_dataset(dataset, "compare_networks")
    dataset, networks = dataset.for_networks(zoo.architecture, "compare_networks"), networks.to(zoo.networks.dtype)
    if not dataset.has_examples:
        raise ValueError(
            f"compare_networks: expected a task with examples, got the task {dataset.task}; "
            "wflib.evaluation.evaluate_weights compares weights alone."
        )
    training, held_out = zoo.training_part, zoo.held_out_part

    def some(part: Zoo, name: str) -> Zoo:
        return part[torch.randperm(len(part), generator=generator(seed, "comparison", name))[:most]]

    groups: dict[str, tuple[Networks, Tensor | None]] = {"samples": (networks, None)}
    for name, part in (("zoo", some(training, "zoo")), ("held-out", some(held_out, "held-out"))):
        groups[name] = (part.networks, part.trajectory)
    for name in SHOWN:
        count = min(len(networks), most)
        random = generator(seed, "comparison", name)
        groups[name] = (METHODS[name].fit(zoo, dataset, generator=random).draw(count, random), None)
    measured = [
        evaluate_networks(
            name,
            some_networks,
            dataset.test,
            training,
            CALIBRATION_BINS,
            generator(seed, "comparison", name, "matching"),
            zoo.reference,
            trajectory=trajectory,
            unseen=held_out if trajectory is None else None,
            restarts=1,
            shortlist=SHORTLIST,
        )
        for name, (some_networks, trajectory) in groups.items()
    ]
    rows, records, moments = zip(*measured, strict=True)
    tables = {"networks": pd.concat(rows), "groups": pd.DataFrame(records), "moments": pd.concat(moments)}
    if unaligned is not None:
        stages = {"unaligned": unaligned, "aligned": zoo}
        some_of = {name: part.last_snapshots.networks[:BARRIER_NETWORKS] for name, part in stages.items()}
        tables["barriers"] = pd.concat(barrier_table(name, part, dataset.test, 1) for name, part in some_of.items())
    if not enough_for_an_audit(networks, training, held_out):
        return Comparison(ReportData(**tables, verdict=[NO_AUDIT]), None)
    random = generator(seed, "comparison", "audit")
    examples = audit_examples(dataset, random)
    audit = audit_networks("samples", networks, training, held_out, examples, random, permutations=PERMUTATIONS)
    return Comparison(ReportData(**tables, verdict=verdict(audit)), audit.classifier.auc)


def write_page(
    path: str | Path,
    title: str,
    introduction: str,
    comparison: Comparison,
    facts: Mapping[str, str] | None = None,
    figures: Sequence[str] = ("quality", "barriers", "novelty"),
) -> None:
    """Write a comparison as one HTML file that asks no other host for anything.

    Args:
        path: The file, which is replaced.
        title: Its heading.
        introduction: A paragraph of Markdown.
        comparison: What to show.
        facts: What happened, as a list before everything else: what → sentence.
        figures: Names of the report's figures; those whose tables have no rows are left out.
    """
    drawn, parts = {}, [f"# {cell(title)}", introduction]
    if facts:
        parts.append("\n".join(f"- **{cell(what)}**: {cell(said)}" for what, said in facts.items()))
    parts += ["## What the tests say", "\n".join(f"- {cell(sentence)}" for sentence in comparison.data.verdict)]
    parts += ["## In numbers", quality_table(comparison.data.groups), novelty_table(comparison.data.groups)]
    for plot in (plot for plot in FIGURES if plot.name in figures):
        with theme():
            if (figure := plot.draw(comparison.data)) is None:
                continue
            drawn[f"{plot.name}.svg"] = svg_bytes(figure)
        parts += [f"## {plot.title}", f"![{plot.title}]({plot.name}.svg)", plot.caption]
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(render_html("\n\n".join(parts) + "\n", drawn).encode())
