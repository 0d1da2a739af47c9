"""Quality on all parts, and which simpler models beat the samples."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import Rival, beaten, part_quality, rivals
from wflib.evaluation.parts import PART_SCHEMA
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.tasks import Dataset, Split

ARCHITECTURE = mlp([2, 3, 2])


def points(name: str, count: int) -> Split:
    random = generator(0, name)
    inputs = torch.randn(count, 2, generator=random)
    return Split(inputs, (inputs.sum(1) + 0.5 * torch.randn(count, generator=random) > 0).long())


TASK = Dataset("line", "classification", 2, points("train", 300), points("validation", 80), points("test", 20))


def networks(scale: float, count: int = 60, noise: float = 0.0) -> Networks:
    """Networks that decide by the sum of the inputs, with more or less noise on their weights."""
    weights = {
        "linear1.weight": torch.tensor([[1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]]),
        "linear1.bias": torch.zeros(3),
        "linear2.weight": scale * torch.tensor([[-1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]),
        "linear2.bias": torch.zeros(2),
    }
    random = generator(1, "noise", noise)
    many = {name: tensor.expand(count, *tensor.shape) for name, tensor in weights.items()}
    return Networks(ARCHITECTURE, {n: t + noise * torch.randn(t.shape, generator=random) for n, t in many.items()})


def test_each_part_has_its_own_numbers_and_two_errors():
    some = networks(1.0, noise=0.3)
    table = part_quality("samples", some, TASK, generator(0, "parts"), examples=100)
    assert list(table.columns) == list(PART_SCHEMA)
    assert table["part"].tolist() == ["train", "validation", "test"]
    assert table["examples"].tolist() == [100, 80, 20]
    row = table.set_index("part").loc["test"]
    losses = network_losses(some, TASK.test).double()
    assert row["nll"] == pytest.approx(losses.mean().item(), rel=1e-5)
    assert row["nll_error_networks"] == pytest.approx(losses.std().item() / math.sqrt(60), rel=1e-4)
    assert row["nll_error_examples"] > table.set_index("part").loc["train", "nll_error_examples"]
    again = part_quality("samples", some, TASK, generator(0, "parts"), examples=100)
    assert again.equals(table)


def test_snapshots_of_one_trajectory_count_once():
    some = networks(1.0, count=20, noise=0.3)
    copies = some[torch.arange(20).repeat_interleave(10)]
    tables = [
        part_quality("zoo", copies, TASK, generator(0, "parts"), trajectory)
        for trajectory in (torch.arange(20).repeat_interleave(10), None)
    ]
    known, ignored = (table["nll_error_networks"].mean() for table in tables)
    assert known == pytest.approx(
        part_quality("zoo", some, TASK, generator(0, "parts"))["nll_error_networks"].mean(), rel=0.01
    )
    assert ignored < 0.4 * known


def test_a_single_network_has_no_errors():
    table = part_quality("average", networks(1.0, count=1), TASK, generator(0, "parts"))
    assert table["nll_error_networks"].isna().all()
    assert table["nll"].notna().all()


def test_networks_of_one_trajectory_have_no_errors_and_are_no_error():
    snapshots = networks(1.0, count=5, noise=0.3)
    table = part_quality("held-out", snapshots, TASK, generator(0, "parts"), torch.zeros(5, dtype=torch.int64))
    assert table["nll_error_networks"].isna().all()
    independent = part_quality("held-out", snapshots, TASK, generator(0, "parts"), torch.arange(5))
    assert independent["nll_error_networks"].notna().all()
    assert table["nll"].equals(independent["nll"])
    with pytest.raises(ValueError, match=r"clusters expected \(5,\), got \(3,\)"):
        part_quality("held-out", snapshots, TASK, generator(0, "parts"), torch.zeros(3, dtype=torch.int64))


def test_a_better_and_as_novel_model_beats_the_samples_and_no_other_does():
    groups = {
        "samples": networks(1.0, noise=0.3),
        "few-steps": networks(2.0, noise=0.1),
        "training-noise": networks(2.0, noise=0.11),
        "gaussian-full": networks(1.0, noise=0.9),
        "memorizer": networks(1.0, noise=0.31),
        "average": networks(2.0, count=1),
    }
    copying = dict.fromkeys(groups, (1.0, 0.001)) | {"training-noise": (0.87, 0.001), "samples": (1.001, 0.001)}
    found = rivals(groups, copying, TASK.train)
    assert [rival.source for rival in found][-1] == "gaussian-full"
    assert {rival.source for rival in found} == set(groups) - {"samples", "average"}
    assert {rival.source for rival in found if rival.beats()} == {"few-steps"}
    sentence = beaten(found, {"few-steps": "few steps of training"})
    assert "beaten in loss, at equal novelty, by 1 of 4 simpler models: few steps of training" in sentence
    sentence = beaten([rival for rival in found if rival.source != "few-steps"], {})
    assert sentence.startswith("samples: no simpler model (training-noise, ")


def test_a_ratio_that_its_errors_allow_is_as_novel():
    assert not Rival("a", 0.1, 0.2, 0.001, 0.98, 1.0).beats()
    assert not Rival("a", 0.1, 0.2, 0.001, 0.98, 1.0, 0.004).beats()
    assert Rival("a", 0.1, 0.2, 0.001, 0.98, 1.0, 0.011).beats()


def test_infinite_losses_are_higher_than_any_other():
    sure, usual = networks(3e38, noise=0.0), networks(1.0, noise=0.3)
    copying = {"samples": (1.0, 0.0), "other": (1.0, 0.0)}
    for samples, other, beats in ((sure, usual, True), (usual, sure, False), (sure, sure, False)):
        (rival,) = rivals({"samples": samples, "other": other}, copying, TASK.train)
        assert math.isinf(rival.samples) == (samples is sure)
        assert rival.beats() == beats


def test_one_example_has_no_error_over_examples():
    one = replace(TASK, validation=TASK.validation[:1])
    table = part_quality("samples", networks(1.0, noise=0.3), one, generator(0, "parts")).set_index("part")
    assert table.loc["validation", ["nll_error_networks", "nll_error_examples"]].isna().all()
    assert table.loc["train", "nll_error_examples"] > 0


def test_many_rivals_are_not_said_to_be_better_by_chance():
    one = Rival("a", 0.1, 0.2, 0.03, 1.0, 1.0)
    assert "beaten" in beaten([one], {})
    others = [Rival(name, 0.2, 0.2, 0.9, 1.0, 1.0) for name in "bcd"]
    assert "no simpler model" in beaten([one, *others], {})


@pytest.mark.parametrize("unknown", [(math.nan, 1.0), (1.0, math.nan)])
def test_where_novelty_is_unknown_nothing_is_said_of_equal_novelty(unknown):
    better = Rival("a", 0.1, 0.2, 0.001, *unknown)
    assert "beaten" in beaten([Rival("a", 0.1, 0.2, 0.001, 1.0, 1.0)], {})
    for judged in ([], [better]):
        assert beaten(judged, {}).startswith("samples: compared with no simpler model")
    worse = Rival("b", 0.3, 0.2, 0.001, 1.0, 1.0)
    assert beaten([better, worse], {}) == "samples: no simpler model (b) has a lower loss and is as novel, at 5%."
