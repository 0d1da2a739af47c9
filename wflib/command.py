"""The console command ``wflib``: a demonstration, and what needs a file of networks or a flow but no pipeline.

``wflib`` and ``python -m wflib`` are the same. Stages of the pipeline are commands of their own, ``python -m stages.…``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

if TYPE_CHECKING:
    from wflib.networks import Networks

__all__ = ["app"]

# Imports of the library are inside the commands: `wflib --help` answers at once.

app = typer.Typer(name="wflib", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

NetworksFile = Annotated[Path, typer.Argument(help="File or folder of networks, as wflib.Networks.load takes them.")]
FORMS = ("trained", "aligned", "canonical")
"""What may have been done to a zoo that networks are compared with."""
RERUN, LEAVE_OUT = (
    r"rerun the stage that makes it: dvc repro \S+ \S+ ",
    "Leave the architecture out to read them as they are",
)
REMEDIES = {
    "demo": {},
    "inspect": {},
    "draw": {RERUN + "train-flow": "give a flow's file, made by wflib demo or dvc repro"},
    "align": {
        r"give it, as in Networks\.load\(.+\)\)": "give the sizes of perceptrons, as --sizes 30,16,2; other networks "
        "say it in files that Networks.save writes",
        LEAVE_OUT: "Leave --sizes out to read them as they are",
    },
    "report": {
        RERUN + "fetch-data": "name one by --data",
        RERUN + "[a-z-]+": "name one by --zoo",
        LEAVE_OUT: "Name a zoo of such networks by --zoo",
    },
}
"""Command → what the library's sentences advise, as patterns → what to do on the command line."""


@contextmanager
def answers(command: str) -> Iterator[None]:
    """Errors as sentences, with remedies for those who type commands.

    Raises:
        ValueError: Only where tracebacks are asked for.
    """
    from wflib.config import clear_errors

    with clear_errors(f"wflib {command}"):
        try:
            yield
        except ValueError as error:
            sentence = str(error)
            for advice, own in REMEDIES[command].items():
                sentence = re.sub(advice, own, sentence)
            raise ValueError(sentence) from error


@app.callback()
def wflib() -> None:
    """Generative models over neural-network weights."""


@app.command()
def demo(
    page: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("reports/demo.html"),
    folder: Annotated[Path, typer.Option(help="Where dataset, zoo, flow and drawn networks go.")] = Path("data/demo"),
) -> None:
    """Train small networks, learn a flow, draw new networks and compare: under a minute on two CPU cores.

    Five lines say what happened, the page shows it, and the folder holds a flow for `wflib draw` and wflib.load_flow.
    """
    with answers("demo"):
        # Small networks: threads that wait for each other on a busy machine cost more than they save.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from wflib.demo import run_demo

        result = run_demo(page, folder, say=lambda step: typer.echo(f"{step} …", err=True))
        for step, sentence in result.sentences.items():
            typer.echo(f"{step:<8}{sentence}")
        typer.echo(f"Open {page}; draw more with: wflib draw {result.flow}", err=True)


@app.command()
def draw(
    flow: Annotated[Path, typer.Argument(help="Flow, from train-flow or the demonstration.")],
    out: Annotated[Path, typer.Option(help="File or new folder to write, as Networks.save names them.")] = Path(
        "drawn.safetensors"
    ),
    networks: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same networks.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the solver.")] = 32,
    solver: Annotated[str, typer.Option(help="euler, multistep, heun or rk4; on flat flows also dopri5.")] = "euler",
    width: Annotated[list[str] | None, typer.Option(help="Another hidden width, as hidden1=32; repeat for more.")] = None,
) -> None:
    """Draw networks from a flow and write them as state dicts."""
    with answers("draw"):
        from wflib.flow import draw_networks, load_flow

        model = load_flow(flow)
        if width:
            model = model.with_widths(dict(widths(width)))
        drawn = draw_networks(model, networks, seed, steps, solver=solver)
        facts = {"task": model.metadata.get("task"), "seed": seed, "geometry": model.config.geometry, "steps": steps}
        replace(drawn, metadata=facts).save(out)
        typer.echo(f"draw: {networks} networks of {drawn.architecture.dimension} weights in {out}")


def widths(given: list[str]) -> Iterator[tuple[str, int]]:
    """``hidden1=32`` → ("hidden1", 32)."""
    for text in given:
        group, _, size = text.partition("=")
        if not size.isdecimal():
            raise ValueError(f"--width: expected a hidden group and its width as hidden1=32, got {text!r}.")
        yield group, int(size)


@app.command()
def align(
    networks: NetworksFile,
    out: Annotated[Path, typer.Option(help="File or new folder to write, as Networks.save names them.")] = Path(
        "aligned.safetensors"
    ),
    reference: Annotated[Path | None, typer.Option(help="File with the one network to align to; else the first.")] = None,
    sizes: Annotated[str | None, typer.Option(help="Perceptrons without a header: their sizes, as 30,16,2.")] = None,
    restarts: Annotated[int, typer.Option(min=1, help="Starts of weight matching.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the starts.")] = 0,
) -> None:
    """Bring the hidden neurons of networks into one order, by weight matching; functions stay what they are."""
    with answers("align"):
        from wflib.architecture import mlp
        from wflib.networks import Networks
        from wflib.shortcuts import align as aligned

        architecture = None
        if sizes is not None:
            if not all(size.isdecimal() for size in sizes.split(",")):
                raise ValueError(f"--sizes: expected numbers with commas between, as 30,16,2, got {sizes!r}.")
            architecture = mlp([int(size) for size in sizes.split(",")])
        given = Networks.load(networks, architecture)
        target = given[:1] if reference is None else Networks.load(reference, architecture)
        found = aligned(given, target, restarts=restarts, seed=seed)
        found.save(out)
        typer.echo(f"align: {len(found)} networks in {out}; {moved(target, given, found)}")


def moved(reference: Networks, before: Networks, after: Networks) -> str:
    """How near to their reference networks have come; not counting itself, whose distance is zero before and after."""
    from wflib.symmetry import squared_distance

    others = (before.flat != reference.flat).any(1)
    if not others.any():
        return "all are the reference"
    near = (squared_distance(reference, side[others]).sqrt().mean().item() for side in (before, after))
    return "mean distance of the others to the reference {:.3f} → {:.3f}".format(*near)


@app.command()
def report(
    networks: NetworksFile,
    zoo: Annotated[Path, typer.Option(help="Zoo with held-out networks to compare with.")] = Path(
        "data/zoo/aligned.safetensors"
    ),
    data: Annotated[Path, typer.Option(help="Dataset from fetch-data or the demonstration.")] = Path(
        "data/dataset.safetensors"
    ),
    page: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("reports/networks.html"),
    seed: Annotated[int, typer.Option(min=0, help="Of subsets, simpler models and tests.")] = 0,
) -> None:
    """Compare networks from anywhere with a zoo and its held-out part: one page, and what the tests say.

    A canonical zoo (data/zoo/canonical.safetensors) compares modulo scalings of neurons: then the networks are
    canonicalized, too, as networks of normalized and geometric flows should be compared.
    """
    with answers("report"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the demonstration
        from wflib.comparison import compare_networks, write_page
        from wflib.networks import Networks
        from wflib.storage import require_writable
        from wflib.symmetry import canonicalize
        from wflib.tasks import load_dataset
        from wflib.zoo import load_zoo, require_training_examples

        require_writable(page)
        form = form_of(zoo)
        other = load_zoo(zoo, form)
        given = Networks.load(networks, other.architecture.ordinary_form())
        if other.architecture.norm is not None:
            given = canonicalize(given, other.architecture.norm).networks
        dataset = load_dataset(data)
        require_training_examples(other.metadata, dataset, f"{zoo}")
        comparison = compare_networks(given, other, dataset, seed=seed)
        introduction = f"{len(given)} networks of `{networks}` (samples) beside the zoo in `{zoo}`."
        write_page(page, f"Networks of {networks.name}", introduction, comparison)
        for sentence in comparison.data.verdict:
            typer.echo(sentence)
        typer.echo(f"Open {page}")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="File or folder of networks, of whatever origin.")],
    format: Annotated[str, typer.Option(help="auto, or a format as zoo.format names it.")] = "auto",
    option: Annotated[
        list[str] | None, typer.Option("--read", help="A setting of zoo.read, as activation=relu; may be repeated.")
    ] = None,
) -> None:
    """Say in a screen what a file or folder of networks is, without loading it whole.

    Format, architecture, number of networks and trajectories, steps, figures of merit, symmetries, and how many of a few
    networks are broken or hold NaN. Where something must be told before it can be read, the sentence says which setting.
    """
    with answers("inspect"):
        from wflib.zoo import inspect as looked_at
        from wflib.zoo import read_settings

        pairs = (one.partition("=") for one in option or ())
        settings = read_settings({name: setting(name, value) for name, _, value in pairs})
        typer.echo(str(looked_at(path, format, config=settings)))


def setting(name: str, text: str) -> object:
    """A value of ``zoo.read`` in YAML, where texts need no quotes: no part of a pattern is a comment or a list."""
    from wflib.config import ReadConfig
    from wflib.config.loading import read_yaml

    field = ReadConfig.model_fields.get(name)
    plain = text not in ("", "~", "null") and not text.startswith(("'", '"'))
    is_text = field is not None and str in (field.annotation, *get_args(field.annotation))
    return text if is_text and plain else read_yaml(name, text)


def form_of(zoo: Path) -> str:
    """What a zoo's header says was done to it, of a file or of a folder of shards."""
    from safetensors import SafetensorError, safe_open

    from wflib.storage import read_header
    from wflib.zoo.stored import INDEX

    try:
        if zoo.is_dir():
            header = {"wflib": (zoo / INDEX).read_text()}
        else:
            with safe_open(zoo, framework="pt") as file:
                header = file.metadata() or {}
        form = str(read_header(zoo, header, "name a zoo by --zoo")[1].get("form"))
    except (OSError, SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(f"{zoo}: expected a zoo, found {error}; name one by --zoo.") from error
    if form not in FORMS:
        raise ValueError(f"{zoo}: expected a zoo of form {', '.join(FORMS)}, found {form}; name one by --zoo.")
    return form
