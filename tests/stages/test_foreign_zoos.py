"""Zoos that others have made, through every stage and out again; without examples only weights are compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from tests.stages.test_pipeline_end_to_end import ROOT, run
from tests.zoo import foreign
from wflib.flow import load_flow
from wflib.networks import Networks
from wflib.networks.names import natural_order
from wflib.zoo import FORMATS, WRITERS, load_zoo, read, save_zoo, write

pytest.importorskip("lmdb", reason="the extra wflib[gpt] is not installed")

TINY = {
    "align": {"restarts": 1},
    "velocity": {"dimension": 8, "edge_dimension": 4, "layers": 1, "heads": 2},
    "training": {"iterations": 2, "batch_size": 128, "validate_every": 2, "checkpoint_every": 2, "precision": "float32"},
    "sample": {"networks": 3, "steps": 1},
    "evaluate": {"zoo_networks": 4, "barrier_networks": 2, "steps": [1], "curve_networks": 2},
}
STAGES = ("fetch_data", "train_zoo", "align", "canonicalize", "train_flow", "sample", "evaluate", "report")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the presets, which is the working directory."""
    shutil.copytree(ROOT / "stages/presets", tmp_path / "stages/presets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wflib.flow.training.MOMENT_PAIRS", 256)  # thousands of pairs take seconds, and no test needs them
    return tmp_path


def settings(task: str = "none", zoo: dict | None = None, **sections: dict) -> None:
    content = {"task": task, "zoo": {"held_out": 0.4, "source": "theirs", **(zoo or {})}, **TINY, **sections}
    with Path("params.yaml").open("w") as file:
        YAML().dump(content, file)


def run_all(*stages: str) -> None:
    for stage in stages:
        result = run(stage)
        assert result.exit_code == 0, f"{stage}: {result.output} {result.exception!r}"


def drawn_into(module: torch.nn.Module, inputs: tuple[int, ...]) -> None:
    """Drawn networks, written for their authors' class, are what the class computes with."""
    networks = Networks.load("data/networks.safetensors")
    write("out", networks, module=module)
    for place, file in enumerate(sorted(Path("out").iterdir())):
        module.load_state_dict(torch.load(file, weights_only=True), strict=True)
        x = torch.randn(3, *inputs, dtype=torch.float64)
        with torch.no_grad():
            theirs = module.double()(x)
        torch.testing.assert_close(theirs, networks[place : place + 1].to(torch.float64).forward(x)[0])
        module.float()


def test_a_convolutional_zoo_goes_through_all_stages_without_examples(project):
    foreign.modelzoo(project / "theirs")
    settings(zoo={"read": {"snapshots": "last"}}, flow={"geometry": "geometric"})
    run_all(*STAGES)
    zoo = load_zoo("data/zoo/trained.safetensors", "trained")
    assert zoo.step.tolist() == [10] * 4
    assert zoo.metadata["provenance"]["left_out"] == {"other steps": 8}
    assert pd.read_parquet("data/zoo/figures.parquet")["test_accuracy"].notna().all()
    details = json.loads(Path("reports/details.json").read_text())
    assert details["samples"]["variance_ratio"] > 0
    assert details["samples"]["nearest_distance_mean"] > 0
    assert not [name for name in details["samples"] if "accuracy" in name or "nll" in name]
    report = Path("reports/report.md").read_text()
    assert "the task none has no examples" in report
    assert "Accuracy" not in report
    assert "Needs examples" in Path("reports/figures/quality.svg").read_text()
    drawn_into(foreign.cnn_small(), (1, 28, 28))


def test_runs_whose_beginning_is_known_are_coupled_with_it(project):
    foreign.gpt(project / "theirs")
    settings(flow={"coupling": "initialization"}, zoo={"read": {"where": ["step > 0"]}})
    run_all(*STAGES[:3], *STAGES[4:6])
    assert len(load_zoo("data/zoo/aligned.safetensors", "aligned").initial) == 4
    drawn_into(foreign.GPTPerceptron(), (784,))


def test_a_zoo_of_a_known_task_is_judged_on_its_examples(project):
    foreign.state_dicts(project / "theirs", lambda: foreign.mnist_perceptron((30, 4, 2)), 6)
    settings("wdbc", {"read": {"activation": "relu"}}, flow={"coupling": "independent"})
    run_all(*STAGES[:7])
    details = json.loads(Path("reports/details.json").read_text())
    assert 0 <= details["samples"]["accuracy_mean"] <= 1


@dataclass(frozen=True)
class Way:
    """A zoo of a format's exact shape, what must be said of it, the class of its networks, and the flow that learns it.

    ``began`` is what the prior is measured from: initial weights where the format has them.
    """

    make: Callable[[Path], dict[str, torch.nn.Module]]
    module: Callable[[], torch.nn.Module]
    inputs: tuple[int, ...]
    geometry: str = "geometric"
    source: str = "theirs"
    began: str = "weights"
    read: dict = field(default_factory=dict)


def ours(path: Path) -> dict[str, torch.nn.Module]:
    """The same format as this library writes it, of networks of somebody else's."""
    made = foreign.state_dicts(path.with_suffix(".of"), lambda: foreign.mnist_perceptron((20, 4, 3)))
    zoo = read(path.with_suffix(".of"), activation="relu")
    save_zoo(path, zoo.zoo(0.4))
    return made


INITIAL = "initial weights"
FLAT = {"layers": [20, 4, 3], "activation": "relu"}
FORMAT_WAYS = {
    "modelzoo": Way(foreign.modelzoo, foreign.cnn_small, (1, 28, 28), "euclidean", began=INITIAL),
    "gpt": Way(foreign.gpt, foreign.GPTPerceptron, (784,), began=INITIAL),
    "small-cnn-zoo": Way(foreign.small_cnn_zoo, foreign.SmallCNN, (1, 32, 32), "normalized", "cifar10", INITIAL),
    "wild-park": Way(foreign.wild_park, foreign.Wild, (3, 32, 32)),
    "state-dicts": Way(foreign.state_dicts, foreign.mnist_perceptron, (784,), "normalized", read={"activation": "relu"}),
    "inr": Way(foreign.inr, foreign.Sines, (2,)),
    "hdf5": Way(
        partial(foreign.hdf5, turned=True, sizes=(20, 4, 3)), lambda: foreign.mnist_perceptron((20, 4, 3)), (20,),
        "normalized", "theirs.h5", read={**FLAT, "orientation": "in-out"},
    ),
    "wflib": Way(ours, lambda: foreign.mnist_perceptron((20, 4, 3)), (20,), "geometric", "theirs.safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_goes_the_whole_way(project, format):
    """In, through all stages, and out again: what its authors' modules compute at every form, to the bit when written."""
    way = FORMAT_WAYS[format]
    made = way.make(project / way.source)
    modules = [made[name] for name in sorted(made, key=natural_order)]
    settings(zoo={"source": way.source, "format": format, "read": way.read}, flow={"geometry": way.geometry})
    run_all(*STAGES[:7])
    for form in ("trained", "aligned", "canonical"):
        zoo = load_zoo(f"data/zoo/{form}.safetensors", form)
        assert zoo.metadata["provenance"]["format"] == format
        assert difference(zoo.networks, modules, way.inputs) < 1e-5
        assert difference(zoo.networks, modules[::-1], way.inputs) > 1e-3  # the measure sees other networks
    assert zoo.architecture.canonical
    assert load_flow("data/flow.safetensors").metadata["initialization_from"] == way.began
    details = json.loads(Path("reports/details.json").read_text())
    assert details["samples"]["variance_ratio"] > 0
    drawn = Networks.load("data/networks.safetensors")
    aligned = load_zoo("data/zoo/aligned.safetensors", "aligned")
    for writer in WRITERS:
        for name, networks in (("drawn", drawn), ("aligned", aligned.networks)):
            path = Path("written", f"{name}-{writer}{'.safetensors' if writer == 'stacked' else ''}")
            write(path, networks, writer)
            known = {"architecture": networks.architecture} if writer == "state-dicts" else {}
            again = read(path, **known).networks
            assert again.architecture == networks.architecture
            assert torch.equal(again.flat, networks.flat)
    drawn_into(way.module(), way.inputs)


def difference(networks: Networks, modules: list[torch.nn.Module], inputs: tuple[int, ...]) -> float:
    """Largest difference between what networks and modules compute, as a share of the largest output."""
    x = torch.randn(3, *inputs, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = torch.stack([module(x) for module in modules])
    return float((networks.forward(x) - theirs).abs().max() / theirs.abs().max())


def test_a_source_and_a_format_may_be_named_on_the_command_line(project):
    foreign.inr(project / "signals")
    settings(zoo={"source": "gone"})
    run_all("fetch_data")
    result = run("train_zoo", "--source", "signals", "--format", "inr")
    assert result.exit_code == 0, result.output
    assert len(load_zoo("data/zoo/trained.safetensors", "trained")) == 6


def test_a_source_is_the_folder_of_that_name_whatever_it_means_in_yaml(project):
    """``zoo #2`` was read as ``zoo``, which may be there, too; others were taken for numbers, lists or nothing."""
    foreign.inr(project / "zoo")
    for file in sorted((project / "zoo").iterdir())[:2]:
        shutil.rmtree(file)
    folders = ("zoo #2", "2024", "1e3", "null", "[1]", "runs: old", "'x", 'a "b"', "größe 😀")
    settings(zoo={"source": "gone"})
    run_all("fetch_data")
    for name in folders:
        foreign.inr(project / name)
        result = run("train_zoo", "--source", name, "--format", "inr")
        assert result.exit_code == 0, f"{name}: {result.output}"
        zoo = load_zoo("data/zoo/trained.safetensors", "trained")
        assert (len(zoo), Path(zoo.metadata["provenance"]["source"]).name) == (6, name)
    assert run("train_zoo", "--source", "zoo", "--format", "inr").exit_code == 0
    assert len(load_zoo("data/zoo/trained.safetensors", "trained")) == 4  # the folder that was read instead is another
    result = run("train_zoo", "--source", "")
    assert (result.exit_code, "zoo.source: got ''" in result.output) == (1, True), result.output


def test_what_was_left_out_is_said(project):
    foreign.inr(project / "theirs", nfn=True)
    (project / "theirs/broken.pth").write_bytes(b"PK")
    settings(zoo={"read": {"skip_broken": True}})
    run_all("fetch_data")
    result = run("train_zoo")
    assert result.exit_code == 0, result.output
    assert "left out 1: files that cannot be read" in result.output


REFUSED = [
    ("none", {"source": "train"}, {}, "train_zoo", "task: none has no examples to train on; name a file or folder"),
    ("none", {}, {"flow": {"coupling": "initialization"}}, "train_flow", "choose flow.coupling: independent or ot"),
    ("none", {}, {"training": {"loss": "function"}}, "train_zoo", "training.loss: function (choose standardized)"),
    ("none", {}, {"align": {"method": "activation-matching"}}, "train_zoo", "(choose weight-matching)"),
    ("none", {}, {"sample": {"guidance": 0.1}}, "train_zoo", "sample.guidance above 0 (choose 0.0)"),
    ("none", {}, {"sample": {"polish_steps": 1}}, "train_zoo", "sample.polish_steps above 0 (choose 0)"),
    ("wdbc", {}, {}, "train_zoo", "expected networks for wdbc (30 inputs"),
    (
        "none",
        {"read": {"snapshot": "last"}},
        {},
        "train_zoo",
        "zoo.read.snapshot: got 'last'; unknown setting; allowed: activation",
    ),
    (
        "none",
        {"read": {"pattern": "run_."}},
        {},
        "train_zoo",
        "zoo.read.pattern: got 'run_.'; expected named groups: (?P<run>",
    ),
    ("none", {"format": "lmdb"}, {}, "train_zoo", "zoo.format: got 'lmdb'"),
    ("none", {"read": {"held_out_runs": ["gone"]}}, {}, "train_zoo", "held_out_runs: gone fits none of the runs"),
]


@pytest.mark.parametrize(("task", "zoo", "sections", "stage", "sentence"), REFUSED)
def test_what_does_not_go_together_is_refused(project, task, zoo, sections, stage, sentence):
    foreign.inr(project / "theirs", nfn=True)
    settings()
    run_all("fetch_data", "train_zoo", "align")
    if task != "none":
        settings(task)
        run_all("fetch_data")
    settings(task, zoo, **{name: TINY.get(name, {}) | values for name, values in sections.items()})
    result = run(stage)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert sentence in result.output


@pytest.mark.parametrize("stage", ["train_zoo", "align", "canonicalize"])
def test_no_stage_writes_over_a_folder_that_is_no_zoo(project, stage):
    foreign.state_dicts(project / "theirs", lambda: foreign.mnist_perceptron((20, 4, 3)))
    settings(zoo={"read": {"activation": "relu"}})
    before = ("fetch_data", "train_zoo", "align", "canonicalize")
    run_all(*before[: before.index(stage)])
    (project / "precious").mkdir()
    (project / "precious/thesis.txt").write_text("years")
    result = run(stage, "--out", "precious")
    assert result.exit_code == 1
    assert "precious: expected a place for a zoo, which replaces what is there" in result.output
    assert [path.name for path in (project / "precious").iterdir()] == ["thesis.txt"]
    run_all(stage)  # the control: its own place is one
