"""What an audit says, in sentences that are computed from its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from wflib.evaluation.audit import COPYING_TESTS, FEWEST, Audit
from wflib.evaluation.clusters import holm
from wflib.evaluation.parts import Rival

__all__ = ["NO_AUDIT", "beaten", "verdict"]

NO_AUDIT = (
    f"samples: not audited; tests against held-out networks need classifiers, {FEWEST} independent ones on both sides."
)
"""What there is to say where :func:`~wflib.evaluation.audit.enough_for_an_audit` does not hold."""


def verdict(audit: Audit, level: float = 0.05) -> list[str]:
    """Sentences: are there copies, is the distribution that of held-out networks, and which tests say no.

    Args:
        audit: What :func:`~wflib.evaluation.audit.audit_networks` found.
        level: Probability that any of the tests says no where nothing is wrong, over all of them (Holm).

    Returns:
        One sentence on copies, one on the distribution, one on the loss, one on functions; p-values are Holm-adjusted.
    """
    rejected = audit.rejected(level)
    return [
        copies(audit, [name for name in rejected if name in COPYING_TESTS], rejected),
        distribution(audit, {name: p for name, p in rejected.items() if name not in COPYING_TESTS}, level),
        loss(audit),
        functions(audit),
    ]


def told_p(p_value: float) -> str:
    """A p-value for a sentence."""
    return "p < 0.0001" if p_value < 1e-4 else f"p = {p_value:.2g}"


def copying_ratio(audit: Audit) -> str:
    """The ratio with its errors, and the share of copies that it would find."""
    ratio, detectable = audit.copying.ratio, audit.copying.detectable_by_ratio
    if not math.isfinite(ratio.ratio):
        return "copying ratio undefined, as every distance to held-out networks is zero"
    told = f"copying ratio {ratio.ratio:.4f} ± {ratio.error:.4f} over networks"
    if not math.isnan(ratio.error_trajectories):
        told += f" ± {ratio.error_trajectories:.4f} over trajectories"
    share = "no share of copies" if math.isnan(detectable) else f"copies of {detectable:.0%} or more"
    return f"{told}; a test by it alone would find {share} with 95 %"


def copies(audit: Audit, found: list[str], rejected: dict[str, float]) -> str:
    """The sentence on copies."""
    close, share = audit.copying.close, audit.copying.share
    if math.isnan(audit.copying.ratio.ratio):
        return (
            f"{audit.source}: no test can say whether there are copies: the {audit.networks} networks, training networks "
            "and held-out ones are all the same, every distance is zero."
        )
    numbers = (
        f"{close.count} of {audit.networks} are less than half as far from a training network as any held-out one is "
        f"(smallest distance to one over that to a held-out one {close.smallest:.3f}, of held-out networks "
        f"{close.smallest_unseen:.3f}), nearest "
        f"neighbours of {share.share:.1%} are training networks where {share.expected:.1%} ± {share.error:.1%} are "
        f"expected, {copying_ratio(audit)}"
    )
    if found:
        worst = min(rejected[name] for name in found)
        return f"{audit.source}: knows training networks in particular, copies or near-copies ({told_p(worst)}): {numbers}."
    detectable = audit.copying.detectable_by_closeness
    return f"{audit.source}: no copies found (verbatim copies of {detectable:.1%} or more would be, with 95 %): {numbers}."


def details(audit: Audit) -> dict[str, str]:
    """Test → the number it goes by."""
    norms, coverage = audit.norms, audit.coverage
    return {
        "classifier": f"AUC {audit.classifier.auc:.3f} [{audit.classifier.low:.3f}, {audit.classifier.high:.3f}]",
        "kernel": f"MMD² {audit.kernel.statistic:.2g}",
        "mean loss": f"{audit.loss.difference:+.4f} nats",
        "distribution of losses": f"KS distance {audit.loss_distribution.statistic:.3f}",
        "norms": f"{norms.relative[norms.largest]:+.1%} in {norms.largest}",
        "density and coverage": f"{coverage.density:.2f} and {coverage.coverage:.2f}, "
        f"expected {coverage.expected_density:.2f} and {coverage.expected_coverage:.2f}",
        "nearest function": f"{audit.novelty.nearest:.4f} beside {audit.novelty.nearest_held_out:.4f}",
    }


def distribution(audit: Audit, rejected: dict[str, float], level: float) -> str:
    """The sentence on equal distributions."""
    if not rejected:
        classifier = audit.classifier
        return (
            f"{audit.source}: no test tells {audit.networks} networks from {audit.held_out} held-out ones at {level:.0%} "
            f"(AUC {classifier.auc:.3f} [{classifier.low:.3f}, {classifier.high:.3f}])."
        )
    numbers = details(audit)
    ordered = sorted(rejected, key=rejected.__getitem__)
    said = "; ".join(f"{name} ({numbers[name]}, {told_p(rejected[name])})" for name in ordered)
    return f"{audit.source}: not the distribution of held-out networks, say {len(rejected)} of {len(numbers)} tests: {said}."


def loss(audit: Audit) -> str:
    """The sentence on mean losses."""
    found = audit.loss
    return (
        f"{audit.source}: mean loss {found.ours.mean:.4f} nats beside {found.theirs.mean:.4f} of held-out networks on the "
        f"same {found.ours.examples} examples; the difference {found.difference:+.4f} has standard errors "
        f"{found.error_networks:.4f} over networks ({told_p(found.p_networks)}) and {found.error_examples:.4f} over "
        f"examples (both: {told_p(found.p_both)})."
    )


def functions(audit: Audit) -> str:
    """The sentence on novelty of functions."""
    found = audit.novelty
    return (
        f"{audit.source}: nearest training network in predictions at a total variation of {found.nearest:.4f}, held-out "
        f"networks' at {found.nearest_held_out:.4f} ({told_p(found.p_value)} unadjusted); largest error overlap with any "
        f"training network {found.error_overlap:.3f}, of held-out networks {found.error_overlap_held_out:.3f}."
    )


def beaten(rivals: list[Rival], labels: Mapping[str, str], level: float = 0.05) -> str:
    """The sentence on simpler models: which have a lower loss beyond chance and are as novel as the samples.

    Args:
        rivals: From :func:`~wflib.evaluation.parts.rivals`; p-values are adjusted for their number (Holm).
        labels: Source → name for people.
        level: Probability that any is said to be better where none is.

    Returns:
        The sentence; models whose novelty or the samples' was not measured are not judged, and it says so of nobody left.
    """
    rivals = [rival for rival in rivals if math.isfinite(rival.copying_ratio) and math.isfinite(rival.samples_copying_ratio)]
    if not rivals:
        return "samples: compared with no simpler model of which several networks were drawn and their novelty measured."
    adjusted = holm({rival.source: rival.p_value for rival in rivals})
    better = [rival for rival in rivals if replace(rival, p_value=adjusted[rival.source]).beats(level)]
    if not better:
        names = ", ".join(labels.get(rival.source, rival.source) for rival in rivals)
        return f"samples: no simpler model ({names}) has a lower loss and is as novel, at {level:.0%}."
    told = "; ".join(
        f"{labels.get(rival.source, rival.source)} ({rival.loss:.4f} nats beside {rival.samples:.4f}, "
        f"{told_p(adjusted[rival.source])}; "
        f"copying ratio {rival.copying_ratio:.3f} beside {rival.samples_copying_ratio:.3f})"
        for rival in better
    )
    return f"samples: beaten in loss, at equal novelty, by {len(better)} of {len(rivals)} simpler models: {told}."
