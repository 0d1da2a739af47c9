"""The audit of itself: what is wrong is flagged with 1,000 networks, and held-out networks and controls are not."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from scipy.stats import binom

from tests.evaluation.families import ARCHITECTURE, examples, runs, wrong_networks, zoo
from wflib.evaluation import Audit, audit_examples, audit_networks, enough_for_an_audit, verdict
from wflib.evaluation.audit import COPYING_TESTS
from wflib.networks import Networks
from wflib.rng import generator
from wflib.tasks import Dataset, Split

QUICK = {"rounds": 10, "permutations": 199}


@cache
def audit_of(kind: str) -> Audit:
    family = zoo(600, 300, 2, 0)
    training, held_out = family.training_part, family.held_out_part
    networks = wrong_networks(kind, training, 1000, 1)
    return audit_networks(kind, networks, training, held_out, examples(60), generator(0, kind), **QUICK)


@pytest.mark.parametrize("kind", ["memoriser", "copies with noise", "a tenth of copies"])
def test_copies_are_called_copies(kind):
    found = audit_of(kind)
    assert found.rejected().keys() & set(COPYING_TESTS)
    assert "copies or near-copies" in verdict(found)[0]


@pytest.mark.parametrize("kind", ["noise", "mean network", "narrow", "wide norms"])
def test_wrong_distributions_are_told_from_held_out_networks_and_are_no_copies(kind):
    found = audit_of(kind)
    rejected = found.rejected()
    assert rejected
    assert not rejected.keys() & set(COPYING_TESTS)
    copies, distribution, *_ = verdict(found)
    assert copies.startswith(f"{kind}: no copies found")
    assert distribution.startswith(f"{kind}: not the distribution of held-out networks, say {len(rejected)} of 7 tests")


def no_alarm(seed: int, control: bool) -> Audit:
    """Fresh networks, or training trajectories as a control, against held-out trajectories of uneven lengths."""
    family = zoo(160, 80, 3, seed, uneven=True)
    networks, trajectory = Networks.from_flat(ARCHITECTURE, runs(80, seed, "drawn")), None
    training = family.training_part
    if control:
        some = training[training.trajectory < 80]
        networks, trajectory = some.networks, some.trajectory
    held_out, random = family.held_out_part, generator(seed, "null")
    return audit_networks("null", networks, training, held_out, examples(60), random, trajectory=trajectory, **QUICK)


def test_what_is_right_is_flagged_no_more_often_than_the_level_says():
    audits = [no_alarm(seed, control=seed % 2 == 1) for seed in range(20)]
    # A level of 5 % over all tests of an audit: more than 4 of 20 have a probability of 0.3 %.
    assert binom.sf(4, 20, 0.05) < 0.003
    assert sum(bool(found.rejected()) for found in audits) <= 4
    for test in audits[0].p_values:
        assert sum(found.p_values[test] <= 0.05 for found in audits) <= 5, test
    quiet = next(found for found in audits if not found.rejected())
    assert verdict(quiet)[0].startswith("null: no copies found (verbatim copies of")
    assert "no test tells 80 networks from 80 held-out ones at 5%" in verdict(quiet)[1]


def test_numbers_do_not_depend_on_chance_beyond_the_seed():
    assert no_alarm(3, control=False) == no_alarm(3, control=False)


def test_sentences_say_the_numbers():
    found = audit_of("wide norms")
    said = verdict(found)
    assert f"mean loss {found.loss.ours.mean:.4f} nats beside {found.loss.theirs.mean:.4f}" in said[2]
    assert f"total variation of {found.novelty.nearest:.4f}" in said[3]
    assert f"{found.norms.relative[found.norms.largest]:+.1%} in {found.norms.largest}" in said[1]
    assert found.p_values.keys() >= found.rejected().keys()


def all_equal(training: bool, held_out: bool) -> Audit:
    """Networks that are all the same, beside training and held-out ones that are the same too, or not."""
    family = zoo(60, 30, 1, 0)
    same = replace(family, networks=family.networks[torch.zeros(90, dtype=torch.int64)])
    parts = (same if training else family).training_part, (same if held_out else family).held_out_part
    return audit_networks("same", same.networks[:40], *parts, examples(60), generator(0, "same"), **QUICK)


def test_where_all_networks_are_equal_nothing_is_said_of_copies_and_no_test_is_wrong():
    found = all_equal(training=True, held_out=True)
    said = verdict(found)
    assert said[0].startswith("same: no test can say whether there are copies")
    assert "no test tells 40 networks from 30 held-out ones" in said[1]
    assert found.loss.difference == 0
    assert found.loss.p_networks == found.loss.p_both == 1
    assert not any("nan" in sentence for sentence in said)


@pytest.mark.parametrize("training", [False, True])
def test_one_network_drawn_again_and_again_is_a_copy_without_nan(training):
    found = all_equal(training=training, held_out=False)
    said = verdict(found)
    assert "copies or near-copies" in said[0]
    assert (found.copying.ratio.ratio == 0) == training
    assert not any("nan" in sentence for sentence in said)
    assert all(math.isfinite(value) or name.startswith("detectable_by") for name, value in found.figures.items())


def test_the_sentence_on_copies_says_error_power_and_the_smallest_distance():
    found = audit_of("a tenth of copies")
    said, figures = verdict(found)[0], found.figures
    assert f"{figures['copying_ratio']:.4f} ± {figures['copying_ratio_error']:.4f} over networks" in said
    assert f"smallest distance to one over that to a held-out one {figures['smallest_closeness']:.3f}" in said
    share = figures["detectable_by_ratio"]
    assert ("no share of copies" if math.isnan(share) else f"copies of {share:.0%} or more with 95 %") in said
    assert figures["smallest_closeness"] < 0.01 < 0.5 < figures["smallest_closeness_held_out"]


def test_what_cannot_be_audited_is_refused():
    family = zoo(40, 30, 1, 0)
    training, held_out = family.training_part, family.held_out_part
    networks = Networks.from_flat(ARCHITECTURE, runs(30, 0))

    def audit(**changes):
        given = {"networks": networks, "training": training, "held_out": held_out} | changes
        return audit_networks("these", **given, split=examples(20), generator=generator(0, "a"), **QUICK)

    with pytest.raises(ValueError, match=r"at least 20 independent networks .* got 30 of these and 19 held-out ones"):
        audit(held_out=held_out[:19])
    with pytest.raises(ValueError, match=r"got 10 of these"):
        audit(trajectory=torch.arange(30) // 3)
    with pytest.raises(ValueError, match=r"trajectory expected \(30,\), got \(3,\)"):
        audit(trajectory=torch.arange(3))
    with pytest.raises(ValueError, match=r"the architecture of the training networks"):
        audit(networks=Networks(replace(ARCHITECTURE, norm="weights"), networks.weights))
    broken = networks.map(torch.clone)
    broken.weights["linear1.bias"][3, 0] = torch.nan
    with pytest.raises(ValueError, match=r"audit_networks: these: expected finite numbers"):
        audit(networks=broken)
    regression = Networks(replace(ARCHITECTURE, task_type="regression"), networks.weights)
    with pytest.raises(ValueError, match=r"audit_networks: expected a classification architecture"):
        audit(networks=regression)


def test_an_audit_says_its_figures_and_when_there_is_none():
    found = audit_of("wide norms")
    assert found.figures["tests_rejected"] == len(found.rejected())
    assert found.figures["copies_found"] == 0
    assert audit_of("memoriser").figures["copies_found"] == 1
    assert found.figures["largest_norm_difference"] == pytest.approx(0.03, abs=0.02)
    family = zoo(600, 300, 2, 0)
    training, held_out = family.training_part, family.held_out_part
    assert enough_for_an_audit(family.networks[:20], training, held_out)
    assert not enough_for_an_audit(family.networks[:19], training, held_out)
    assert not enough_for_an_audit(family.networks[:20], training[training.trajectory == 0], held_out)
    few = family.held_out_part[family.held_out_part.trajectory < 619]
    assert len(few) > 20
    assert not enough_for_an_audit(family.networks, training, few)


def test_an_audit_takes_both_precisions_and_names_what_it_cannot_judge():
    family = zoo(60, 40, 1, 0)
    training, held_out, networks = family.training_part, family.held_out_part, wrong_networks("noise", family, 30, 1)
    arguments = (training, held_out, examples(20), generator(0, "audit"))
    assert audit_networks("twice", networks.to(torch.float64), *arguments, **QUICK).networks == 30
    huge = networks.map(lambda tensor: tensor * 1e25)
    with pytest.raises(ValueError, match="expected finite losses, found others in 30 of 30 of huge"):
        audit_networks("huge", huge, *arguments, **QUICK)
    with pytest.raises(ValueError, match="at least two examples, got 1"):
        audit_networks("one", networks, training, held_out, examples(1), generator(0, "audit"), **QUICK)


def test_examples_of_an_audit_are_none_of_the_test_part():
    parts = [
        Split(torch.full((count, 4), value), torch.zeros(count).long()) for count, value in ((30, 0.0), (9, 1.0), (8, 2.0))
    ]
    dataset = Dataset("toy", "classification", 2, *parts)
    every, some = (audit_examples(dataset, generator(0, "examples"), most) for most in (2000, 12))
    assert (len(every.targets), len(some.targets)) == (39, 12)
    assert every.inputs.unique().tolist() == [0.0, 1.0]
