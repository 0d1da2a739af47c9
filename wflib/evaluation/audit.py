"""Everything that could tell networks from held-out ones, in one call, and what follows from it in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wflib.evaluation.classifier import ClassifierTest, classifier_test
from wflib.evaluation.clusters import clustered_difference, holm, one_per_cluster
from wflib.evaluation.features import network_features
from wflib.evaluation.function_novelty import largest_error_overlap, nearest_function
from wflib.evaluation.neighbours import CopyingAudit, audit_copying
from wflib.evaluation.standard_errors import MeanDifference, compare_means
from wflib.evaluation.two_sample import (
    DensityCoverage,
    NormTest,
    TwoSampleTest,
    density_coverage,
    kernel_test,
    loss_test,
    norm_test,
)
from wflib.networks import Networks, example_losses, predict, require_classification, wrong_predictions
from wflib.rng import random_order
from wflib.tasks import Dataset, Split
from wflib.zoo import AnyZoo, in_parts
from wflib.zoo.base import at_a_time

__all__ = ["COPYING_TESTS", "Audit", "FunctionNovelty", "audit_examples", "audit_networks", "enough_for_an_audit"]

COPYING_TESTS = ("closer than held-out", "share nearest to training")
"""Tests of copies; all others are of equal distributions."""
TESTS = (
    *("classifier", "kernel", "mean loss", "distribution of losses", "norms", "density and coverage", "nearest function"),
    *COPYING_TESTS,
)
LEVEL = 0.05
"""Probability that any test says no where nothing is wrong."""
FEWEST = 20
"""Independent networks that a side must have for five folds and neighbours to mean anything."""


@dataclass(frozen=True)
class FunctionNovelty:
    """Novelty in predictions, beside that of held-out networks.

    Attributes:
        nearest: Mean over networks of the total variation to the nearest training network.
        nearest_held_out: The same of held-out networks.
        p_value: Of equal means, two-sided.
        error_overlap: Mean over networks of the largest error overlap with any training network.
        error_overlap_held_out: The same of held-out networks.
    """

    nearest: float
    nearest_held_out: float
    p_value: float
    error_overlap: float
    error_overlap_held_out: float


@dataclass(frozen=True)
class Audit:
    """What :func:`audit_networks` returns.

    Attributes:
        source: What the networks are.
        networks: How many independent ones, that is, trajectories for networks of a zoo.
        held_out: How many held-out trajectories.
        loss: Mean losses in nats on the given examples, with errors.
        loss_distribution: Kolmogorov–Smirnov test of networks' mean losses.
        classifier: Classifier two-sample test on functions, losses and weights.
        kernel: Maximum mean discrepancy of the same features.
        norms: Mean norms by tensor.
        coverage: Density and coverage in function space.
        copying: Tests of copies in weights.
        novelty: Novelty in predictions.
    """

    source: str
    networks: int
    held_out: int
    loss: MeanDifference
    loss_distribution: TwoSampleTest
    classifier: ClassifierTest
    kernel: TwoSampleTest
    norms: NormTest
    coverage: DensityCoverage
    copying: CopyingAudit
    novelty: FunctionNovelty

    @property
    def p_values(self) -> dict[str, float]:
        """Test → p-value; those of ``COPYING_TESTS`` are one-sided tests of copies."""
        found = (
            *(self.classifier.p_value, self.kernel.p_value, self.loss.p_networks, self.loss_distribution.p_value),
            *(self.norms.p_value, self.coverage.p_value, self.novelty.p_value),
            *(self.copying.close.p_value, self.copying.share.p_value),
        )
        return dict(zip(TESTS, found, strict=True))

    def rejected(self, level: float = LEVEL) -> dict[str, float]:
        """Tests that say no → Holm-adjusted p-value: any of them is wrong with a probability of at most ``level``."""
        return {name: p_value for name, p_value in holm(self.p_values).items() if p_value <= level}

    @property
    def figures(self) -> dict[str, float]:
        """The numbers that matter most, for tables and comparisons of runs."""
        rejected = self.rejected()
        return {
            "tests_rejected": float(len(rejected)),
            "copies_found": float(any(name in rejected for name in COPYING_TESTS)),
            "classifier_auc": self.classifier.auc,
            "classifier_auc_low": self.classifier.low,
            "classifier_auc_high": self.classifier.high,
            "nll_difference": self.loss.difference,
            "nll_difference_error_networks": self.loss.error_networks,
            "nll_difference_error_examples": self.loss.error_examples,
            "loss_ks_distance": self.loss_distribution.statistic,
            "largest_norm_difference": self.norms.relative[self.norms.largest],
            "density": self.coverage.density,
            "coverage": self.coverage.coverage,
            "copying_ratio": self.copying.ratio.ratio,
            "copying_ratio_error": self.copying.ratio.error,
            "copying_ratio_error_trajectories": self.copying.ratio.error_trajectories,
            "detectable_by_ratio": self.copying.detectable_by_ratio,
            "smallest_closeness": self.copying.close.smallest,
            "smallest_closeness_held_out": self.copying.close.smallest_unseen,
            "detectable_copies": self.copying.detectable_by_closeness,
            "nearest_function": self.novelty.nearest,
            "nearest_function_held_out": self.novelty.nearest_held_out,
            "largest_error_overlap": self.novelty.error_overlap,
            "largest_error_overlap_held_out": self.novelty.error_overlap_held_out,
        }


def enough_for_an_audit(networks: Networks, training: AnyZoo, held_out: AnyZoo) -> bool:
    """Whether there are classifiers, and independent ones enough on all sides, for :func:`audit_networks`."""
    independent = min(len(networks), len(held_out.trajectory.unique()))
    neighbours = len(training.trajectory.unique())
    return networks.architecture.task_type == "classification" and independent >= FEWEST and neighbours > 1


def audit_examples(dataset: Dataset, generator: torch.Generator, most: int = 2000) -> Split:
    """Examples to compare networks on: a random subset of a task's training and validation parts, never of its test part."""
    inputs, targets = (
        torch.cat([getattr(part, name) for part in (dataset.train, dataset.validation)]) for name in ("inputs", "targets")
    )
    chosen = random_order(len(targets), generator)[:most]
    return Split(inputs[chosen], targets[chosen])


def some_trajectories(trajectory: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Indices of all networks of at most so many random trajectories."""
    runs = trajectory.unique()
    return torch.isin(trajectory, runs[random_order(len(runs), generator)[:most]]).nonzero().flatten()


def function_novelty(sides: list[tuple[Networks, Tensor | None]], training: AnyZoo, split: Split) -> FunctionNovelty:
    """Nearest training network in predictions and largest overlap of errors, of both sides: networks, own trajectories.

    Training networks larger than memory go by part by part.
    """
    device = sides[0][0].device
    runs = iter(training.trajectory.to(device).split(at_a_time(len(training), training.architecture.dimension)))
    both = [(predict(networks, split.inputs), None if own is None else own.to(device)) for networks, own in sides]
    distances = [torch.full((len(ours),), math.inf, device=device) for ours, _ in both]
    overlaps = [torch.zeros(len(ours), device=device) for ours, _ in both]
    for part in in_parts(training.networks):
        theirs, theirs_runs = predict(part, split.inputs).to(device), next(runs)
        theirs_wrong = wrong_predictions(theirs, split.targets)
        for number, (ours, own) in enumerate(both):
            apart = nearest_function(ours, theirs, own, theirs_runs)[0]
            distances[number] = torch.minimum(distances[number].to(apart), apart)
            overlap = largest_error_overlap(wrong_predictions(ours, split.targets), theirs_wrong, own, theirs_runs)
            overlaps[number] = torch.maximum(overlaps[number].to(overlap), overlap)
    nearest = [apart.double().cpu()[:, None] for apart in distances]
    p_value = clustered_difference(*nearest).p_value.item()
    means = [each.double().mean().item() for each in overlaps]
    return FunctionNovelty(nearest[0].mean().item(), nearest[1].mean().item(), p_value, *means)


@torch.no_grad()
def audit_networks(
    source: str,
    networks: Networks,
    training: AnyZoo,
    held_out: AnyZoo,
    split: Split,
    generator: torch.Generator,
    *,
    trajectory: Tensor | None = None,
    most: int = 2000,
    snapshots: int = 1,
    rounds: int = 100,
    permutations: int = 999,
) -> Audit:
    """Test networks against held-out ones: same distribution? copies of training networks?

    Networks of one trajectory are never taken for independent: means know clusters, all other tests look at one random
    network of each trajectory.

    Args:
        source: What the networks are, for sentences.
        networks: Classifiers as the zoo's, in any neuron order, in the gauge of the zoo (scalings change norms).
        training: The part of the zoo that was learned from.
        held_out: The part that was not.
        split: Examples with targets. Both sides are compared on the same ones, so they may be training examples; the more
            there are, the smaller the differences that are seen. All training networks' predictions on them are held at
            once, of zoos larger than memory those of a part.
        generator: Chooses, permutes, resamples.
        trajectory: Training run of each network, (networks,), where they are training networks: a control that must pass.
            Own runs do not count as neighbours. None for drawn networks, which are independent.
        most: Independent networks of each side, a random subset; of held-out ones no more than memory shall hold.
        snapshots: Training networks of each trajectory that are neighbours in weights, see
            :func:`~wflib.evaluation.neighbours.audit_copying`.
        rounds: Trees of the classifier.
        permutations: Relabellings of each permutation test, 199 at least for an adjusted p-value below 0.05.

    Returns:
        All numbers and p-values.

    Raises:
        ValueError: Regression, networks that are not finite or of another architecture, fewer than 20 independent ones, one
            training trajectory, fewer than two examples, or losses that overflow.
    """
    require_classification(networks.architecture, "audit_networks")
    if len(split.targets) < 2:
        raise ValueError(f"audit_networks: expected at least two examples, got {len(split.targets)}.")
    networks = networks.to(held_out.networks.dtype)
    for part, name in ((training, "training"), (held_out, "held-out")):
        if part.architecture != networks.architecture:
            raise ValueError(f"audit_networks: expected the architecture of the {name} networks; bring all to one form.")
    networks.require_finite(f"audit_networks: {source}")
    runs = torch.arange(len(networks)) if trajectory is None else trajectory.cpu()
    if tuple(runs.shape) != (len(networks),):
        raise ValueError(f"Shape mismatch: trajectory expected ({len(networks)},), got {tuple(runs.shape)}.")
    chosen = some_trajectories(runs, most, generator)
    networks, runs = networks[chosen], runs[chosen]
    other = held_out.select(some_trajectories(held_out.trajectory, most, generator)).some(generator)
    theirs = other.networks.to(networks.device)
    ours_one, theirs_one = (one_per_cluster(side, generator) for side in (runs, other.trajectory))
    if min(len(ours_one), len(theirs_one)) < FEWEST:
        raise ValueError(
            f"audit_networks: expected at least {FEWEST} independent networks of both sides, one a trajectory, "
            f"got {len(ours_one)} of {source} and {len(theirs_one)} held-out ones."
        )
    losses = [example_losses(predict(side, split.inputs), split.targets).cpu() for side in (networks, theirs)]
    for name, side in ((source, losses[0]), ("held-out networks", losses[1])):
        if lost := int((~torch.isfinite(side)).any(1).sum()):
            raise ValueError(f"audit_networks: expected finite losses, found others in {lost} of {len(side)} of {name}.")
    single, single_theirs = networks[ours_one], theirs[theirs_one]
    ours_features, theirs_features = (network_features(side, split) for side in (single, single_theirs))
    own = None if trajectory is None else runs[ours_one]
    sides = [(single, own), (single_theirs, None)]
    return Audit(
        source=source,
        networks=len(ours_one),
        held_out=len(theirs_one),
        loss=compare_means(losses[0], losses[1], runs, other.trajectory),
        loss_distribution=loss_test(losses[0][ours_one].mean(1), losses[1][theirs_one].mean(1)),
        classifier=classifier_test(ours_features, theirs_features, generator, rounds=rounds),
        kernel=kernel_test(ours_features, theirs_features, generator, permutations),
        norms=norm_test(networks, theirs, runs, other.trajectory),
        coverage=density_coverage(ours_features, theirs_features, generator, permutations=permutations),
        copying=audit_copying(
            single, training, held_out, generator, own, snapshots, permutations=permutations, level=LEVEL / len(TESTS)
        ),
        novelty=function_novelty(sides, training, split),
    )
