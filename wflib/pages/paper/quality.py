"""Tables 7.1 and 7.2, figures 7.2 to 7.4: how good networks from the three flows are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wflib.measurements import Cells
from wflib.measurements.quality import FURTHER
from wflib.pages.paper.numbers import MISSING, Section, both, chosen, first_of, plain, published, single, table_of
from wflib.pages.paper.thesis import DIVERSITY, MNIST, WDBC, Pair
from wflib.report.barriers import barrier_limits, barrier_matrix
from wflib.report.curves import framed
from wflib.report.tables import markdown_table
from wflib.report.theme import INK, log_scale, svg_bytes, theme

__all__ = ["GEOMETRIES", "GEOMETRY_COLOURS", "METHODS", "mnist", "most_steps", "wdbc"]

GEOMETRIES = ("euclidean", "normalized", "geometric")
GEOMETRY_COLOURS = {"euclidean": "#0072B2", "normalized": "#009E73", "geometric": "#D55E00"}
COLUMNS = (("none", "independent"), ("aligned", "independent"), ("aligned", "ot"), ("aligned", "initialization"))
WORDS = {
    ("none", "independent"): "",
    ("aligned", "independent"): " (aligned)",
    ("aligned", "ot"): " (aligned + OT)",
    ("aligned", "initialization"): " (aligned, own initialization)",
}
METHODS = {"thesis": "published method", "ours": "project's method"}
Columns = tuple[tuple[str, str], ...]
Published = Mapping[tuple[str, str, str], tuple[Pair, Pair]]
EXPLAINED = (
    "Test data; mean ± deviation over samples ± deviation over seeds, at the most steps (64) without guidance: Euler's, but "
    "for the project's method on MNIST, whose sampler is the preset's. Loss in nats, with the output scale that a flow "
    "draws; the thesis drops that of normalized and geometric flows, as the columns without scale do: on MNIST its losses "
    "are theirs, on WDBC they are far lower than here without scale, which its text does not explain. “Trained further”: "
    "draws after the few steps of training that the task's preset asks for. “Published method”: the thesis' network, "
    "prediction, loss and zoo, without preconditioning, but for {iterations} iterations in the place of its {published:,}, "
    "with averaged weights and a falling learning rate. Target: networks that flows learn from, any snapshot of a run."
)
PUBLISHED_ITERATIONS = {"wdbc": 250_000, "mnist": 100_000}
OF_SOME = (
    "Losses on parts of the data, and their error over examples, are of at most 2,000 examples a part, the same for all; "
    "± is over seeds."
)


def most_steps(rows: pd.DataFrame, **labels: object) -> pd.DataFrame:
    """Unguided draws at the most steps, of the flow's own width unless labels say otherwise."""
    rows = chosen(rows, **{"source": "samples", "guidance": 0.0, "form": "as drawn", "width": 0} | labels)
    return rows[rows.steps == rows.steps.max()] if len(rows) else rows


def table(rows: pd.DataFrame, task: str, numbers: Published, columns: Columns) -> str:
    """A row for each flow and the target: the thesis' numbers, then those of both methods."""
    head = ["Flow", "Thesis: accuracy", "Thesis: loss"]
    for words in METHODS.values():
        head += [f"{words}: accuracy", f"{words}: loss", f"{words}: loss without scale"]
    head += [f"{METHODS['ours']}, trained further: {what}" for what in ("accuracy", "loss")]
    lines = []
    for geometry, (alignment, coupling) in ((g, c) for g in GEOMETRIES for c in columns):
        found = numbers.get((geometry, alignment, coupling), (None, None))
        line = [f"{geometry.capitalize()}{WORDS[alignment, coupling]}", *map(published, found)]
        for method in METHODS:
            labels = {"task": task, "method": method, "geometry": geometry, "alignment": alignment, "coupling": coupling}
            drawn, dropped = most_steps(rows, **labels), most_steps(rows, **labels, form="scale dropped")
            line += [both(drawn, "accuracy"), both(drawn, "nll"), both(dropped, "nll")]
        further = most_steps(rows, **labels, form=FURTHER)  # of the last method, the project's
        lines.append([*line, both(further, "accuracy"), both(further, "nll")])
    target = ["Target", *map(published, numbers["target", "", ""])]
    for method in METHODS:
        own = target_rows(rows, task, method)
        target += [both(own, "accuracy"), both(own, "nll"), MISSING]
    return markdown_table(head, [*lines, [*target, MISSING, MISSING]], [])


def target_rows(rows: pd.DataFrame, task: str, method: str) -> pd.DataFrame:
    """The zoo's training networks, once for each seed."""
    own = chosen(rows, task=task, method=method, source="training")
    return own.drop_duplicates("seed") if len(own) else own


def details(rows: pd.DataFrame, flows: pd.DataFrame, task: str, columns: Columns) -> str:
    """What decides: losses on all parts of the data, spread, diversity, and what flows cost."""
    head = [
        "Flow",
        "Method",
        "Train loss",
        "Validation loss",
        "Test loss",
        "Error (examples)",
        "ECE",
        "Variance ratio",
        "Diversity",
        "Eq. 7.2",
    ]
    head += ["Thesis: eq. 7.2", "Iterations", "Training [s]", "Zoo", "Draw [ms]"]
    lines = []
    for geometry, (alignment, coupling), method in ((g, c, m) for g in GEOMETRIES for c in columns for m in METHODS):
        labels = {"task": task, "method": method, "geometry": geometry, "alignment": alignment, "coupling": coupling}
        drawn, flow = most_steps(rows, **labels), chosen(flows, **labels)
        flow = flow.drop_duplicates("seed") if len(flow) else flow
        line = [f"{geometry.capitalize()}{WORDS[alignment, coupling]}", METHODS[method]]
        line += [single(drawn, f"{part}_nll", 4) for part in ("train", "validation", "test")]
        line.append(plain(drawn, "test_nll_error_examples", 4))
        line += [both(drawn, "ece"), single(drawn, "variance_ratio", 2)]
        line += [both(drawn, "diversity", 4), both(drawn, "thesis_diversity", 5)]
        line.append(published(DIVERSITY.get((geometry, alignment, coupling)) if task == "mnist" else None, 5))
        line += [single(flow, name, 0) for name in ("iterations", "training_seconds", "zoo_networks")]
        milliseconds = drawn.assign(ms=1000 * drawn.draw_seconds) if "draw_seconds" in drawn.columns else drawn
        lines.append([*line, single(milliseconds, "ms", 1)])
    for method in METHODS:
        own = target_rows(rows, task, method)
        line = ["Target", METHODS[method], *(single(own, f"{part}_nll", 4) for part in ("train", "validation", "test"))]
        line += [
            plain(own, "test_nll_error_examples", 4),
            both(own, "ece"),
            MISSING,
            both(own, "diversity", 4),
            both(own, "thesis_diversity", 5),
        ]
        line.append(published(DIVERSITY["target", "", ""] if task == "mnist" else None, 5))
        lines.append([*line, *[MISSING] * 4])
    return markdown_table(head, lines, [])


def sentences(rows: pd.DataFrame, task: str, least: float, columns: Columns) -> Iterator[str]:
    """What holds and what does not, as far as there are numbers."""
    method = "ours"  # the other one has had a small part of its iterations
    for form, further in (("as drawn", ""), (FURTHER, f", {FURTHER},")):
        found, losses = {}, {}
        for geometry, (alignment, coupling) in ((g, c) for g in GEOMETRIES for c in columns):
            labels = {"method": method, "geometry": geometry, "alignment": alignment, "coupling": coupling}
            drawn = most_steps(rows, task=task, form=form, **labels)
            if len(drawn):
                name = f"{geometry}{WORDS[alignment, coupling]}"
                found[name] = round(first_of(drawn, "accuracy_mean"), 3)
                losses[name] = first_of(drawn, "validation_nll")
        if not found:
            continue
        enough = [name for name, accuracy in found.items() if accuracy >= least]
        short = [f"{name} {accuracy:.3f}" for name, accuracy in found.items() if accuracy < least]
        said = f"With the {METHODS[method]}{further} {len(enough)} of {len(found)} flows reach an accuracy of {least:g}"
        yield said + (f"; short of it are {', '.join(short)}." if short else ".")
        own = target_rows(rows, task, method)
        best = min(losses, key=losses.__getitem__)
        if len(own):
            yield (
                f"Best by validation loss is {best}, {found[best]:.3f}, beside {first_of(own, 'accuracy_mean'):.3f} of the "
                "networks that were learned from."
            )


def steps_figure(rows: pd.DataFrame, task: str) -> bytes | None:
    """Loss and accuracy against steps, with and without guidance, a row for each method; None without rows."""
    rows = chosen(rows, task=task, alignment="aligned", width=0)
    methods = [method for method in METHODS if len(chosen(rows, method=method, source="samples"))]
    if not methods:
        return None
    with theme():
        figure = Figure(figsize=(9, 3.4 * len(methods)), layout="constrained")
        panels = figure.subplots(len(methods), 2, squeeze=False)
        for method, (left, right) in zip(methods, panels, strict=True):
            drawn, own = chosen(rows, method=method, source="samples", form="as drawn"), target_rows(rows, task, method)
            coupling = "initialization" if "initialization" in set(drawn.coupling) and method == "ours" else "independent"
            drawn = chosen(drawn, coupling=coupling)
            for axes, measure in ((left, "nll_mean"), (right, "accuracy_mean")):
                step_lines(drawn, measure, axes)
                if len(own):
                    axes.axhline(own[measure].mean(), color=INK, linestyle="--", linewidth=1, label="trained networks")
                axes.set(xlabel="steps", title=f"{METHODS[method]}, {coupling} coupling")
                framed(axes)
            log_scale(left.yaxis, [*drawn.nll_mean, *own.get("nll_mean", [])])
            left.set_ylabel("mean test loss [nats]")
            right.set_ylabel("mean test accuracy")
            left.legend(fontsize="x-small")
        return svg_bytes(figure)


def step_lines(drawn: pd.DataFrame, measure: str, axes: Axes) -> None:
    """A line for each geometry and strength of guidance, means over seeds."""
    for (geometry, guidance), part in drawn.groupby(["geometry", "guidance"], sort=False):
        means = part.groupby("steps")[measure].mean()
        colour, line = GEOMETRY_COLOURS[geometry], "-" if guidance == 0 else ":"
        name = f"{geometry}, λ = {guidance:g}" if guidance else str(geometry)
        axes.plot(means.index, means, marker="o", markersize=4, label=name, color=colour, linestyle=line)
    axes.set_xscale("log", base=2)


def barrier_sentence(rows: pd.DataFrame) -> str:
    """What alignment does to barriers."""
    means = rows.groupby("method", sort=False)[["midpoint_barrier", "midpoint_loss"]].mean()
    said = [f"{name} {row.midpoint_barrier:.3f} ({row.midpoint_loss:.3f})" for name, row in means.iterrows()]
    return (
        "Loss barriers of last snapshots of this project's zoo, mean excess and in parentheses mean loss at the midpoint: "
        f"{'; '.join(said)}. Thesis, of 250 networks: 0.244 before, 0.070 after alignment."
    )


def barrier_figure(pairs: pd.DataFrame) -> bytes:
    """Barriers of all pairs of networks of the first seed, a matrix for each way of alignment."""
    pairs = pairs[pairs.seed == pairs.seed.min()] if "seed" in pairs.columns else pairs
    stages = list(dict.fromkeys(pairs.stage))
    with theme():
        figure = Figure(figsize=(4 * len(stages), 4), layout="constrained")
        panels = figure.subplots(1, len(stages), squeeze=False)[0]
        for stage, axes in zip(stages, panels, strict=True):
            barrier_matrix(pairs, stage, axes, limits=barrier_limits(pairs))
        figure.colorbar(panels[0].images[0], ax=list(panels), shrink=0.7, extend="max").set_label("excess loss [nats]")
        return svg_bytes(figure)


def task_section(cells: Cells, task: str, title: str, numbers: Published, columns: Columns, least: float) -> Section:
    """Table, details, and figures of one task."""
    rows, flows = table_of(cells, "quality"), table_of(cells, "flow")
    flows = flows[flows["size"].isna()] if "size" in flows.columns else flows  # those are of figure 7.7
    name = {"wdbc": "7.1", "mnist": "7.2"}[task]
    published = chosen(flows, task=task, method="thesis")
    done = f"{published.iterations.max():,.0f}" if len(published) else MISSING
    words = EXPLAINED.format(iterations=done, published=PUBLISHED_ITERATIONS[task])
    blocks = [f"### Table {name}", table(rows, task, numbers, columns), words]
    blocks += [" ".join(sentences(rows, task, least, columns))]
    blocks += ["### What decides, and what it costs", details(rows, flows, task, columns), OF_SOME]
    figures = {}
    if (drawing := steps_figure(rows, task)) is not None:
        number = {"wdbc": "7.3", "mnist": "7.4"}[task]
        figures[f"steps-{task}"] = (
            drawing,
            f"Figure {number}: loss and accuracy against steps, dotted: guided.",
        )
    pairs, rows = (chosen(table_of(cells, "alignment", name), task=task) for name in ("barriers", "rows"))
    if len(pairs):
        figures[f"barriers-{task}"] = (barrier_figure(pairs), f"Figure 7.2: {barrier_sentence(rows)}")
    elif len(rows):  # of cells that are gone, whose pairs were too many to keep
        blocks.append(f"Figure 7.2 needs its cells. {barrier_sentence(rows)}")
    return Section(title, [block for block in blocks if block], figures)


def wdbc(cells: Cells) -> Section:
    """Section 7.2."""
    return task_section(cells, "wdbc", "7.2 Classification with a small model", WDBC, COLUMNS, 0.985)


def mnist(cells: Cells) -> Section:
    """Section 7.3.1."""
    return task_section(cells, "mnist", "7.3.1 MNIST: quality and diversity", MNIST, COLUMNS[1:3], 0.87)
