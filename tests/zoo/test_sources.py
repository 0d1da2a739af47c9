"""Every format goes in with its exact shape, computes what a plain torch module computes, and is chosen from by figures."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.zoo import foreign
from wflib.config import ReadConfig
from wflib.zoo import FORMATS, Collection, inspect, load_zoo, read, save_zoo

pytest.importorskip("lmdb", reason="the extra wflib[gpt] is not installed")
pytest.importorskip("h5py", reason="the extra wflib[hdf5] is not installed")


@dataclass(frozen=True)
class Case:
    """A folder, what is asked for, and what must be found."""

    make: Callable[[Path], dict[str, nn.Module]]
    inputs: tuple[int, ...]
    format: str
    weights: int
    runs: int
    networks: int
    options: dict = field(default_factory=dict)
    name: str = "zoo"
    initial: bool = False
    figures: tuple[str, ...] = ()


FLAT = {"layers": [784, 16, 10], "activation": "relu"}
CASES = {
    "modelzoo": Case(
        foreign.modelzoo, (1, 28, 28), "modelzoo", 2464, 4, 12, initial=True, figures=("test_accuracy", "test_loss")
    ),
    "modelzoo with three channels": Case(
        partial(foreign.modelzoo, make=partial(foreign.cnn_small, 3)), (3, 28, 28), "modelzoo", 2864, 4, 12, initial=True
    ),
    "modelzoo with dropout": Case(
        partial(foreign.modelzoo, make=partial(foreign.cnn_small, dropout=True)), (1, 28, 28), "modelzoo", 2464, 4, 12,
        initial=True,
    ),
    "modelzoo, large": Case(
        partial(foreign.modelzoo, make=foreign.cnn_large, kind="CNN3", nlin="relu", epochs=(5, 20), digits=1), (3, 32, 32),
        "modelzoo", 10853, 4, 8,
    ),
    "G.pt": Case(foreign.gpt, (784,), "gpt", 7960, 4, 12, initial=True, figures=("test_accuracy", "epoch")),
    "G.pt, fused": Case(partial(foreign.gpt, fused=True), (784,), "gpt", 7960, 4, 12, initial=True, figures=("test_loss",)),
    "G.pt, convolutions": Case(
        partial(foreign.gpt, make=foreign.GPTConvolutions), (3, 32, 32), "gpt", 5370, 4, 12, initial=True
    ),
    "small CNN zoo": Case(
        foreign.small_cnn_zoo, (1, 32, 32), "small-cnn-zoo", 4970, 4, 12, name="cifar10", initial=True,
        figures=("test_accuracy",),
    ),
    "small CNN zoo, one of two activations": Case(
        partial(foreign.small_cnn_zoo, activations=("relu", "tanh")), (1, 28, 28), "small-cnn-zoo", 4970, 2, 6,
        {"activation": "tanh", "inputs": [1, 28, 28]}, initial=True,
    ),
    "state dicts of a perceptron": Case(foreign.state_dicts, (784,), "state-dicts", 26506, 6, 6, {"activation": "relu"}),
    "state dicts of a class": Case(
        partial(foreign.state_dicts, make=foreign.cnn_small), (1, 28, 28), "state-dicts", 2464, 6, 6,
        {"module": foreign.cnn_small, "inputs": (1, 28, 28)},
    ),
    "DWSNets": Case(foreign.inr, (2,), "inr", 1185, 6, 6, {"format": "inr"}, figures=("label",)),
    "NFN": Case(partial(foreign.inr, nfn=True, outputs=3), (2,), "inr", 1251, 6, 6, figures=("label",)),
    "wild park": Case(foreign.wild_park, (3, 32, 32), "wild-park", 1974, 4, 8, figures=("test_accuracy",)),
    "HDF5 (inputs, outputs)": Case(
        partial(foreign.hdf5, turned=True), (784,), "hdf5", 12730, 6, 6, {**FLAT, "orientation": "in-out"}, name="zoo.h5"
    ),
    "HDF5 (outputs, inputs)": Case(
        partial(foreign.hdf5, turned=False), (784,), "hdf5", 12730, 6, 6, {**FLAT, "orientation": "out-in"}, name="zoo.h5"
    ),
}  # fmt: skip


def difference(found: Collection, made: dict[str, nn.Module], inputs: tuple[int, ...]) -> float:
    """Largest difference between outputs of what was read and of the modules of the same names."""
    x = torch.randn(5, *inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs = found.networks.to(torch.float64).forward(x)
    pairs = zip(found.networks.names, outputs, strict=True)
    with torch.no_grad():
        return max(float((made[name].double()(x) - ours).abs().max()) for name, ours in pairs)


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_computes_what_its_authors_networks_do(name, tmp_path):
    case = CASES[name]
    made = case.make(tmp_path / case.name)
    found = read(tmp_path / case.name, **case.options)
    assert found.provenance["format"] == case.format
    assert (len(found), found.networks.architecture.dimension) == (case.networks, case.weights)
    assert len(torch.unique(found.trajectory)) == found.table["run"].nunique() == case.runs
    assert found.table["step"].tolist() == found.step.tolist()
    assert set(case.figures) <= set(found.table)
    assert set(found.networks.names) <= set(made)
    assert difference(found, made, case.inputs) < 1e-9
    zoo = found.zoo(0.3)
    assert (zoo.initial is not None) == case.initial
    if case.initial:
        first = found.step == found.step.min()
        assert torch.equal(zoo.initial.flat, found.networks[first].flat)
    save_zoo(tmp_path / "zoo.safetensors", zoo)
    assert load_zoo(tmp_path / "zoo.safetensors", "trained").metadata["provenance"]["format"] == case.format


class Plain(nn.Module):
    """A perceptron of two inputs whose names are DWSNets' or NFN's, too."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        setattr(self, name, nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self, self.name)(x)


@pytest.mark.parametrize("name", ["seq", "net"])
def test_perceptrons_of_few_inputs_are_no_signals_unless_that_is_said(name, tmp_path):
    made = foreign.state_dicts(tmp_path / "zoo", lambda: Plain(name), 4)
    hint = r"perceptron's \(or a signal's representation by sines: zoo\.format: inr\), .* zoo\.read\.activation"
    with pytest.raises(ValueError, match=hint):
        read(tmp_path / "zoo")
    assert re.search(hint, str(inspect(tmp_path / "zoo")))
    found = read(tmp_path / "zoo", activation="relu")
    assert found.provenance["format"] == "state-dicts"
    assert difference(found, made, (2,)) < 1e-9
    others = read(tmp_path / "zoo", "inr")
    assert difference(others, dict(zip(others.networks.names, made.values(), strict=True)), (2,)) > 1e-2  # the control
    with pytest.raises(ValueError, match=r"asks for networks of relu, but zoo\.format: inr means networks of sines"):
        read(tmp_path / "zoo", "inr", activation="relu")


def test_an_activation_is_not_passed_over_where_names_are_of_signals(tmp_path):
    made = foreign.inr(tmp_path / "zoo", nfn=True)
    assert difference(read(tmp_path / "zoo"), made, (2,)) < 1e-9
    found = read(tmp_path / "zoo", activation="tanh")
    assert found.provenance["format"] == "state-dicts"
    assert {o.function for o in found.networks.architecture.operations if hasattr(o, "function")} == {"tanh"}
    assert "tanh" in str(inspect(tmp_path / "zoo", config=ReadConfig(activation="tanh")))


def test_every_format_has_a_case():
    assert {case.format for case in CASES.values()} | {"wflib"} == set(FORMATS)


@pytest.mark.parametrize("name", ["HDF5 (inputs, outputs)", "small CNN zoo, one of two activations"])
def test_the_wrong_word_gives_other_functions(name, tmp_path):
    """The control of the comparison above: it sees transposed weights and another activation."""
    case = CASES[name]
    made = case.make(tmp_path / case.name)
    wrong = {"orientation": "out-in"} if "orientation" in case.options else {"activation": "relu"}
    found = read(tmp_path / case.name, **{**case.options, **wrong})
    others = dict(
        zip(found.networks.names, [made[n] for n in read(tmp_path / case.name, **case.options).networks.names], strict=True)
    )
    assert difference(found, others, case.inputs) > 1e-3


def test_ours_are_read_like_any_other(tmp_path):
    foreign.modelzoo(tmp_path / "theirs")
    zoo = read(tmp_path / "theirs").zoo(0.3)
    save_zoo(tmp_path / "zoo.safetensors", zoo)
    again = read(tmp_path / "zoo.safetensors")
    assert torch.equal(again.networks.flat, zoo.networks.flat)
    assert (again.trajectory.tolist(), again.step.tolist()) == (zoo.trajectory.tolist(), zoo.step.tolist())
    for path in (tmp_path / "theirs", tmp_path / "zoo.safetensors"):
        assert "0 to 10; initial weights known" in str(inspect(path))
    save_zoo(tmp_path / "zoo.safetensors", replace(zoo, initial=None))
    assert "0 to 10; initial weights unknown" in str(inspect(tmp_path / "zoo.safetensors"))
    zoo.networks.save(tmp_path / "stacked.safetensors")
    assert torch.equal(read(tmp_path / "stacked.safetensors").networks.flat, zoo.networks.flat)


SELECTIONS = [
    ({"snapshots": "last"}, [10] * 4),
    ({"every": 2}, [0, 10] * 4),
    ({"steps": [5]}, [5] * 4),
    ({"first_runs": 2, "steps": [0, 5]}, [0, 5] * 2),
    ({"where": ["test_accuracy >= 0.5"]}, [10] * 4),
    ({"where": ["test_accuracy > 0.26", "step < 10"]}, [5] * 2),
    ({"settled": 0.5, "settled_by": "validation_loss"}, [10] * 4),
    ({"settled": 1.0}, [5, 10] * 4),
    ({"snapshots": "last", "where": ["step == 5"], "steps": [0, 5]}, [5] * 4),
]


@pytest.mark.parametrize(("options", "steps"), SELECTIONS)
def test_networks_are_chosen_by_steps_and_figures(options, steps, tmp_path):
    foreign.modelzoo(tmp_path / "zoo")
    found, again = (read(tmp_path / "zoo", **options) for _ in range(2))
    assert found.step.tolist() == steps
    assert torch.equal(found.networks.flat, again.networks.flat)
    assert sum(found.provenance["left_out"].values()) == 12 - len(steps)
    assert found.initial is not None  # initial weights are read whatever is chosen
    everything = read(tmp_path / "zoo")
    places = [everything.networks.names.index(f"{run}@{step}") for run, step in found.table[["run", "step"]].to_numpy()]
    assert torch.equal(found.networks.flat, everything.networks[places].flat)


def test_databases_whose_runs_have_one_name_are_runs_of_their_own(tmp_path):
    foreign.gpt(tmp_path / "theirs")
    one = min(path.parent for path in (tmp_path / "theirs").glob("*/data.mdb"))
    for name in ("first", "second"):
        shutil.copytree(one, tmp_path / "zoo" / name)
    alone = read(tmp_path / "zoo/first")
    with pytest.warns(UserWarning, match="2 networks are the same as one of another run"):
        found = read(tmp_path / "zoo")
    run = alone.table["run"].iloc[0]
    assert alone.table["run"].nunique() == 1  # a name that is one database's alone stays what it is
    assert found.table["run"].unique().tolist() == [f"first/{run}", f"second/{run}"]
    assert found.step.tolist() == alone.step.tolist() * 2
    assert found.table["epoch"].tolist() == alone.table["epoch"].tolist() * 2


@pytest.mark.parametrize("strange", ["Infinity", "-Infinity", "NaN"])
def test_a_loss_that_is_not_finite_does_not_count_as_a_range(strange, tmp_path):
    foreign.modelzoo(tmp_path / "zoo", epochs=tuple(range(1, 11)))
    options = {"settled": 0.2, "settled_by": "validation_loss"}
    expected = read(tmp_path / "zoo", **options)
    assert 0 < len(expected) < 40
    lines = (file := tmp_path / "zoo" / foreign.RUNS[0] / "result.json").read_text().splitlines()
    loss = json.loads(lines[1])["validation_loss"]
    lines[1] = lines[1].replace(f'"validation_loss": {loss}', f'"validation_loss": {strange}')
    file.write_text("\n".join(lines))
    found = read(tmp_path / "zoo", **options)
    assert found.table["run"].tolist() == expected.table["run"].tolist()
    assert found.step.tolist() == expected.step.tolist()
    assert not found.table["validation_loss"].isna().any()


def test_runs_are_held_out_by_share_or_by_name(tmp_path):
    foreign.modelzoo(tmp_path / "zoo")
    named = read(tmp_path / "zoo", held_out_runs=["*_00001_*", "NN_tune_trainable_00010_3"]).zoo()
    assert torch.unique(named.trajectory[named.held_out]).tolist() == [1, 3]
    shares = [read(tmp_path / "zoo").zoo(0.5, seed).held_out for seed in (0, 0, 4)]
    assert torch.equal(shares[0], shares[1])
    assert int(shares[2].sum()) == 6
    with pytest.raises(ValueError, match=r"held_out_runs: none\* fits none of the runs NN_tune"):
        read(tmp_path / "zoo", held_out_runs=["none*"]).zoo()


def test_runs_and_steps_stand_where_a_pattern_says(tmp_path):
    foreign.state_dicts(tmp_path / "zoo", name="run_{0}/epoch_10_acc0.9{0}.pt", count=4)
    pattern = r"run_(?P<run>\d+)/epoch_(?P<step>\d+)_acc(?P<test_accuracy>[\d.]+)\.pt"
    found = read(tmp_path / "zoo", activation="relu", pattern=pattern, where=["test_accuracy > 0.91"])
    assert found.table["run"].tolist() == ["2", "3"]
    assert found.step.tolist() == [10, 10]


def test_a_pattern_names_its_groups(tmp_path):
    foreign.state_dicts(tmp_path / "zoo", name="run_{0}/epoch_10.pt", count=4)
    for pattern in (r"run_(\d+)/epoch_(\d+)", "run_", r"(?P<seed>\d)"):
        with pytest.raises(ValueError, match=r"zoo.read: pattern: expected named groups: \(\?P<run>"):
            read(tmp_path / "zoo", activation="relu", pattern=pattern)
    with pytest.raises(ValueError, match=r"zoo.read: pattern: expected a regular expression \(missing \)"):
        read(tmp_path / "zoo", activation="relu", pattern="(?P<run>")


def test_text_is_no_figure_to_compare(tmp_path):
    foreign.state_dicts(tmp_path / "zoo", name="run_{0}_acc0.9{0}.pt", count=4)
    asked = {"activation": "relu", "pattern": r"run_(?P<run>\d+)_acc(?P<test_accuracy>[\d.]+)"}
    with pytest.raises(ValueError, match=r"asks for 'test_accuracy', expected numbers, found text such as '0.90.'"):
        read(tmp_path / "zoo", **asked, where=["test_accuracy > 0.91"])
    with pytest.raises(ValueError, match=r"asks for 'accuracy'; the figures of merit here are step\."):
        read(tmp_path / "zoo", **asked, where=["accuracy > 0.91"])


SNAPSHOTS = {
    "run_{0}/epoch_{1}.pt": r"(?P<run>.+)/epoch_(?P<step>\d+)",
    "run_{0}/epoch_{1}_acc0.9{1}.pt": r"(?P<run>.+)/epoch_(?P<step>\d+)",
    "run_{0}/checkpoint-{1}/model.pt": r"(?P<run>.+)/checkpoint\-(?P<step>\d+)",
    "version_{0}/checkpoints/epoch={1}-step={1}00.ckpt": r"(?P<run>.+)/epoch=(?P<step>\d+)",
    "net_iter{1}_seed{0}.pt": r"iter(?P<step>\d+)[-_/]?(?P<run>.+)\.\w+$",
}


def save_snapshots(folder: Path, name: str) -> None:
    """Two snapshots, 10 and 20, of each of three runs; places of a name are the run and the step."""
    for run in range(3):
        for step in (10, 20):
            path = folder / name.format(run, step)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(foreign.seeded(foreign.mnist_perceptron, 100 * run + step).state_dict(), path)


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_names_that_look_like_snapshots_are_told_with_a_pattern(name, tmp_path):
    save_snapshots(tmp_path / "zoo", name)
    with pytest.warns(UserWarning, match="6 files, each a run of its own, look like snapshots of 3 ") as caught:
        assert read(tmp_path / "zoo", activation="relu").table["run"].nunique() == 6
    pattern = SNAPSHOTS[name]
    assert f"pattern=r'{pattern}'" in str(caught[0].message)
    assert "look like snapshots of 3" in str(inspect(tmp_path / "zoo"))
    found = read(tmp_path / "zoo", activation="relu", pattern=pattern)  # a warning would be an error
    assert found.trajectory.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.step.tolist() == [10, 20] * 3
    assert len(read(tmp_path / "zoo", activation="relu", trajectories="each")) == 6


def test_a_pattern_of_steps_alone_leaves_each_file_a_run(tmp_path):
    foreign.state_dicts(tmp_path / "zoo", name="run_7/epoch_{}.pt", count=3)
    with pytest.warns(UserWarning, match="3 files, each a run of its own, look like snapshots of 1 "):
        read(tmp_path / "zoo", activation="relu", pattern=r"epoch_(?P<step>\d+)")


STEPS = {
    "run_{0}/model_{1}.pt": (r"model_(?P<step>\d+)", r"(?P<run>.+)model_(?P<step>\d+)"),
    "seed{0}_{1}.pt": (r"_(?P<step>\d+)", r"(?P<run>.+)_(?P<step>\d+)"),
    "seed{0}.{1}.pt": (r"(?P<step>\d+)\.pt", r"(?P<run>.+\D)(?P<step>\d+)\.pt"),
    "{1}_of_{0}.pt": (r"(?P<step>\d+)_of", r"(?P<step>\d+)_of[-_/]?(?P<run>.+)\.\w+$"),
    "net{0}_{1}_0.9{1}.pt": (r"_(?P<step>\d+)_(?P<test_accuracy>\d\.\d+)", r"(?P<run>.+)_(?P<step>\d+)_(?P<test_acc"),
    "w{0}/at{1}.pt": (r"(?i)AT(?P<step>\d+)", "(?P<run>…)…(?P<step>"),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_without_runs_are_told_whatever_the_words(name, tmp_path):
    save_snapshots(tmp_path / "zoo", name)
    asked, pattern = STEPS[name]
    with pytest.warns(UserWarning, match="6 files, each a run of its own, look like snapshots of 3 ") as caught:
        assert read(tmp_path / "zoo", activation="relu", pattern=asked).table["run"].nunique() == 6
    assert f"pattern=r'{pattern}" in str(caught[0].message)
    if "…" not in pattern:
        told = str(caught[0].message).partition("pattern=r'")[2].partition("'), or")[0]
        assert read(tmp_path / "zoo", activation="relu", pattern=told).trajectory.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(read(tmp_path / "zoo", activation="relu", pattern=asked, trajectories="each")) == 6


@pytest.mark.parametrize("name", ["seed{}/model_10.pt", "seed{}/model_1{}.pt", "net{}_10_0.9{}.pt"])
def test_steps_of_runs_of_one_network_are_no_doubt(name, tmp_path):
    foreign.state_dicts(tmp_path / "zoo", name=name.replace("{}", "{0}"), count=3)
    found = read(tmp_path / "zoo", activation="relu", pattern=r"_(?P<step>\d+)")  # a warning would be an error
    assert found.table["run"].nunique() == 3


@pytest.mark.parametrize("name", ["network_{}.pt", "seed{}/model.pt", "seed{}/epoch_10.pt", "lr0.{}/step_5.pt", "deep{}.pt"])
def test_networks_that_are_numbered_are_runs(name, tmp_path):
    foreign.state_dicts(tmp_path / "zoo", name=name, count=3)
    assert read(tmp_path / "zoo", activation="relu").table["run"].nunique() == 3  # a warning would be an error


def test_checkpoints_of_one_fine_tuned_run_are_one_trajectory(tmp_path):
    foreign.state_dicts(tmp_path / "checkpoint", name="000{0}_acc0.901{0}_seed0001_tag.pth")
    found = read(tmp_path / "checkpoint", activation="relu")
    assert found.trajectory.tolist() == [0] * 6
    assert found.table["test_accuracy"].iloc[2] == pytest.approx(0.9012)
    with pytest.raises(
        ValueError, match=r"found one .*; zoo.read.trajectories: each counts every network as a run of its own"
    ):
        found.zoo()
    assert len(read(tmp_path / "checkpoint", activation="relu", trajectories="each").zoo().held_out_part) == 1


@pytest.mark.parametrize(
    ("precision", "kept"), [("as-is", torch.float16), ("float32", torch.float32), ("float64", torch.float64)]
)
def test_half_precision_is_kept_or_raised_as_asked(precision, kept, tmp_path):
    foreign.state_dicts(tmp_path / "zoo", make=lambda: foreign.mnist_perceptron().half())
    found = read(tmp_path / "zoo", activation="relu", precision=precision)
    assert found.networks.dtype == kept
    assert found.zoo().networks.dtype == torch.float32
    state = torch.load(tmp_path / "zoo/mlp_seed3.pt", weights_only=True)
    assert torch.equal(found.networks[3]["fc2.weight"].half(), state["fc2.weight"])
