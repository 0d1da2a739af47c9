"""The document: Markdown with figures beside it, and one HTML file that holds everything."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from wflib.report.data import ReportData
from wflib.report.figures import FIGURES
from wflib.report.plots import plot_tables
from wflib.report.summary import summary
from wflib.report.tables import (
    cell,
    duration,
    facts_table,
    moments_table,
    novelty_table,
    parts_table,
    quality_table,
    settings_table,
    stage_table,
)
from wflib.report.theme import svg_bytes, theme
from wflib.storage import atomic_path
from wflib.tasks import WITHOUT_CLASSES

__all__ = ["write_report"]

BLANK = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="480" height="60"><text x="12" y="36" font-family="sans-serif" '
    b'font-size="14" fill="#808080">Needs examples with classes, which this task does not have.</text></svg>\n'
)
"""In place of a figure that needs examples: the pipeline's outputs are the same for every task."""
FOLD = re.compile(r"<details>\n<summary>[\w ]+</summary>|</details>")
PARAGRAPH = ["paragraph_open", "inline", "paragraph_close"]


def write_report(folder: str | Path, data: ReportData) -> list[Path]:
    """Write ``report.md`` with ``figures/*.svg``, and ``report.html`` with everything inside and no external requests.

    Tables for ``dvc plots diff`` go to ``plots/*.csv``, see :func:`~wflib.report.plots.plot_tables`.

    The same data give the same bytes. Figures whose tables have no rows are left out; of tasks without classes their files
    are there for the pipeline, and say so.

    Args:
        folder: Where to write; made if needed.
        data: The run.

    Returns:
        The files written: figures, tables, ``report.md``, ``report.html``.
    """
    folder = Path(folder)
    drawn = draw_figures(data)
    markdown = render_markdown(data, list(drawn))
    images = {f"figures/{name}.svg": content for name, content in drawn.items()}
    empty = {f"figures/{plot.name}.svg": BLANK for plot in FIGURES if plot.name not in drawn}
    contents = {
        **images,
        **(empty if data.facts.get("task") in WITHOUT_CLASSES else {}),
        **{f"plots/{name}.csv": text.encode() for name, text in plot_tables(data).items()},
        "report.md": markdown.encode(),
        "report.html": render_html(markdown, images).encode(),
    }
    for name, content in contents.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
    return [folder / name for name in contents]


def draw_figures(data: ReportData) -> dict[str, bytes]:
    drawn = {}
    for plot in FIGURES:
        with theme():
            figure = plot.draw(data)
            if figure is not None:
                drawn[plot.name] = svg_bytes(figure)
    return drawn


def render_markdown(data: ReportData, drawn: list[str]) -> str:
    template = environment(autoescape=False).from_string(template_text("report.md.j2"))
    text = template.render(
        title=cell(title(data.facts)),
        introduction=cell(introduction(data.facts)),
        verdict=[cell(sentence) for sentence in (*data.verdict, *([] if data.cost is None else [data.cost.sentence()]))],
        summary=summary(data),
        quality=quality_table(data.groups),
        novelty=novelty_table(data.groups),
        moments=moments_table(data.moments),
        parts=parts_table(data.parts),
        figures=[plot for plot in FIGURES if plot.name in drawn],
        stages=stage_table(data.stages),
        total=duration(float(data.stages["seconds"].sum())),
        facts=facts_table(data.facts),
        settings=settings_table(data.settings),
        task=data.facts.get("task", "wdbc"),
    )
    return text.rstrip() + "\n"


def render_html(markdown: str, images: Mapping[str, bytes]) -> str:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = parser.parse(markdown)
    inline_images(tokens, images)
    body = parser.renderer.render(folded(figures_with_captions(tokens)), parser.options, {})
    heading = next(tokens[k + 1].content for k, token in enumerate(tokens) if token.type == "heading_open")
    template = environment(autoescape=True).from_string(template_text("report.html.j2"))
    return template.render(title=heading.replace("\\", ""), body=Markup(body)) + "\n"


def inline_images(tokens: list[Token], images: Mapping[str, bytes]) -> None:
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                content = base64.b64encode(images[str(child.attrGet("src"))]).decode()
                child.attrSet("src", f"data:image/svg+xml;base64,{content}")


def figures_with_captions(tokens: list[Token]) -> list[Token]:
    """A paragraph that is an image and the paragraph after it become ``<figure>`` and ``<figcaption>``."""
    result: list[Token] = []
    rest = iter(range(len(tokens)))
    for k in rest:
        block = tokens[k : k + 6]
        if [token.type for token in block] == PARAGRAPH * 2 and [child.type for child in block[1].children or []] == [
            "image"
        ]:
            result += [
                Token("figure_open", "figure", 1, attrs={"tabindex": "0"}, block=True),
                block[1],
                Token("figcaption_open", "figcaption", 1, block=True),
                block[4],
                Token("figcaption_close", "figcaption", -1, block=True),
                Token("figure_close", "figure", -1, block=True),
            ]
            next(itertools.islice(rest, 4, 5))
        else:
            result.append(tokens[k])
    return result


def folded(tokens: list[Token]) -> list[Token]:
    """The lines of our template that fold what is between them become HTML; all other HTML stays text."""
    result: list[Token] = []
    rest = iter(range(len(tokens)))
    for k in rest:
        block = tokens[k : k + 3]
        content = block[1].content if [token.type for token in block] == PARAGRAPH else ""
        if FOLD.fullmatch(content):
            result.append(Token("html_block", "", 0, content=f"{content}\n", block=True))
            next(itertools.islice(rest, 1, 2))
        else:
            result.append(tokens[k])
    return result


def title(facts: Mapping[str, Any]) -> str:
    what = ", ".join(str(facts[key]) for key in ("task", "geometry") if key in facts)
    source = "a flow" if facts.get("model", "flow") == "flow" else str(facts["model"])
    if steps := facts.get("polish_steps"):
        source += f" and {steps} step{'s' * (steps > 1)} of training"
    return f"Networks from {source}: {what}" if what else f"Networks from {source}"


def introduction(facts: Mapping[str, Any]) -> str:
    flow = f"a {facts['geometry']} flow" if "geometry" in facts else "a flow"
    flow += f" with {facts['coupling']} coupling" if "coupling" in facts else ""
    if "velocity_parameters" in facts:
        flow += f", whose velocity network has {facts['velocity_parameters']:,} parameters,"
    task, drew = f" for the task {facts['task']}" if "task" in facts else "", "and drew new networks (the samples)"
    if facts.get("model", "flow") != "flow":
        drew = f"and new networks were drawn in its place by another model, {facts['model']} (the samples)"
    return (
        f"Base networks{task} were trained (the zoo), {flow} learned their distribution, {drew}. This report compares the "
        "samples with the zoo, with held-out networks that the flow never saw, and with simpler models."
    )


def environment(*, autoescape: bool) -> Environment:
    return Environment(autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def template_text(name: str) -> str:
    return files("wflib.report").joinpath(name).read_text(encoding="utf-8")
