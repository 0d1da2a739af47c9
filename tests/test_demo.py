"""The demonstration and the console command, small: files, sentences and pages that belong together."""

from __future__ import annotations

import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import wflib
from wflib.architecture import mlp
from wflib.command import app
from wflib.comparison import compare_networks
from wflib.demo import DemoResult, demo_settings, run_demo
from wflib.flow import ordinary_architecture
from wflib.symmetry import squared_distance
from wflib.tasks import TASKS, load_dataset
from wflib.zoo import ZooWriter, canonical_zoo, load_zoo, save_zoo

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "zoo": {"widths": [4], "networks": 60, "held_out": 0.4, "epochs": 3, "skip_epochs": 1, "snapshot_every": 7},
    "velocity": {"dimension": 16, "layers": 1, "edge_dimension": 8},
    "training": {"iterations": 3, "batch_size": 8},
    "sample": {"networks": 24, "steps": 2},
    "evaluate": {"zoo_networks": 30},
}

FILES = ("--zoo", "data/zoo/aligned.safetensors", "--data", "data/dataset.safetensors")


def small_settings(**changes: dict[str, object]):
    settings = demo_settings()
    sections = SMALL | changes
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=values) for name, values in sections.items()}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[DemoResult, list[str]]:
    """A small demonstration, and the steps it said."""
    folder, said = tmp_path_factory.mktemp("demo"), []
    return run_demo(folder / "demo.html", folder / "data", small_settings(), said.append), said


@pytest.fixture
def data(finished, tmp_path, monkeypatch) -> Path:
    """A copy of its files, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(finished[0].flow.parent, tmp_path / "data"))


def run(*arguments: str):
    return CliRunner().invoke(app, arguments)


def test_five_sentences_from_numbers(finished):
    result, said = finished
    assert said == ["train", "align", "learn", "draw", "compare"] == list(result.sentences)
    assert f"{result.comparison.number('samples', 'accuracy_mean'):.3f}" in result.sentences["draw"]
    assert f"AUC of {result.comparison.auc:.2f}" in result.sentences["compare"]


def test_the_page_holds_everything_and_asks_no_host(finished):
    page = finished[0].page.read_text()
    assert not re.search(r"""(src|href)=["']https?://""", page)
    assert page.count("data:image/svg+xml") == 3
    for sentence in finished[0].sentences.values():
        assert sentence[:40] in page
    assert "What the tests say" in page


def test_files_are_those_of_the_pipeline(finished):
    result = finished[0]
    networks = wflib.Networks.load(result.networks)
    flow = wflib.load_flow(result.flow)
    assert networks.architecture == ordinary_architecture(flow)
    assert networks.metadata["task"] == "wdbc"
    assert load_zoo(result.flow.parent / "zoo/aligned.safetensors", "aligned").held_out.any()


def test_few_networks_are_not_tested(tmp_path):
    zoo = SMALL["zoo"] | {"networks": 10}
    result = run_demo(tmp_path / "demo.html", tmp_path, small_settings(zoo=zoo))
    assert result.comparison.auc is None
    assert "too few" in result.sentences["compare"]
    assert "not audited" in result.page.read_text()


def test_other_geometries_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"flow\.geometry expected euclidean, got geometric"):
        run_demo(tmp_path / "demo.html", tmp_path, small_settings(flow={"geometry": "geometric"}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["none", "diabetes"])
def test_other_tasks_are_refused_before_work(tmp_path, task):
    settings, said = small_settings().model_copy(update={"task": task}), []
    with pytest.raises(ValueError, match=f"run_demo: expected a task with classes, got {task}"):
        run_demo(tmp_path / "demo.html", tmp_path, settings, said.append)
    assert said == ["train"]
    assert not list(tmp_path.iterdir())


def test_bad_examples_are_refused_before_work(tmp_path, monkeypatch):
    good = TASKS["wdbc"]()
    for part, message in (("train", "train targets expected"), ("test", "test targets expected")):
        split = getattr(good, part)
        bad = replace(good, **{part: replace(split, targets=split.targets + 1)})
        monkeypatch.setitem(TASKS, "rings", lambda bad=bad: bad)
        with pytest.raises(ValueError, match=message):
            run_demo(tmp_path / "demo.html", tmp_path, small_settings().model_copy(update={"task": "rings"}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["page", "folder"])
def test_places_that_cannot_be_written_are_refused_before_work(tmp_path, place):
    (tmp_path / "file").write_text("1")
    places, said = {"page": tmp_path / "demo.html", "folder": tmp_path / "data"} | {place: tmp_path / "file" / "a"}, []
    with pytest.raises(OSError, match=r"expected a place to write in the folder \S+/file, found: that is a file"):
        run_demo(places["page"], places["folder"], small_settings(), said.append)
    assert not said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_shipped_settings_are_small():
    settings = demo_settings()
    assert settings.zoo.networks <= 1000
    assert settings.training.iterations <= 500


def test_pictures_are_drawn_of_its_files(finished, tmp_path):
    runpy.run_path(str(ROOT / "docs/figures.py"))["main"](finished[0].flow.parent, tmp_path)
    drawn = {path.name for path in tmp_path.glob("*.svg")}
    assert drawn == {f"{name}.svg" for name in ("overview", "runs", "nearness", "exchange", "ways")}
    assert drawn <= {path.name for path in (ROOT / "docs/images").glob("*.svg")}


def test_command_demo(monkeypatch, finished):
    monkeypatch.setattr("wflib.demo.run_demo", lambda page, folder, say: finished[0])
    result = run("demo")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 5


def test_command_draw(data):
    result = run("draw", "data/flow.safetensors", "--networks", "3", "--steps", "2", "--width", "hidden1=7", "--out", "mine")
    assert result.exit_code == 0, result.output
    assert len(list(Path("mine").glob("*.safetensors"))) == 3
    run("draw", "data/flow.safetensors", "--networks", "2", "--out", "two.safetensors")
    drawn = wflib.Networks.load("two.safetensors")
    assert (len(drawn), drawn.metadata["geometry"]) == (2, "euclidean")


def test_command_align(data):
    result = run("align", "data/networks.safetensors", "--out", "aligned.safetensors")
    assert result.exit_code == 0, result.output
    before, after = (wflib.Networks.load(path) for path in ("data/networks.safetensors", "aligned.safetensors"))
    assert squared_distance(before[:1], after).mean() < squared_distance(before[:1], before).mean()
    before.save("folder")
    again = run("align", "folder", "--sizes", "30,4,2", "--out", "again.safetensors")
    assert again.exit_code == 0, again.output
    told = f"{squared_distance(before[:1], after[1:]).sqrt().mean().item():.3f}"
    for output in (result.output, again.output):  # the reference itself, at distance zero, does not count
        assert output.strip().endswith(f"→ {told}")


def test_distances_are_told_of_others_than_the_reference(data):
    networks = wflib.Networks.load("data/networks.safetensors")[:3]
    networks[:2].save("two.safetensors")
    networks[2:].save("third.safetensors")
    before = squared_distance(networks[2:], networks[:2]).sqrt().mean().item()
    assert f"reference {before:.3f} →" in run("align", "two.safetensors", "--reference", "third.safetensors").output
    assert "all are the reference" in run("align", "third.safetensors", "--out", "again.safetensors").output


@pytest.mark.parametrize("form", ["aligned", "canonical"])
def test_command_report(data, form):
    path = data / f"zoo/{form}.safetensors"
    if form == "canonical":
        save_zoo(path, canonical_zoo(load_zoo(data / "zoo/aligned.safetensors", "aligned")))
    result = run("report", "data/networks.safetensors", "--zoo", str(path), *FILES[2:], "--page", "page.html")
    assert result.exit_code == 0, result.output
    assert "held-out networks" in result.output
    assert "not audited" not in result.output
    assert Path("page.html").read_text().count("data:image/svg+xml") == 2


def test_command_report_says_of_a_zoo_in_shards_what_it_says_of_its_file(data):
    zoo = load_zoo(data / "zoo/aligned.safetensors", "aligned")
    with ZooWriter(data / "zoo/shards", 25) as writer:
        writer.append(zoo.networks, zoo.permutations, zoo.record)
        writer.append_initial_of(zoo)
        writer.finish(zoo.form, zoo.trajectory, zoo.step, zoo.held_out, zoo.aligned_to, zoo.metadata)
    assert (data / "zoo/shards/index.json").is_file()
    folder, file = (
        run("report", "data/networks.safetensors", "--zoo", str(path), *FILES[2:], "--page", "page.html")
        for path in (data / "zoo/shards", data / "zoo/aligned.safetensors")
    )
    assert (folder.exit_code, folder.output) == (0, file.output), folder.output
    (data / "zoo/shards/index.json").write_text("{")
    damaged = run("report", "data/networks.safetensors", "--zoo", str(data / "zoo/shards"), *FILES[2:])
    assert (damaged.exit_code, "name a zoo by --zoo" in damaged.output) == (1, True), damaged.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("draw", "gone.safetensors"), "gone.safetensors"),
        (("draw", "data/flow.safetensors", "--width", "hidden1"), "hidden1=32"),
        (("draw", "data/flow.safetensors", "--solver", "leap"), "leap"),
        (("draw", "gone.safetensors"), "made by wflib demo or dvc repro"),
        (("draw", "data/networks.safetensors"), "found a networks one; give a flow's file"),
        (("draw", "data/flow.safetensors", "--networks", "1", "--out", "data/flow.safetensors/a.pt"), "choose another"),
        (("align", "gone.safetensors"), "gone.safetensors"),
        (("align", "plain"), "give the sizes of perceptrons, as --sizes 30,16,2"),
        (("align", "data/networks.safetensors", "--sizes", "30,5,2"), "Leave --sizes out to read them as they are"),
        (("report", "wide.safetensors", *FILES), "Name a zoo of such networks by --zoo"),
        (("report", "data/networks.safetensors", *FILES[:2], "--data", "gone.safetensors"), "name one by --data"),
        (("report", "data/networks.safetensors", "--zoo", "data"), "name one by --zoo"),
        (("report", "data/networks.safetensors", "--page", "data"), "is a folder; choose another"),
        (("align", "data/networks.safetensors", "--sizes", "30,many"), "30,many"),
        (("report", "data/networks.safetensors", "--zoo", "gone.safetensors"), "gone.safetensors"),
        (("report", "data/networks.safetensors", "--zoo", "data/flow.safetensors"), "expected a zoo of form"),
    ],
)
def test_bad_input_ends_in_a_sentence(data, arguments, complaint):
    networks, wide = wflib.Networks.load("data/networks.safetensors"), mlp([30, 5, 2])
    Path("plain").mkdir()
    torch.save(networks[0], "plain/a.pt")
    wflib.Networks.from_flat(wide, torch.zeros(2, wide.dimension)).save("wide.safetensors")
    result = run(*arguments)
    assert result.exit_code == 1
    assert "Networks.load" not in result.output
    assert "rerun" not in result.output
    assert complaint in result.output
    assert result.output.startswith(f"wflib {arguments[0]}: ")
    assert "Traceback" not in result.output


def test_networks_of_another_precision_are_compared_and_without_examples_none_are(data):
    zoo, dataset = load_zoo(data / "zoo/aligned.safetensors", "aligned"), load_dataset(data / "dataset.safetensors")
    networks = zoo.held_out_part.networks[:2]
    found, double = (
        compare_networks(some, zoo, dataset, most=5).number("samples", "nll_mean")
        for some in (networks, networks.to(torch.float64))
    )
    assert found == double
    with pytest.raises(ValueError, match="expected a task with examples, got the task none"):
        compare_networks(networks, zoo, TASKS["none"](), most=5)


def test_what_no_command_foresaw_is_a_sentence_as_of_stages(data, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("expected Half")

    monkeypatch.setattr("wflib.flow.load_flow", fail)
    result = run("draw", "data/flow.safetensors")
    assert isinstance(result.exception, SystemExit)
    assert result.output.startswith("wflib draw: stopped by RuntimeError: expected Half")
