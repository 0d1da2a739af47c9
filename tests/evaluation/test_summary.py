"""The whole evaluation on a toy zoo: tables, memorized copies, and what is undefined."""

import math

import pandas as pd
import pytest
import torch

from wflib.architecture import mlp
from wflib.evaluation import (
    GROUP_SCHEMA,
    MOMENT_SCHEMA,
    NETWORK_SCHEMA,
    bayesian_model_average,
    brier_score,
    evaluate_networks,
    expected_calibration_error,
    score_errors,
    tensor_moments,
    training_mistakes,
)
from wflib.networks import Networks, accuracy, predict
from wflib.rng import generator
from wflib.storage import load_table, save_table
from wflib.symmetry import permute, random_permutations
from wflib.tasks import Split
from wflib.zoo import Zoo

ARCHITECTURE = mlp([4, 6, 3])
SPLIT = Split(torch.randn(40, 4, generator=generator(0, "x")), torch.randint(3, (40,), generator=generator(0, "y")))


def toy_zoo(trajectories: int = 5, snapshots: int = 8) -> Zoo:
    """Trajectories are well apart, their snapshots close together."""
    random = generator(0, "zoo")
    common = torch.randn(1, 1, ARCHITECTURE.dimension, generator=random)
    ends = common + torch.randn(trajectories, 1, ARCHITECTURE.dimension, generator=random)
    flat = ends + 0.1 * torch.randn(trajectories, snapshots, ARCHITECTURE.dimension, generator=random)
    count = trajectories * snapshots
    return Zoo(
        Networks.from_flat(ARCHITECTURE, flat.flatten(0, 1)),
        torch.arange(trajectories).repeat_interleave(snapshots),
        torch.arange(1, snapshots + 1).repeat(trajectories),
        torch.zeros(count, dtype=torch.bool),
        "aligned",
    )


def evaluate(networks: Networks, zoo: Zoo, **options):
    return evaluate_networks("toy", networks, SPLIT, zoo, 10, generator(0, "evaluate"), zoo.networks[:1], **options)


def test_tables_have_their_schemas_and_survive_a_file(tmp_path):
    zoo = toy_zoo()
    rows, group, moments = evaluate(zoo.networks, zoo, trajectory=zoo.trajectory)
    assert rows.dtypes.astype(str).to_dict() == NETWORK_SCHEMA
    assert list(group) == list(GROUP_SCHEMA)
    save_table(tmp_path / "networks.parquet", rows, NETWORK_SCHEMA)
    pd.testing.assert_frame_equal(load_table(tmp_path / "networks.parquet", NETWORK_SCHEMA, "evaluate"), rows)
    save_table(tmp_path / "groups.parquet", pd.DataFrame([group]), GROUP_SCHEMA)
    expected = accuracy(predict(zoo.networks, SPLIT.inputs), SPLIT.targets)
    assert rows.accuracy.tolist() == pytest.approx(expected.tolist())
    assert group["accuracy_mean"] == pytest.approx(rows.accuracy.mean())
    assert group["nll_std"] == pytest.approx(rows.nll.std())
    assert group["nearest_distance_min"] == pytest.approx(rows.nearest_distance.min())
    assert group["nearest_distance_std"] == pytest.approx(rows.nearest_distance.std())
    assert group["bma_nll"] < group["nll_mean"]
    assert moments.dtypes.astype(str).to_dict() == MOMENT_SCHEMA
    assert moments.tensor.tolist() == [spec.name for spec in ARCHITECTURE.tensors]
    pd.testing.assert_frame_equal(moments, tensor_moments("toy", zoo.networks, zoo.networks))


def test_scores_and_their_errors_are_of_one_computation(monkeypatch):
    """Once of the networks and once of their average, however many numbers are told of both."""
    computed = []
    for name in ("brier_terms", "calibration_terms", "example_losses"):
        was = getattr(score_errors, name)
        monkeypatch.setattr(score_errors, name, lambda *given, n=name, was=was: computed.append(n) or was(*given))
    zoo = toy_zoo()
    _, group, _ = evaluate(zoo.networks, zoo)
    assert sorted(computed) == ["brier_terms"] * 2 + ["calibration_terms"] * 2 + ["example_losses"] * 2
    log_probabilities = predict(zoo.networks, SPLIT.inputs)
    average = bayesian_model_average(log_probabilities)[None]
    for name, predictions in (("{}_mean", log_probabilities), ("bma_{}", average)):
        told = [group[name.format(score)] for score in ("ece", "brier")]
        expected = [expected_calibration_error(predictions, SPLIT.targets, 10), brier_score(predictions, SPLIT.targets)]
        assert told == pytest.approx([value.mean().item() for value in expected])


def test_permuted_copies_of_training_networks_are_unmasked_even_of_thinned_snapshots():
    zoo = toy_zoo()
    chosen = torch.tensor([3, 10, 18, 30])  # snapshots 4, 3, 3 and 7 of 8: none is kept by snapshots=1
    shuffled = permute(zoo.networks[chosen], random_permutations(ARCHITECTURE, 4, generator(0, "order")))
    rows, *_ = evaluate(shuffled, zoo, snapshots=1)
    assert rows.nearest_distance.max() < 1e-5
    assert rows.error_overlap.tolist() == [1.0] * 4
    far = Networks.from_flat(ARCHITECTURE, torch.randn(4, ARCHITECTURE.dimension, generator=generator(0, "far")))
    other, *_ = evaluate(far, zoo, snapshots=1)
    assert other.nearest_distance.min() > 1
    assert other.error_overlap.max() < 1


def test_own_trajectories_do_not_count_when_they_are_named():
    zoo = toy_zoo()
    with_self, *_ = evaluate(zoo.networks, zoo)
    without_self, *_ = evaluate(zoo.networks, zoo, trajectory=zoo.trajectory)
    assert with_self.nearest_distance.max() < 1e-5
    assert without_self.nearest_distance.min() > 1
    single = zoo[zoo.trajectory == 0]
    nobody, group, _ = evaluate(single.networks, single, trajectory=single.trajectory)
    assert nobody.nearest_distance.isna().all()
    assert nobody[["error_overlap", "largest_error_overlap"]].isna().all(axis=None)
    assert math.isnan(group["nearest_distance_mean"])


def test_neuron_order_changes_nothing():
    zoo = toy_zoo()
    shuffled = permute(zoo.networks, random_permutations(ARCHITECTURE, len(zoo), generator(1, "order")))
    _, ordered_group, _ = evaluate(zoo.networks, zoo)
    _, shuffled_group, _ = evaluate(shuffled, zoo)
    for name in ("accuracy_mean", "bma_nll", "diversity", "variance_ratio", "mean_shift"):
        assert shuffled_group[name] == pytest.approx(ordered_group[name], rel=1e-4, abs=1e-6), name


def test_the_copying_ratio_tells_copies_from_a_narrow_distribution():
    zoo, random = toy_zoo(trajectories=40, snapshots=2), generator(0, "copies")
    training, unseen = zoo[zoo.trajectory < 20], zoo[zoo.trajectory >= 20]
    centre = zoo.networks.flat.mean(0)
    fresh = centre + (torch.randn(60, ARCHITECTURE.dimension, generator=random))
    narrow = centre + 0.5 * (fresh - centre)
    copies = training.networks.flat[torch.arange(60) % 40] + 0.1 * torch.randn(60, ARCHITECTURE.dimension, generator=random)
    drawn = [Networks.from_flat(ARCHITECTURE, flat) for flat in (fresh, narrow, copies)]
    found = [evaluate(networks, training, unseen=unseen)[1] for networks in drawn]
    assert found[1]["nearest_distance_mean"] < 0.9 * found[0]["nearest_distance_mean"]
    assert [group["copying_ratio"] for group in found[:2]] == pytest.approx([1, 1], abs=0.05)
    assert found[2]["copying_ratio"] < 0.5
    for group in found[:2]:
        assert 0 < group["copying_ratio_error"] < 0.05
        assert 0 < group["detectable_by_ratio"] < 1
    one = evaluate(drawn[0][:1], training, unseen=unseen)[1]
    assert math.isfinite(one["copying_ratio"])
    assert math.isnan(one["copying_ratio_error"])
    assert math.isnan(one["detectable_by_ratio"])


def test_the_published_error_overlap_is_the_largest_with_any_training_network():
    zoo, count = toy_zoo(), 30
    fresh = Networks.from_flat(ARCHITECTURE, torch.randn(count, ARCHITECTURE.dimension, generator=generator(0, "fresh")))
    wrong, theirs = (predict(networks, SPLIT.inputs).argmax(-1) != SPLIT.targets for networks in (fresh, zoo.networks))
    both = (wrong[:, None] & theirs[None]).sum(-1) / (wrong[:, None] | theirs[None]).sum(-1).clamp_min(1)
    rows, group, _ = evaluate(fresh, zoo)
    assert rows.largest_error_overlap.tolist() == pytest.approx(both.amax(1).tolist())
    assert group["largest_error_overlap_mean"] == pytest.approx(both.amax(1).mean().item())
    assert (rows.largest_error_overlap >= rows.error_overlap).all()
    assert (rows.largest_error_overlap > rows.error_overlap + 1e-3).any()  # another one than the nearest in weights
    given, *_ = evaluate(fresh, zoo, mistakes=training_mistakes(zoo.networks, SPLIT, chunk=7))
    pd.testing.assert_frame_equal(given, rows)
    own, *_ = evaluate(zoo.networks, zoo, trajectory=zoo.trajectory)
    alike = zoo.trajectory[:, None] == zoo.trajectory[None]
    pairs = (theirs[:, None] & theirs[None]).sum(-1) / (theirs[:, None] | theirs[None]).sum(-1).clamp_min(1)
    assert own.largest_error_overlap.tolist() == pytest.approx(pairs.masked_fill(alike, 0).amax(1).tolist())


def test_the_shift_is_that_of_the_tensor_most_off():
    zoo = toy_zoo()
    moved = zoo.networks.map(torch.clone)
    deviation = (zoo.weights["linear2.bias"] - zoo.weights["linear2.bias"].mean(0)).square().mean(0).sqrt()
    moved.weights["linear2.bias"] += 0.7 * deviation
    moved.weights["linear1.bias"] += 0.001
    _, group, _ = evaluate(moved, zoo, novelty_networks=0)
    assert group["mean_shift"] == pytest.approx(0.7, abs=1e-4)


def test_one_network_has_no_spread_and_novelty_can_be_left_out():
    zoo = toy_zoo()
    rows, group, moments = evaluate(zoo.networks[:1], zoo, novelty_networks=0)
    undefined = {name for name, value in group.items() if isinstance(value, float) and math.isnan(value)}
    novelty = {"nearest_distance_mean", "nearest_distance_std", "nearest_distance_min", "error_overlap_mean"} | {
        *("largest_error_overlap_mean", "copying_ratio", "copying_ratio_error", "detectable_by_ratio")
    }
    names = ("diversity", "variance_ratio", "nearest_distance", "error_overlap", "largest_error_overlap")
    errors = {f"{name}_error" for name in names}
    assert undefined == {"accuracy_std", "nll_std", "diversity", "variance_ratio", "mean_shift"} | novelty | errors
    assert group["nll_error"] > 0  # over examples alone
    assert group["nll_error"] == pytest.approx(group["bma_nll_error"], rel=1e-4)
    assert group["bma_accuracy"] == pytest.approx(group["accuracy_mean"])
    assert rows[["nearest_distance", "error_overlap", "largest_error_overlap"]].isna().all(axis=None)
    assert moments.empty


def test_caller_mistakes_are_errors():
    zoo = toy_zoo()
    regression = Networks(mlp([4, 6, 3], task_type="regression"), zoo.weights)
    with pytest.raises(ValueError, match="expected a classification"):
        evaluate(regression, zoo)
    wider = mlp([4, 7, 3])
    with pytest.raises(ValueError, match="architecture, got another one"):
        evaluate(Networks.from_flat(wider, torch.zeros(2, wider.dimension)), zoo)
    with pytest.raises(ValueError, match="at least one network of 'toy'"):
        evaluate(zoo.networks[:0], zoo)
    with pytest.raises(ValueError, match="trajectory expected"):
        evaluate(zoo.networks, zoo, trajectory=zoo.trajectory[:1])


def test_novelty_may_be_of_the_first_networks_only():
    zoo = toy_zoo()
    drawn = zoo.networks.map(lambda tensor: tensor + 0.01)
    whole, group, _ = evaluate(drawn, zoo)
    part, few, _ = evaluate(drawn, zoo, novelty_networks=3)
    assert (group["novelty_networks"], few["novelty_networks"]) == (len(drawn), 3)
    assert part["nearest_distance"].notna().tolist() == [True] * 3 + [False] * (len(drawn) - 3)
    assert part["nearest_distance"][:3].tolist() == pytest.approx(whole["nearest_distance"][:3].tolist())
    assert few["nearest_distance_mean"] == pytest.approx(whole["nearest_distance"][:3].mean())
    assert few["nearest_distance_min"] == pytest.approx(whole["nearest_distance"][:3].min())
    assert few["accuracy_mean"] == group["accuracy_mean"]
