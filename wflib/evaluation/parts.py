"""Quality on all three parts of a task's data, with both standard errors, and what follows for simpler models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from wflib.evaluation.clusters import numbered
from wflib.evaluation.standard_errors import compare_means, estimate_mean
from wflib.networks import Networks, example_losses, predict, require_classification, wrong_predictions
from wflib.rng import random_order
from wflib.tasks import Dataset, Split

__all__ = ["PART_SCHEMA", "Rival", "part_quality", "rivals"]

PART_SCHEMA: dict[str, str] = {
    "source": "str",
    "part": "str",
    "networks": "int64",
    "examples": "int64",
    **dict.fromkeys(
        [f"{name}{suffix}" for name in ("accuracy", "nll") for suffix in ("", "_error_networks", "_error_examples")],
        "float64",
    ),
}
"""Column → dtype of the table with one row per source and part of the data.

Errors are NaN for networks of one trajectory, and for one example.
"""
PARTS = ("train", "validation", "test")
AS_NOVEL = 0.005
"""What copying ratios of equally novel networks differ by, at least."""


def part_quality(
    source: str,
    networks: Networks,
    dataset: Dataset,
    generator: torch.Generator,
    trajectory: Tensor | None = None,
    examples: int = 2000,
) -> pd.DataFrame:
    """Mean accuracy and loss on training, validation and test examples.

    Each mean has two standard errors: over networks, where those of one trajectory count once, and over examples. A test
    part of 57 decides nothing; training examples are many, and held-out networks have seen them as well.

    Args:
        source: What the networks are.
        networks: Classifiers.
        dataset: Of their task.
        generator: Chooses examples; the same seed chooses the same ones, so that sources can be compared.
        trajectory: Training run of each network, (networks,); None for independent ones.
        examples: Of each part, at most.

    Returns:
        Three rows with the columns of ``PART_SCHEMA``.
    """
    require_classification(networks.architecture, "part_quality")
    rows, independent = [], len(numbered(trajectory, len(networks)).unique())
    for part in PARTS:
        split: Split = getattr(dataset, part)
        chosen = random_order(len(split.targets), generator)[:examples]
        log_probabilities = predict(networks, split.inputs[chosen])
        targets, row = split.targets[chosen], {"source": source, "part": part, "networks": len(networks)}
        right = (~wrong_predictions(log_probabilities, targets)).double()
        for name, values in (("accuracy", right), ("nll", example_losses(log_probabilities, targets))):
            found = {name: values.double().mean().item()}
            if independent > 1 and len(chosen) > 1:
                estimate = estimate_mean(values.cpu(), trajectory)
                found[f"{name}_error_networks"] = estimate.error_networks
                found[f"{name}_error_examples"] = estimate.error_examples
            row |= found
        rows.append({"examples": len(chosen), **row})
    return pd.DataFrame(rows, columns=list(PART_SCHEMA)).astype(PART_SCHEMA)


@dataclass(frozen=True)
class Rival:
    """A simpler model beside the samples, on examples that decide.

    Attributes:
        source: The model.
        loss: Its mean loss in nats.
        samples: The samples' on the same examples.
        p_value: Of no difference, with other networks and other examples.
        copying_ratio: Of the model.
        samples_copying_ratio: Of the samples.
        copying_ratio_error: Standard error of the difference of both.
    """

    source: str
    loss: float
    samples: float
    p_value: float
    copying_ratio: float
    samples_copying_ratio: float
    copying_ratio_error: float = 0.0

    def beats(self, level: float = 0.05) -> bool:
        """Whether its loss is lower beyond chance, and its networks not beyond chance closer to training networks."""
        margin = max(AS_NOVEL, 2 * self.copying_ratio_error)
        novel = self.copying_ratio >= self.samples_copying_ratio - margin
        return self.loss < self.samples and self.p_value <= level and novel


def rivals(groups: dict[str, Networks], copying: dict[str, tuple[float, float]], split: Split) -> list[Rival]:
    """Compare each model's mean loss with the samples' on the same examples.

    Args:
        groups: ``"samples"`` and the models' networks, independent ones.
        copying: Copying ratio of each of them and its error.
        split: Training and validation examples. Some models choose a setting by the latter, none by test examples.

    Returns:
        One for each model of more than one network, the lowest loss first.
    """
    losses = {name: example_losses(predict(part, split.inputs), split.targets).cpu() for name, part in groups.items()}
    losses = {name: found.nan_to_num(torch.inf, torch.inf) for name, found in losses.items()}  # where logits overflow
    found, ours = [], losses.pop("samples")
    for name, theirs in losses.items():
        if len(theirs) < 2:
            continue
        finite = [bool(side.isfinite().all()) for side in (theirs, ours)]
        # An infinite loss needs no test: it is higher than any finite one, and as high as another.
        p_value = compare_means(theirs, ours).p_both if all(finite) else float(not finite[0])
        (ratio, error), (samples_ratio, samples_error) = copying[name], copying["samples"]
        found.append(
            Rival(
                name,
                theirs.double().mean().item(),
                ours.double().mean().item(),
                p_value,
                ratio,
                samples_ratio,
                math.hypot(error, samples_error),
            )
        )
    return sorted(found, key=lambda rival: rival.loss)
