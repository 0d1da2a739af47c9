"""The few numbers: those of the tables and the audit, with errors, and few enough for one screen."""

from __future__ import annotations

import math
from functools import cache

import pandas as pd
import pytest

from tests.evaluation.families import ARCHITECTURE, examples, runs, zoo
from wflib.evaluation import GROUP_SCHEMA, PART_SCHEMA, Audit, audit_networks, key_metrics
from wflib.networks import Networks
from wflib.report import Cost
from wflib.rng import generator

SCREEN = 25


@cache
def audit() -> Audit:
    family, random = zoo(60, 40, 2, 0), generator(0, "key metrics")
    networks = Networks.from_flat(ARCHITECTURE, runs(40, 0, "drawn"))
    training, held_out = family.training_part, family.held_out_part
    return audit_networks("samples", networks, training, held_out, examples(60), random, rounds=5, permutations=199)


def groups() -> pd.DataFrame:
    known = {
        "bma_nll": 0.05,
        "variance_ratio": 1.1,
        "mean_shift": math.nan,
        "copying_ratio": 0.9,
        "copying_ratio_error": 0.1,
    }
    rows = [{**dict.fromkeys(GROUP_SCHEMA, 7.0), **known, "source": source} for source in ("samples", "zoo", "held-out")]
    return pd.DataFrame(rows)


def parts() -> pd.DataFrame:
    rows = [
        {**dict.fromkeys(PART_SCHEMA, 7.0), "source": source, "part": part, "accuracy": 0.1 * k, "nll": 0.2 * k}
        for k, source in enumerate(("samples", "zoo", "held-out"), 1)
        for part in ("train", "validation", "test")
    ]
    return pd.DataFrame(rows)


def test_numbers_are_those_of_the_tables_and_the_audit():
    found = key_metrics(groups(), parts(), audit())
    assert list(found) == ["samples", "held-out", "audit"]
    quality = {"train_accuracy": 0.3, "train_nll": 0.6, "test_accuracy": 0.3, "test_nll": 0.6, "average_nll": 0.05}
    assert found["held-out"] == pytest.approx(quality)
    assert found["samples"]["train_nll"] == 0.2
    assert found["samples"]["variance_ratio"] == 1.1
    assert not {"mean_shift", "copying_ratio"} & set(found["samples"])  # undefined; the audit's is the one
    assert found["audit"]["copying_ratio"] == audit().copying.ratio.ratio
    errors = audit().loss.error_networks, audit().loss.error_examples
    assert found["audit"]["nll_difference_error"] == pytest.approx(math.hypot(*errors))
    assert found["audit"]["nll_difference_error"] > max(errors)


def test_they_fit_one_screen_together_with_what_networks_cost():
    found = key_metrics(groups().fillna(0.1), parts(), audit())
    rows = sum(map(len, found.values())) + len(Cost(700, 0.01, 0.05).metrics)
    assert rows <= SCREEN
    assert len(audit().figures) + rows > SCREEN  # as it would be with everything


def test_without_an_audit_or_examples_what_is_defined_is_left():
    found = key_metrics(groups(), parts(), None)
    assert list(found) == ["samples", "held-out"]
    assert (found["samples"]["copying_ratio"], found["samples"]["copying_ratio_error"]) == (0.9, 0.1)
    without = key_metrics(groups().assign(bma_nll=math.nan), parts().head(0), None)
    assert without == {"samples": {"variance_ratio": 1.1, "copying_ratio": 0.9, "copying_ratio_error": 0.1}}
