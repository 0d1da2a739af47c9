"""The pictures of README and documentation: ``python docs/figures.py``, after ``make demo``, whose files the first is of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from wflib.evaluation import nearest_distance
from wflib.flow import Flow, load_flow, sample
from wflib.models import METHODS
from wflib.networks import Networks, accuracy, network_losses, predict
from wflib.report import COLOURS, distribution, theme
from wflib.report.theme import INK, svg_bytes
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.symmetry import inverse, permute
from wflib.tasks import Split, load_dataset
from wflib.zoo import load_zoo

IMAGES = Path(__file__).parent / "images"
PAIRS = 40
POINTS = 21
DRAWN = 200
STEPS = 32
TRACKS = 14
RUNS = 8
NEAR = 100


def overview(demo: Path) -> Figure:
    """What the demonstration did: alignment, the flow's way, and the quality of what it drew."""
    zoo, dataset = load_zoo(demo / "zoo/aligned.safetensors", "aligned"), load_dataset(demo / "dataset.safetensors")
    flow, drawn = load_flow(demo / "flow.safetensors"), Networks.load(demo / "networks.safetensors")
    figure = Figure(figsize=(10.5, 3.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    last = zoo.last_snapshots
    segments(left, last.networks, permute(last.networks, inverse(last.permutations)), dataset.test)
    held_out = zoo.held_out_part.networks
    tracks(middle, flow, held_out, dataset.test)
    gaussian = METHODS["gaussian-full"].fit(zoo, dataset).draw(len(drawn), generator(0, "figures"))
    rows = [
        pd.DataFrame({"source": name, "accuracy": accuracy(predict(some, dataset.test.inputs), dataset.test.targets)})
        for name, some in (("samples", drawn), ("held-out", held_out), ("gaussian-full", gaussian))
    ]
    distribution(pd.concat(rows), "accuracy", right, text="test accuracy")
    right.set_title("3  what was drawn")
    return figure


def segments(axes: Axes, aligned: Networks, unaligned: Networks, split: Split) -> None:
    """Loss on straight lines between networks, before and after alignment; means over pairs."""
    share, pairs = torch.linspace(0, 1, POINTS), min(PAIRS, len(aligned) // 2)
    for networks, colour, name in ((unaligned, "#999999", "as trained"), (aligned, COLOURS["zoo"], "neurons in one order")):
        start, end = networks[:pairs], networks[pairs : 2 * pairs]
        losses = torch.stack([network_losses(start.lerp(end, where), split) for where in share.tolist()])
        axes.plot(share, losses.mean(1), color=colour, label=name, linewidth=2)
    axes.set(title="1  align", xlabel="way from one network to another", ylabel="test loss [nats]")
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    axes.legend(loc="upper center")


def tracks(axes: Axes, flow: Flow, held_out: Networks, split: Split) -> None:
    """Loss of networks on their way from the prior to what is drawn; thin lines are single ones."""
    way = sample(flow, DRAWN, STEPS, generator(0, "figures", "tracks"), keep=True)
    losses = torch.stack([network_losses(flow.coordinates.decode(x), split) for x in way])
    time = torch.linspace(0, 1, STEPS + 1)
    axes.plot(time, losses[:, :TRACKS], color=COLOURS["samples"], linewidth=0.7, alpha=0.5)
    axes.plot(time, losses.mean(1), color=COLOURS["samples"], linewidth=2.5, label="drawn")
    level = float(network_losses(held_out, split).mean())
    axes.axhline(level, color=COLOURS["held-out"], linewidth=2, linestyle="--", label="held-out networks")
    axes.set(title="2  learn the way from the prior", xlabel="time t of the flow", ylabel="test loss [nats]", yscale="log")
    axes.legend(loc="upper right")


def runs(demo: Path) -> Figure:
    """Loss of some networks of the zoo over their training, whole runs of them held out."""
    zoo, split = load_zoo(demo / "zoo/aligned.safetensors", "aligned"), load_dataset(demo / "dataset.safetensors").validation
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes, shown = figure.subplots(), {False: "seen by the flow", True: "held out"}
    for held_out, name in shown.items():
        colour = COLOURS["held-out" if held_out else "zoo"]
        for trajectory in zoo.trajectory[zoo.held_out == held_out].unique()[:RUNS].tolist():
            part = zoo[zoo.trajectory == trajectory]
            networks = [zoo.initial[trajectory : trajectory + 1], part.networks]
            losses = torch.cat([network_losses(some, split) for some in networks])
            axes.plot([0, *part.step.tolist()], losses, "o-", color=colour, markersize=3.5, linewidth=1, label=name)
            name = None
    axes.set(xlabel="optimizer step", ylabel="validation loss [nats]", yscale="log")
    axes.legend()
    return figure


def nearness(demo: Path) -> Figure:
    """Distances to the nearest training network: drawn and held-out ones, and copies with noise."""
    zoo, drawn = load_zoo(demo / "zoo/aligned.safetensors", "aligned"), Networks.load(demo / "networks.safetensors")
    training, random = zoo.training_part, generator(0, "figures", "nearness")
    copies = METHODS["training-noise"].fit(zoo, load_dataset(demo / "dataset.safetensors")).draw(NEAR, random)
    sources = {"samples": drawn, "held-out": zoo.held_out_part.last_snapshots.networks, "training-noise": copies}
    rows = [
        pd.DataFrame({"source": name, "distance": nearest_distance(some[:NEAR], training.networks, random, 20)[0]})
        for name, some in sources.items()
    ]
    figure = Figure(figsize=(6, 2.2), layout="constrained")
    distribution(pd.concat(rows), "distance", figure.subplots(), text="distance to the nearest training network")
    return figure


def exchange() -> Figure:
    """One network twice, two of its hidden neurons exchanged."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    colours = [COLOURS["zoo"], COLOURS["samples"], COLOURS["average"]]
    for axes, order, title in zip(
        figure.subplots(1, 2), ([0, 1, 2], [1, 0, 2]), ("θ", "π(θ): the same function"), strict=True
    ):
        for place, neuron in enumerate(order):
            for source in (0.5, 1.5):
                axes.plot([0, 1], [source, place], color=colours[neuron], linewidth=2, alpha=0.8)
            axes.plot([1, 2], [place, 1], color=colours[neuron], linewidth=2, alpha=0.8)
            axes.add_patch(Circle((1, place), 0.17, color=colours[neuron], zorder=3))
            axes.text(1, place, f"{neuron + 1}", color="white", ha="center", va="center", zorder=4)
        for where in ((0, 0.5), (0, 1.5), (2, 1)):
            axes.add_patch(Circle(where, 0.17, color=INK, zorder=3))
        axes.set(title=title, aspect="equal", xlim=(-0.4, 2.4), ylim=(2.4, -0.4))
        axes.set_axis_off()
    return figure


def ways() -> Figure:
    """Paths of the three flows between two points."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    angles = np.deg2rad([160, 35])
    start, end = np.stack([np.cos(angles), np.sin(angles)], 1)
    share = np.linspace(0, 1, 50)[:, None]
    chord = (1 - share) * start + share * end
    turned = np.linspace(*angles, 50)
    arc = np.stack([np.cos(turned), np.sin(turned)], 1)
    for axes, path, title, sphere in zip(
        figure.subplots(1, 3),
        (chord, chord, arc),
        ("euclidean: weights, straight", "normalized: spheres, straight", "geometric: spheres, geodesics"),
        (False, True, True),
        strict=True,
    ):
        if sphere:
            axes.add_patch(Circle((0, 0), 1, fill=False, color="#999999", linewidth=1.5))
        axes.plot(*path.T, color=COLOURS["samples"], linewidth=2.5)
        axes.add_patch(FancyArrowPatch(path[27], path[30], arrowstyle="-|>", mutation_scale=20, color=COLOURS["samples"]))
        for point, name, colour in ((start, "$x_0$", "#777777"), (end, "$x_1$", COLOURS["zoo"])):
            axes.plot(*point, "o", color=colour, markersize=9)
            axes.annotate(name, point * 1.22, ha="center", va="center", color=colour)
        axes.set(title=title, aspect="equal", xlim=(-1.45, 1.45), ylim=(-0.45, 1.35))
        axes.set_axis_off()
    return figure


def main(
    demo: Annotated[Path, typer.Option(help="Folder that `make demo` wrote.")] = Path("data/demo"),
    out: Annotated[Path, typer.Option(help="Where pictures go.")] = IMAGES,
) -> None:
    """Draw the pictures of README and documentation."""
    of_demo = {"overview": overview, "runs": runs, "nearness": nearness}
    for name, draw in (of_demo | {"exchange": exchange, "ways": ways}).items():
        with theme():
            content = svg_bytes(draw(demo) if name in of_demo else draw())
        with atomic_path(out / f"{name}.svg") as temporary:
            temporary.write_bytes(content)


if __name__ == "__main__":
    typer.run(main)
