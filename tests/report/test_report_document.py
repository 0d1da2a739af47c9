"""The document: complete, the same bytes for the same run, and nothing from the network."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from wflib.report import FIGURES, Cost, write_report
from wflib.report.document import render_html

ROOT = Path(__file__).resolve().parents[2]


class Resources(HTMLParser):
    """Collects every address that a browser would load, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "srcset", "xlink:href", "data", "poster"}:
                self.loads.append(value or "")
            if name == "style":
                self.loads += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def network_loads(html: str) -> list[str]:
    page = Resources()
    page.feed(html)
    loads = page.loads + re.findall(r"url\(([^)]*)\)", html) + re.findall(r"@import[^;]*", html)
    for load in list(loads):
        if load.startswith("data:image/svg+xml;base64,"):
            loads += network_loads(base64.b64decode(load.partition(",")[2]).decode())
    return [load for load in loads if not load.strip("\"' ").startswith(("data:", "#"))]


@pytest.fixture
def written(run, tmp_path):
    write_report(tmp_path, run)
    return tmp_path


def test_html_loads_nothing(written):
    html = (written / "report.html").read_text()
    assert network_loads(html) == []
    assert "<script" not in html


@pytest.mark.parametrize(
    "bad", ['<img src="https://a/b.png">', "<style>p{background:url(http://a/b)}</style>", '<link href="c.css">']
)
def test_the_check_for_loads_finds_them(bad):
    assert network_loads(bad)


def test_every_figure_of_the_markdown_exists_and_is_in_the_html(written):
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (written / "report.md").read_text())
    assert figures == [f"figures/{plot.name}.svg" for plot in FIGURES]
    html = (written / "report.html").read_text()
    for figure in figures:
        assert base64.b64encode((written / figure).read_bytes()).decode() in html


def test_same_run_same_bytes(run, written, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    for path in write_report(again, run):
        assert path.read_bytes() == (written / path.relative_to(again)).read_bytes()
    assert not [path for path in written.rglob(".*") if path.is_file()]


def test_content_in_order(run, tmp_path):
    write_report(tmp_path, replace(run, verdict=["samples: copies."], cost=Cost(700, 0.01, 0.05)))
    text = (tmp_path / "report.md").read_text()
    heads = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert heads == ["Verdict", "Summary", "Figures", "Tables", "Time and settings", "How to obtain it again"]
    assert text.index("samples: copies.") < text.index("cost: drawing a network takes") < text.index("Samples reach")
    page = Resources()
    page.feed((tmp_path / "report.html").read_text())
    for word in (
        "0.960 ± 0.011 (0.020)",
        "359.8",
        "zoo.learning_rate",
        "dvc repro",
        "1,234,567",
        "https://example.org/a|b_c_d",
        "Figure 8.",
    ):
        assert word in page.text
    assert page.tags.count("figure") == page.tags.count("figcaption") == page.tags.count("img") == len(FIGURES)
    assert page.tags.count("table") == 7
    assert page.tags.count("details") == page.tags.count("summary") == 3


def test_only_folds_of_the_template_become_markup():
    folds = "<details>\n<summary>All settings</summary>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n</details>\n"
    html = render_html(f"# Title\n\n{folds}", {})
    assert "<details>\n<summary>All settings</summary>\n<div" in html
    assert "</table></div>\n</details>" in html
    for text in ("<details open>", "<summary>x</summary>", "a <details> b", "<details>\n<summary><b>x</b></summary>"):
        assert "&lt;" in render_html(f"# Title\n\n{text}\n", {})


def test_markup_in_facts_stays_text(make_run, tmp_path):
    write_report(
        tmp_path, make_run(facts={"task": "<script>alert(1)</script>", "note": "![x](http://a/b.png) <img src='http://c'>"})
    )
    html = (tmp_path / "report.html").read_text()
    assert network_loads(html) == []
    assert "<script" not in html


def test_tables_have_the_numbers_of_the_run(written):
    text = (written / "report.md").read_text()
    assert "| Tensor | samples: shift | samples: spread | held-out: shift | held-out: spread |" in text
    assert "| log\\_scale | 0.050 | 0.900 | 0.040 | 0.900 |" in text
    assert "| 12.300 ± 0.037 | 11.6 | 1.0010 ± 0.0021 | 0.321 | 0.370 ± 0.020 | 0.570 ± 0.025 |" in text


def test_optional_tables_may_be_missing(run, make_run, tmp_path):
    tables = ("barriers", "curve", "history", "stages", "pictures", "parts", "reliability")
    none = {name: getattr(run, name).head(0) for name in tables}
    networks = run.networks.assign(nearest_distance=np.nan, error_overlap=np.nan)
    paths = write_report(tmp_path, make_run(**none, networks=networks, settings={}, facts={}))
    figures, csv = ["quality.svg", "calibration.svg", "diversity.svg"], ["sets.csv", "steps.csv", "reliability.csv"]
    assert [path.name for path in paths] == [*figures, *csv, "report.md", "report.html"]
    assert (tmp_path / "plots/steps.csv").read_text() == "steps,accuracy,nll\n"
    text = (tmp_path / "report.md").read_text()
    assert "## Time" not in text
    assert "<details>" not in text
    assert "## Verdict" not in text
    assert "nan" not in text


def test_tables_of_plots_have_the_numbers_of_the_run(written, run):
    steps = pd.read_csv(written / "plots/steps.csv")
    assert steps["steps"].tolist() == [8, 16, 32, 64]  # without guidance alone
    assert steps["nll"].tolist() == pytest.approx([0.1 + 1 / count for count in steps["steps"]])
    sets = pd.read_csv(written / "plots/sets.csv").set_index("set")
    assert sets.index[0] == "samples"
    assert set(sets.index) == set(run.groups["source"])
    assert sets.loc["samples", "ece"] == pytest.approx(0.04)
    assert sets.loc["zoo", "average_ece"] == pytest.approx(0.014)
    reliability = pd.read_csv(written / "plots/reliability.csv")  # of samples alone
    assert reliability.to_numpy().tolist() == [[0.7, 0.6, 0.25], [0.9, 0.95, 0.75]]


def test_every_plot_of_the_pipeline_has_its_column(written, run):
    run.history.to_csv(written / "history.csv", index=False)
    plots = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["plots"]
    curves = {name: plot for one in plots if isinstance(one, dict) for name, plot in one.items()}
    assert len(curves) == 7
    for name, plot in curves.items():
        ((file, columns),) = plot["y"].items()
        x = plot["x"] if isinstance(plot["x"], str) else plot["x"][file]
        table = pd.read_csv(written / Path(file).relative_to("reports"))
        assert {x, *([columns] if isinstance(columns, str) else columns)} <= set(table.columns), name
