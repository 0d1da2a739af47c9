"""README and documentation keep what they promise: code runs, commands parse, links lead somewhere, and README is short."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from tests.documents import blocks, command_errors, commands, links
from wflib.architecture import mlp
from wflib.config import load_settings
from wflib.flow import flow_for_zoo, save_flow
from wflib.models import METHODS
from wflib.networks import Networks
from wflib.rng import generator
from wflib.tasks import TASKS, save_dataset
from wflib.zoo import zoo_from_networks

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS = 700
SMALL = ["velocity.dimension=16", "velocity.edge_dimension=8", "velocity.layers=1", "flow.coupling=independent"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> Path:
    """What pages read: dataset, networks, an untrained flow, checkpoints; small, and named as the pipeline's."""
    folder = tmp_path_factory.mktemp("artifacts")
    architecture, random = mlp([30, 16, 16, 2]), generator(0, "documents")
    networks = Networks.from_flat(architecture, 0.3 * torch.randn(24, architecture.dimension, generator=random))
    dataset, settings = TASKS["wdbc"](), load_settings(ROOT / "params.yaml", ROOT / "stages/presets", SMALL)
    zoo = zoo_from_networks(networks, held_out=0.25)
    flow = flow_for_zoo(settings, zoo, dataset.train)
    for data in (folder / "data", folder / "data/demo"):
        (data / "zoo").mkdir(parents=True)
        save_dataset(data / "dataset.safetensors", dataset)
        save_flow(data / "flow.safetensors", flow)
        networks.save(data / "networks.safetensors")
    networks[:4].save(folder / "checkpoints")
    return folder


@pytest.fixture
def project(artifacts, tmp_path, monkeypatch) -> Path:
    """A copy of the artifacts, which is the working directory."""
    shutil.copytree(artifacts, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page.read_text(), "python")], ids=name_of)
def test_python_of_a_page_runs(page, project, monkeypatch):
    tasks = dict(TASKS)  # pages add tasks and models of their own
    monkeypatch.setattr("wflib.tasks.TASKS", tasks)
    monkeypatch.setattr("wflib.tasks.loading.TASKS", tasks)
    monkeypatch.setattr("wflib.models.METHODS", dict(METHODS))
    names = {"__name__": "page"}
    for place, block in enumerate(blocks(page.read_text(), "python")):
        exec(compile(block, f"{name_of(page)}, block {place + 1}", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_a_page_parse(page):
    assert [error for line in commands(page.read_text()) for error in command_errors(ROOT, line)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page):
    assert [target for target in links(page.read_text()) if not (page.parent / target).exists()] == []


def test_files_that_pages_name_exist():
    named = {
        path
        for page in PAGES
        for path in re.findall(r"`((?:reports|stages|wflib|tests|benchmarks|docs|examples)/[\w./-]+)`", page.read_text())
    }
    made = {"reports/demo.html", "reports/figures/", "reports/studies/samplers.md", "stages/presets/rings.yaml"}
    assert sorted(path for path in named - made if not (ROOT / path).exists()) == []
    assert len(named) > 20


def test_the_table_of_extras_names_all_of_them_and_no_other():
    text = (ROOT / "docs/getting-started.md").read_text()
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*`[^|]*)\|", text, re.MULTILINE)))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(named) == set(project["optional-dependencies"])


def test_settings_of_pages_are_settings(tmp_path):
    found = [block for page in PAGES for block in blocks(page.read_text(), "yaml")]
    assert found
    for block in found:
        (tmp_path / "params.yaml").write_text(block)
        load_settings(tmp_path / "params.yaml", ROOT / "stages/presets")


def test_the_table_of_models_names_all_of_them_and_no_other():
    text = (ROOT / "docs/how-to/compare-models.md").read_text()
    table = text[text.index("| name |") :].split("\n\n")[0]
    named = re.findall(r"`([\w-]+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert sorted(named) == sorted(["flow", *METHODS])


def test_readme_is_short():
    assert len(README.read_text().split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_show_nothing_of_other_hosts(page):
    assert "![](http" not in page.read_text()
    assert not re.search(r"!\[[^]]*\]\(https?:", page.read_text())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("make tea", "no such target"),
        ("wflib paint", "no command 'paint'"),
        ("wflib draw flow.safetensors --colour red", "No such option"),
        ("wflib draw flow.safetensors --networks many", "valid integer"),
        ("python -m stages.gone", "No module named"),
        ("python -m stages.align --tea", "No such option"),
        ("python examples/gone.py", "does not exist"),
        ("python -m pytest tests/gone", "does not exist"),
        ("torchrun --nproc-per-node 2 -m stages.train_flow --tea", "No such option"),
        ("bash reports/gone.sh", "does not exist"),
        ("dvc paint", "not among"),
        ("dvc repro reports/gone/dvc.yaml", "does not exist"),
        ("dvc exp run -S flow.typo=1", "flow.typo: write ++ before it, params.yaml has it not"),
        ("dvc exp run -S zoo.epochs=1", "zoo.epochs: write ++ before it, params.yaml has it not"),
        ("dvc exp run -S +zoo.epochs=1", "write ++"),
        ("dvc exp run -S ++flow.geometry=euclidean", "write nothing before it"),
        ("dvc exp run -S ++flow.typo=1", "unknown setting"),
        ("dvc exp run -S flow.geometry=round", "flow.geometry"),
        ("dvc exp run -S 'flow.geometry=round,euclidean'", "flow.geometry"),
        ("dvc exp run -S task=gone", "task"),
        ("curl somewhere", "no page may name"),
    ],
)
def test_wrong_commands_are_found(line, complaint):
    errors = command_errors(ROOT, line)
    assert errors
    assert complaint in errors[0].replace("is not among", "not among")


def test_blocks_commands_and_links_are_found():
    text = "a [b](c.md#d) ![e](f.svg) [g](https://h)\n```python\nx = 1\n```\n```sh\nmake demo    # why\n# nothing\n```\n"
    assert blocks(text, "python") == ["x = 1\n"]
    assert commands(text) == ["make demo    # why"]
    assert links(text) == ["c.md", "f.svg"]


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=name_of)
def test_examples_run(script, project):
    arguments = {"draw_and_average": ["--networks", "4"], "merge_two_networks": ["--steps", "3"]}
    arguments |= {"score_checkpoints": ["--steps", "2", "--checkpoints", "checkpoints"]}
    app = typer.Typer()
    app.command()(runpy.run_path(str(script))["main"])
    found = CliRunner().invoke(app, arguments[script.stem])
    assert found.exit_code == 0, f"{found.output} {found.exception}"
    assert len(found.output.splitlines()) > 1


def test_the_notebook_runs(project):
    cells = json.loads((ROOT / "examples/tour.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 4
    assert not any(cell["outputs"] for cell in code), "keep the notebook without outputs"
    names = {"__name__": "notebook"}
    for cell in code:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)


def test_the_site_asks_no_other_host(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert found.returncode == 0, found.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    asked = [
        f"{page.name}: {match}"
        for page in pages
        for match in re.findall(
            r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+", page.read_text()
        )
    ]
    assert asked == []
    reference = (tmp_path / "site/reference/flow.html").read_text()
    assert "draw_networks" in reference
    assert ":func:`" not in reference


def test_the_page_of_settings_is_that_of_the_code_and_says_what_each_means():
    page = runpy.run_path(str(ROOT / "docs/settings.py"))["page"]()
    assert page == (ROOT / "docs/reference/settings.md").read_text(), "run: python docs/settings.py"
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 90
    assert all(len(row) >= 3 and row[2].strip(" |") for row in rows)


RUNS = {"WDBC": "reports", "MNIST": "reports/runs/mnist-normalized", "digits": "reports/runs/digits-cnn"}


def test_numbers_of_the_readme_are_those_of_committed_runs():
    rows = [line.split("|") for line in (ROOT / "README.md").read_text().splitlines() if " ± " in line and "|" in line]
    told = {row[1].split(",")[0].strip(): [cell.strip() for cell in row[2:4]] for row in rows}
    assert told.keys() == RUNS.keys()
    for task, folder in RUNS.items():
        details = json.loads((ROOT / folder / "details.json").read_text())
        sets = (details["samples"], details["held-out"])
        assert told[task] == [f"{one['accuracy_mean']:.3f} ± {one['accuracy_std']:.3f}" for one in sets]
