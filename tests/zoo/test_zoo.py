"""Zoos: what belongs together stays together, in memory and on disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.cases import TOLERANCE, largest_difference, random_networks, random_weights
from wflib.architecture import mlp
from wflib.networks import Networks
from wflib.rng import generator
from wflib.storage import ArtifactError, load_artifact, save_artifact
from wflib.symmetry import inverse, permute, random_permutations
from wflib.zoo import Zoo, canonical_zoo, load_zoo, save_zoo
from wflib.zoo.zoo import FORMS

ARCHITECTURE = mlp([3, 5, 4, 2])
RUNS, SNAPSHOTS = 4, 3
NETWORKS = RUNS * SNAPSHOTS
OTHER = random_networks(mlp([3, 5, 5, 2]), RUNS)


def trained_zoo() -> Zoo:
    """Four trajectories of three snapshots, the last trajectory held out."""
    return Zoo(
        networks=random_networks(ARCHITECTURE, NETWORKS),
        trajectory=torch.arange(RUNS).repeat_interleave(SNAPSHOTS),
        step=torch.tensor([10, 20, 30]).repeat(RUNS),
        held_out=(torch.arange(RUNS) == RUNS - 1).repeat_interleave(SNAPSHOTS),
        form="trained",
        initial=random_networks(ARCHITECTURE, RUNS, seed=1),
        metadata={"task": "toy", "seed": 7, "nested": {"θ": [1, None]}},
    )


def aligned_zoo() -> Zoo:
    zoo = trained_zoo()
    order = random_permutations(ARCHITECTURE, NETWORKS, generator(0, "align"))
    networks, reference = permute(zoo.networks, order), random_networks(ARCHITECTURE, 1, seed=2)
    return replace(zoo, networks=networks, permutations=order, aligned_to=reference, form="aligned")


def single(zoo: Zoo) -> Zoo:
    """The same zoo in float32, as files give it back."""

    def rounded(networks):
        return None if networks is None else networks.to(torch.float32)

    parts = {name: rounded(getattr(zoo, name)) for name in ("networks", "initial", "aligned_to")}
    return replace(zoo, **parts, record={name: factor.float() for name, factor in zoo.record.items()})


def sampled_zoo() -> Zoo:
    return replace(trained_zoo(), form="sampled", initial=None)


ZOOS = {
    "trained": trained_zoo,
    "aligned": aligned_zoo,
    "canonical": lambda: canonical_zoo(aligned_zoo()),
    "sampled": sampled_zoo,
}
over_forms = pytest.mark.parametrize("form", FORMS)


def same(a: Zoo, b: Zoo) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in ("trajectory", "step", "held_out")]
    for name in ("weights", "permutations", "record", "initial", "aligned_to"):
        one, other = (getattr(zoo, name) for zoo in (a, b))
        one, other = ({} if side is None else getattr(side, "weights", side) for side in (one, other))
        if one.keys() != other.keys():
            return False
        pairs += [(one[key], other[key]) for key in one]
    facts = ("architecture", "form", "metadata")
    starts = [zoo.initial and zoo.initial.architecture for zoo in (a, b)]
    return (
        starts[0] == starts[1]
        and all(torch.equal(x, y) for x, y in pairs)
        and all(getattr(a, f) == getattr(b, f) for f in facts)
    )


def test_the_reference_is_what_alignment_aimed_at_in_every_form():
    zoo = aligned_zoo()
    assert zoo.reference is zoo.aligned_to
    first = trained_zoo().reference
    assert all(
        torch.equal(first.weights[name], tensor[SNAPSHOTS - 1 : SNAPSHOTS]) for name, tensor in trained_zoo().weights.items()
    )
    canonical = canonical_zoo(zoo)
    assert largest_difference(zoo.reference, canonical.reference) < TOLERANCE
    assert largest_difference(first, canonical.reference) > 1e-3


@over_forms
def test_round_trip(tmp_path, form):
    zoo = single(ZOOS[form]())
    save_zoo(tmp_path / "zoo.safetensors", zoo)
    loaded = load_zoo(tmp_path / "zoo.safetensors", form)
    assert same(loaded, zoo)
    assert not same(loaded, replace(zoo, step=zoo.step + 1))
    assert not same(loaded, replace(zoo, metadata={}))


def test_one_network_makes_a_round_trip(tmp_path):
    zoo = single(trained_zoo())[torch.tensor([11])]
    save_zoo(tmp_path / "zoo.safetensors", zoo)
    assert same(load_zoo(tmp_path / "zoo.safetensors", "trained"), zoo)


def test_initial_weights_follow_the_permutation():
    zoo = aligned_zoo()
    index = torch.tensor([0, 4, 11, 5])
    start = zoo.initial_of(index).weights
    own = {name: tensor[zoo.trajectory[index]] for name, tensor in zoo.initial.weights.items()}
    order = {name: tensor[index] for name, tensor in zoo.permutations.items()}
    back = permute(Networks(ARCHITECTURE, start), inverse(order)).weights
    assert all(torch.equal(back[name], own[name]) for name in own)
    assert all(not torch.equal(start[name], own[name]) for name in ("linear1.weight", "linear2.weight", "linear3.weight"))
    assert largest_difference(Networks(ARCHITECTURE, own), Networks(ARCHITECTURE, start)) < TOLERANCE


def test_initial_weights_of_an_unaligned_zoo_are_those_of_its_trajectories():
    zoo = trained_zoo()
    start = zoo.initial_of(torch.tensor([2, 3])).weights
    for name, tensor in start.items():
        assert torch.equal(tensor, zoo.initial.weights[name][:2])
        assert not torch.equal(tensor[0], tensor[1])


def test_initial_weights_that_nobody_knows_are_an_error():
    with pytest.raises(ValueError, match="coupling: independent or ot"):
        sampled_zoo().initial_of(torch.tensor([0]))


@over_forms
@pytest.mark.parametrize("index", [torch.tensor([3, 0, 7]), slice(2, 9, 2), torch.arange(NETWORKS) % 3 == 0])
def test_a_part_keeps_what_belongs_to_its_networks(form, index):
    zoo = ZOOS[form]()
    part = zoo[index]
    rows = torch.arange(NETWORKS)[index]
    assert torch.equal(part.networks.flat, zoo.networks.flat[rows])
    assert not torch.equal(part.networks.flat, zoo.networks.flat[rows.flip(0)])
    assert torch.equal(part.trajectory, zoo.trajectory[rows])
    assert torch.equal(part.step, zoo.step[rows])
    for ours, whole in ((part.permutations, zoo.permutations), (part.record, zoo.record)):
        assert all(torch.equal(ours[name], whole[name][rows]) for name in whole)
    if form != "sampled":
        positions = torch.arange(len(part))
        for name, tensor in part.initial_of(positions).weights.items():
            assert torch.equal(tensor, zoo.initial_of(rows).weights[name])


def test_the_parts_are_whole_trajectories():
    zoo = trained_zoo()
    assert zoo.training_part.trajectory.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert zoo.held_out_part.trajectory.tolist() == [3, 3, 3]
    mixed = zoo.held_out.clone()
    mixed[-1] = False
    with pytest.raises(ValueError, match="hold out whole trajectories"):
        replace(zoo, held_out=mixed)


def test_last_snapshots_are_the_last_of_each_trajectory_in_any_order():
    zoo = trained_zoo()
    shuffled = zoo[torch.randperm(NETWORKS, generator=generator(0, "shuffle"))]
    for one in (zoo, shuffled):
        assert one.last_snapshots.trajectory.tolist() == [0, 1, 2, 3]
        assert one.last_snapshots.step.tolist() == [30] * 4
        assert torch.equal(one.last_snapshots.networks.flat, zoo.networks.flat[2::3])
    assert not torch.equal(shuffled.networks.flat[2::3], zoo.networks.flat[2::3])


def test_a_part_may_be_empty():
    nothing = trained_zoo()[torch.zeros(NETWORKS, dtype=torch.bool)]
    assert len(nothing) == 0
    assert nothing.networks.flat.shape == (0, ARCHITECTURE.dimension)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trajectory": torch.zeros(5, dtype=torch.int64)}, r"trajectory expected \(12,\) torch.int64, got \(5,\)"),
        ({"step": torch.zeros(NETWORKS)}, r"step expected .*torch.int64, got .*torch.float32"),
        ({"held_out": torch.zeros(NETWORKS, dtype=torch.int64)}, r"held_out expected .*torch.bool, got .*torch.int64"),
        ({"form": "baked"}, "aligned.*trained.*'baked'"),
        ({"networks": random_weights(ARCHITECTURE, NETWORKS)}, "networks expected Networks, got dict"),
        ({"aligned_to": OTHER[:1]}, "aligned_to: expected the sizes of the zoo, .*hidden2 4.*hidden2 5"),
        ({"initial": OTHER}, r"initial expected networks as the zoo's, .*linear2.weight \(4, 5\).*got .*\(5, 5\)"),
        ({"initial": random_networks(ARCHITECTURE, RUNS - 1)}, "trajectories must lie in 0 … 2"),
        ({"trajectory": torch.arange(RUNS).repeat_interleave(SNAPSHOTS) - 1}, "trajectories must lie in 0 … 3"),
        ({"permutations": {"hidden1": torch.arange(4).expand(NETWORKS, -1)}}, "permutations of hidden1 do not fit"),
        ({"permutations": {"hidden9": torch.arange(4).expand(NETWORKS, -1)}}, "permutations of hidden9 do not fit"),
        ({"record": {"hidden1": torch.ones(3, 5)}}, "record of hidden1 do not fit"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(trained_zoo(), **changes)


def refusal(path, form: str) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_zoo(path, form)
    assert str(path) in str(caught.value)
    assert f"dvc repro --single-item --force {FORMS[form]}" in str(caught.value)
    return str(caught.value)


@over_forms
def test_another_form_is_refused_with_the_stage_to_rerun(tmp_path, form):
    path = tmp_path / "zoo.safetensors"
    save_zoo(path, ZOOS[form]())
    for other in set(FORMS) - {form}:
        assert f"expected a zoo of form {other}, found {form}" in refusal(path, other)


@over_forms
def test_a_missing_or_truncated_zoo_is_refused_with_the_stage_to_rerun(tmp_path, form):
    path = tmp_path / "zoo.safetensors"
    assert "found no file" in refusal(path, form)
    save_zoo(path, ZOOS[form]())
    path.write_bytes(path.read_bytes()[:-1])
    assert "damaged" in refusal(path, form)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, m: t.pop("step"), "'step'"),
        (lambda t, m: t.pop("weights.linear2.bias"), "linear2.bias"),
        (lambda t, m: t.update({"weights.linear2.bias": torch.zeros(NETWORKS, 9)}), "linear2.bias expected .*4.*got .*9"),
        (lambda t, m: t.update({"trajectory": torch.zeros(2, dtype=torch.int64)}), "trajectory expected"),
        (lambda t, m: t.update({"held_out": torch.zeros(NETWORKS)}), "held_out expected"),
        (
            lambda t, m: t.update({"permutations.hidden1": torch.zeros(NETWORKS, 2, dtype=torch.int64)}),
            "permutations of hidden1",
        ),
        (lambda t, m: m.pop("architecture"), "'architecture'"),
        (lambda t, m: m.update(architecture="{"), "Expecting"),
        (lambda t, m: m.update(architecture=3), "JSON object must be str"),
        (lambda t, m: m.update(architecture=mlp([3, 5, 5, 2]).to_json()), "linear2.weight"),
        (lambda t, m: m.update(architecture=ARCHITECTURE.to_json().replace('"kind": "linear"', '"kind": "magic"')), "magic"),
        (lambda t, m: m.pop("initial_architecture"), "initial_architecture"),
    ],
)
def test_a_zoo_whose_parts_do_not_fit_is_refused(tmp_path, spoil, message):
    path = tmp_path / "zoo.safetensors"
    save_zoo(path, aligned_zoo())
    tensors, metadata = load_artifact(path, "zoo", stage="align")
    save_artifact(path, "zoo", tensors, metadata)
    assert same(load_zoo(path, "aligned"), single(aligned_zoo()))
    spoil(tensors, metadata)
    save_artifact(path, "zoo", tensors, metadata)
    with pytest.raises(ArtifactError, match=message):
        load_zoo(path, "aligned")
    refusal(path, "aligned")


def test_a_zoo_with_nan_is_not_written(tmp_path):
    zoo = trained_zoo()
    zoo.weights["linear1.weight"][0, 0, 0] = float("nan")
    with pytest.raises(ArtifactError, match=r"1 NaN or infinite ones in weights\.linear1\.weight"):
        save_zoo(tmp_path / "zoo.safetensors", zoo)
    assert list(tmp_path.iterdir()) == []


def test_the_form_and_the_architecture_agree():
    architecture = mlp([3, 4, 2])
    flat = torch.randn(2, architecture.canonical_form().dimension, generator=torch.Generator().manual_seed(0))
    rest = (torch.arange(2), torch.zeros(2, dtype=torch.int64), torch.arange(2) == 1)
    ordinary = Networks.from_flat(architecture, flat[:, :-1])
    canonical = Networks.from_flat(architecture.canonical_form(), flat)
    with pytest.raises(ValueError, match="form canonical expected canonical networks, got ordinary ones"):
        Zoo(ordinary, *rest, "canonical")
    with pytest.raises(ValueError, match="form aligned expected ordinary networks, got canonical ones"):
        Zoo(canonical, *rest, "aligned")
    for networks in (ordinary, canonical):
        assert len(Zoo(networks, *rest, "sampled")) == 2
