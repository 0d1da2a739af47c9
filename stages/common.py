"""What every stage does around its work: settings, clear errors, seconds, progress bars."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from wflib.config import FlowConfig, Settings, clear_errors
from wflib.distributed import number_of_processes, rank
from wflib.storage import rerun, save_json

Params = Annotated[Path, typer.Option(help="Task and overrides; what is left out is as the preset says.")]
Presets = Annotated[Path, typer.Option(help="Folder with one complete preset per task.")]
DatasetFile = Annotated[Path, typer.Option(help="Dataset from fetch-data.")]
TrainedZoo = Annotated[Path, typer.Option(help="Zoo from train-zoo.")]
AlignedZoo = Annotated[Path, typer.Option(help="Zoo from align, which Euclidean flows learn.")]
CanonicalZoo = Annotated[Path, typer.Option(help="Zoo from canonicalize, which the other flows learn.")]
Processes = Annotated[
    int,
    typer.Option(
        parser=number_of_processes,
        metavar="NUMBER|auto",
        help="Processes that share the work; auto: one for each core, four at most, and one where there is a GPU.",
    ),
]
FlowFile = Annotated[Path, typer.Option(help="Flow from train-flow.")]

PARAMS, PRESETS = Path("params.yaml"), Path("stages/presets")
DATASET = Path("data/dataset.safetensors")
ZOO, ALIGNED, CANONICAL = (Path(f"data/zoo/{form}.safetensors") for form in ("trained", "aligned", "canonical"))
FLOW, HISTORY = Path("data/flow.safetensors"), Path("reports/history.csv")
SAMPLES, NETWORKS = Path("data/samples.safetensors"), Path("data/networks.safetensors")
EVALUATION = Path("data/evaluation")
METRICS, DETAILS = Path("reports/metrics.json"), Path("reports/details.json")
REPORTS, FACTS = Path("reports"), Path("reports/stages")
CHECKPOINTS = Path("checkpoints")
READ = 2**24
"""Bytes of a file that are read at a time."""
STAGES = ("fetch-data", "train-zoo", "align", "canonicalize", "train-flow", "sample", "evaluate")


def application(stage: str) -> typer.Typer:
    """A command whose errors are one sentence, not a traceback."""
    return typer.Typer(name=stage, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@contextmanager
def running(stage: str, facts: Path = FACTS) -> Iterator[dict[str, Any]]:
    """Run a stage's work: write its seconds and facts when it ends well, one clear sentence and exit code 1 when not.

    Seconds are those of all runs that had a part in it: ``earlier_seconds``, which a stage may put in, are of runs that were
    killed and whose work was taken up.

    Args:
        stage: Name in dvc.yaml.
        facts: Folder for ``<stage>.json``; of several processes the first writes it.

    Yields:
        A mapping to put small results into.

    Raises:
        Exit: The work failed; the sentence has been shown.
    """
    found: dict[str, Any] = {"stage": stage}
    started = time.perf_counter()
    with clear_errors(stage):
        yield found
    if rank() > 0:
        return
    found["seconds"] = time.perf_counter() - started + found.pop("earlier_seconds", 0.0)
    save_json(facts / f"{stage}.json", found)
    typer.echo(f"{stage}: " + ", ".join(f"{key} {show(value)}" for key, value in found.items() if key != "stage"))


def checkpoint_folder(root: Path, settings: object, inputs: list[Path]) -> Path:
    """A folder named by all that a run depends on: settings, inputs, code, and the version of torch."""
    digest = hashlib.sha256(torch.__version__.encode())
    digest.update(repr(settings).encode())
    files = [file for path in inputs for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    for path in [*files, *sorted(Path(__file__).parents[1].glob("wflib/**/*.py"))]:
        with path.open("rb") as file:
            while part := file.read(READ):
                digest.update(part)
    return root / digest.hexdigest()[:16]


def require_settings_of(flow: FlowConfig, path: Path, settings: Settings) -> None:
    """Refuse settings of another flow than the one that was trained.

    Raises:
        ValueError: Keys of the section ``flow`` differ.
    """
    trained, asked = flow.model_dump(), settings.flow.model_dump()
    if other := [key for key in asked if asked[key] != trained[key]]:
        said = ", ".join(f"flow.{key}: {asked[key]} (the flow has {trained[key]})" for key in other)
        raise ValueError(f"settings ask for another flow than {path} is: {said}; set it back, or {rerun('train-flow')}.")


def show(value: object) -> str:
    """A fact as people read it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A bar that counts parts of its units by two digits."""

    @property
    def format_dict(self) -> dict[str, Any]:
        """What is shown."""
        return {**super().format_dict, "n": round(self.n, 2)}


def progress_bar(total: int, title: str, unit: str = "it") -> Bar:
    """A bar with the time left; in a log one line every half minute."""
    interval = 0.2 if sys.stderr.isatty() else 30
    return Bar(total=total, desc=title, unit=unit, dynamic_ncols=True, mininterval=interval, disable=rank() > 0)
